module github.com/stacksjs/realtime-go/interop/rivals

go 1.26.0

require (
	github.com/lxzan/gws v1.8.9
	github.com/stacksjs/realtime-go v0.0.0
	golang.org/x/sys v0.50.0
)

require (
	github.com/dolthub/maphash v0.1.0 // indirect
	github.com/golang-jwt/jwt/v5 v5.3.1 // indirect
	github.com/klauspost/compress v1.20.4 // indirect
)

replace github.com/stacksjs/realtime-go => ../..
