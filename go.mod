module github.com/stacksjs/realtime-go

go 1.26
