package realtime_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// block is a piece of code in README; its first line names the file it stands for.
var block = regexp.MustCompile("(?s)```(go|yaml)\n(?://|#) (\\S+)\n(.*?)```")

// TestReadmeBuilds makes a program of README's files, in a module of its own, and vets it.
func TestReadmeBuilds(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	root, err := filepath.Abs(".")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
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
	files := 0
	for _, m := range block.FindAllStringSubmatch(string(readme), -1) {
		name, text := m[2], m[3]
		if name == "snippet" {
			name = "snippet.go"
			text = "package main\n\nimport (\n\t\"context\"\n\n\trealtime \"github.com/stacksjs/realtime-go\"\n)\n\nfunc snippet(ctx context.Context, socketID string, data any) {\n" + text + "}\n\nvar _ = snippet\n"
		}
		write(name, text)
		files++
	}
	if files != 6 {
		t.Errorf("README has %d pieces of code, not the 6 that this test knows", files)
	}
	mod, err := os.ReadFile("go.mod")
	if err != nil {
		t.Fatal(err)
	}
	sum, err := os.ReadFile("go.sum")
	if err != nil {
		t.Fatal(err)
	}
	shop := strings.Replace(string(mod), "module github.com/stacksjs/realtime-go", "module example.com/shop", 1)
	write("go.mod", shop+"\nrequire github.com/stacksjs/realtime-go v0.0.0\n\nreplace github.com/stacksjs/realtime-go => "+root+"\n")
	write("go.sum", string(sum))
	vet := exec.Command("go", "vet", "-mod=mod", "./...")
	vet.Dir = dir
	if out, err := vet.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	check := exec.Command("go", "run", "./cmd/realtime", "config", "check", filepath.Join(dir, "config/realtime.yaml"))
	if out, err := check.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
