package socketio_test

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestThePageShowsCodeThatRuns finds the snippets of the page in the examples, letter for letter but one tab. The blocks
// that are files are built and run by the root's readme_test.go.
func TestThePageShowsCodeThatRuns(t *testing.T) {
	page, err := os.ReadFile("../docs/socketio.md")
	if err != nil {
		t.Fatal(err)
	}
	examples, err := os.ReadFile("example_test.go")
	if err != nil {
		t.Fatal(err)
	}
	outdented := regexp.MustCompile(`(?m)^\t`)
	once := outdented.ReplaceAllString(string(examples), "")
	twice := outdented.ReplaceAllString(once, "") // what stands in a handler
	snippets := 0
	for _, m := range regexp.MustCompile("(?s)```go\n(.*?)```").FindAllStringSubmatch(string(page), -1) {
		if regexp.MustCompile(`^// \S+\.go\n`).MatchString(m[1]) {
			continue
		}
		snippets++
		if !strings.Contains(once, "\n"+m[1]) && !strings.Contains(twice, "\n"+m[1]) {
			t.Errorf("example_test.go does not contain\n%s", m[1])
		}
	}
	if snippets != 5 {
		t.Errorf("the page has %d snippets, not the 5 that this test knows", snippets)
	}
}
