package config

import (
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"reflect"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite docs/configuration.md")

const docFile = "../docs/configuration.md"

func TestTheDocumentationIsThatOfTheTypes(t *testing.T) {
	want := document(t)
	if *update {
		if err := os.WriteFile(docFile, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(docFile)
	if err != nil || string(got) != want {
		t.Errorf("docs/configuration.md is not what config.go says (%v): run go test ./config -update", err)
	}
}

// document writes docs/configuration.md from the comments of config.go.
func document(t *testing.T) string {
	file, err := parser.ParseFile(token.NewFileSet(), "config.go", nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	comments := map[string]string{} // by "Type.Field"
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.TypeSpec)
		if !ok {
			return true
		}
		if st, ok := spec.Type.(*ast.StructType); ok {
			for _, f := range st.Fields.List {
				for _, name := range f.Names {
					comments[spec.Name.Name+"."+name.Name] = strings.Join(strings.Fields(f.Doc.Text()), " ")
				}
			}
		}
		return true
	})

	var b strings.Builder
	b.WriteString(`# Configuration

<!-- Made from config/config.go by "go test ./config -update". -->

` + "`config.Open` reads one file, YAML or JSON, and the environment over it; every key may be left out. Unknown keys and\n" +
		"wrong values are errors with their line. `realtime config check` says what is wrong with a file and prints what is in\n" +
		"effect, with secrets masked; `realtime config which CHANNEL` says which policy holds for a channel.\n\n" +
		"```yaml\n" + example + "```\n\n" +
		"Sizes are bytes or text such as `100KiB`, `4MiB` and `1kB`; durations are text such as `250ms`, `5m` and `1h30m`.\n\n" +
		"| Key | Value | Meaning |\n| --- | --- | --- |\n")
	var walk func(path string, typ reflect.Type)
	walk = func(path string, typ reflect.Type) {
		for i := range typ.NumField() {
			f := typ.Field(i)
			name := keyOf(f)
			if name == "" {
				continue
			}
			doc := comments[typ.Name()+"."+f.Name]
			if doc == "" {
				t.Errorf("%s.%s has no comment", typ.Name(), f.Name)
			}
			key, inner := join(path, name), f.Type
			if inner.Kind() == reflect.Slice {
				key += "[]"
				inner = inner.Elem()
			}
			if inner.Kind() == reflect.Map {
				key += ".*"
			}
			fmt.Fprintf(&b, "| `%s` | %s | %s |\n", key, kindOf(inner), doc)
			if inner.Kind() == reflect.Struct {
				walk(key, inner)
			}
		}
	}
	walk("", reflect.TypeFor[Config]())
	b.WriteString("\n## Environment\n\nA variable that is set, and not empty, is over the file.\n\n| Variable | Key | |\n| --- | --- | --- |\n")
	for _, v := range variables {
		fmt.Fprintf(&b, "| `%s` | `%s` | %s |\n", v.name, v.key, v.doc)
	}
	return b.String()
}

func kindOf(t reflect.Type) string {
	switch t {
	case durationType:
		return "duration"
	case sizeType:
		return "size"
	case portType:
		return "port"
	}
	switch t.Kind() {
	case reflect.Struct:
		return ""
	case reflect.Pointer, reflect.Bool:
		return "true or false"
	case reflect.Int:
		return "number"
	}
	return "text"
}

const example = `driver: bun
server:
  host: 0.0.0.0
  origins: ["https://shop.example"]
pusher:
  appId: "1"
  key: your-key
  secret: your-secret
channels:
  - pattern: private-orders.*
    history: {size: 100, age: 5m}
`

func TestTheDocumentedExampleLoads(t *testing.T) {
	c := load(t, example)
	if c.Addr() != "0.0.0.0:6001" || c.Channels[0].source != "realtime.yaml:10" {
		t.Errorf("read\n%s", c)
	}
}
