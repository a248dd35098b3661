package main

import (
	"fmt"
	"runtime"
	"runtime/debug"
)

type version struct{}

func (version) Help() string { return "Example:\n\n    realtime version" }

func (version) Run(t terminal) error {
	v := "(unknown)"
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		v = info.Main.Version
	}
	_, err := fmt.Fprintf(t.stdout, "realtime %s %s %s/%s\n", v, runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return err
}
