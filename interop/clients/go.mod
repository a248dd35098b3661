module github.com/stacksjs/realtime-go/interop/clients

go 1.26
