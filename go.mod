module github.com/stacksjs/realtime-go

go 1.26

require github.com/klauspost/compress v1.20.4
