module github.com/stacksjs/realtime-go/interop/socketio

go 1.26.0

require github.com/stacksjs/realtime-go v0.0.0

require (
	github.com/golang-jwt/jwt/v5 v5.3.1 // indirect
	github.com/klauspost/compress v1.20.4 // indirect
	golang.org/x/sys v0.50.0 // indirect
)

replace github.com/stacksjs/realtime-go => ../..
