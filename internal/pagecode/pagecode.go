// Package pagecode makes programs of the code in documentation pages, for tests that build and run what readers copy.
package pagecode

import (
	"bytes"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

// block is code that stands for a file: its first line is a comment with the file's name.
var block = regexp.MustCompile("(?s)```(?:go|yaml|html)\n(?://|#|<!--) (\\S+)(?: -->)?\n(.*?)```")

// Module writes the files of a page, a Markdown file of the working tree at root, into a directory of its own, and
// makes a module example.com/shop of them that uses the working tree. It returns the directory and how many files the
// page has. The block named "snippet" is the body of a function.
func Module(t testing.TB, root, page string) (dir string, files int) {
	t.Helper()
	root, err := filepath.Abs(root)
	if err != nil {
		t.Fatal(err)
	}
	read := func(name string) string {
		t.Helper()
		b, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	dir = t.TempDir()
	write := func(name, text string) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, m := range block.FindAllStringSubmatch(read(page), -1) {
		name, text := m[1], m[2]
		if name == "snippet" {
			name = "snippet.go"
			text = "package main\n\nimport (\n\t\"context\"\n\n\trealtime \"github.com/stacksjs/realtime-go\"\n)\n\n" +
				"func snippet(ctx context.Context, socketID string, data any) {\n" + text + "}\n\nvar _ = snippet\n"
		}
		write(name, text)
		files++
	}
	// The project's own requirements serve the program too, so nothing is looked up.
	mod := strings.Replace(read("go.mod"), "module github.com/stacksjs/realtime-go", "module example.com/shop", 1)
	write("go.mod", mod+"\nrequire github.com/stacksjs/realtime-go v0.0.0\n\nreplace github.com/stacksjs/realtime-go => "+root+"\n")
	write("go.sum", read("go.sum"))
	return dir, files
}

// Go runs the go command in a directory that Module made, and fails t with what it says if it fails.
func Go(t testing.TB, dir string, args ...string) {
	t.Helper()
	cmd := exec.Command("go", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOFLAGS=-mod=mod")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// Start builds and runs a program that Module made and that listens where REALTIME_PORT says, and returns the address
// once it does. interrupt is Ctrl-C; it waits for the program's end, which must be an orderly one. The end of the test
// interrupts too.
func Start(t testing.TB, dir string) (addr string, interrupt func()) {
	t.Helper()
	Go(t, dir, "build", "-o", "program", ".")
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr = free.Addr().String()
	free.Close()
	_, port, _ := net.SplitHostPort(addr)
	program := exec.Command("./program")
	program.Dir, program.Env = dir, append(os.Environ(), "REALTIME_PORT="+port)
	var stderr bytes.Buffer
	program.Stderr = &stderr
	if err := program.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- program.Wait() }()
	interrupt = sync.OnceFunc(func() {
		program.Process.Signal(os.Interrupt)
		defer time.AfterFunc(patience, func() { program.Process.Kill() }).Stop()
		if err := <-ended; err != nil {
			t.Errorf("the program ended with %v: %s", err, &stderr)
		}
	})
	t.Cleanup(interrupt)
	for begun := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			c.Close()
			return addr, interrupt
		}
		if time.Since(begun) > patience {
			t.Fatalf("the program does not listen: %v", err)
		}
	}
}

// patience is for what never comes; nothing waits as long when it works.
const patience = 30 * time.Second
