module github.com/stacksjs/realtime-go/interop/clients

go 1.26.0

require (
	github.com/google/go-cmp v0.7.0
	github.com/pusher/pusher-http-go/v5 v5.1.1
	github.com/stacksjs/realtime-go v0.0.0
)

require (
	github.com/klauspost/compress v1.20.4 // indirect
	golang.org/x/crypto v0.59.0 // indirect
	golang.org/x/sys v0.50.0 // indirect
)

replace github.com/stacksjs/realtime-go => ../..
