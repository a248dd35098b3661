package mount

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestThePageShowsCodeThatIsTested finds every Go snippet of docs/mounting.md in routers_test.go, letter for letter.
func TestThePageShowsCodeThatIsTested(t *testing.T) {
	page, err := os.ReadFile("../../docs/mounting.md")
	if err != nil {
		t.Fatal(err)
	}
	code, err := os.ReadFile("routers_test.go")
	if err != nil {
		t.Fatal(err)
	}
	snippets := regexp.MustCompile("(?s)```go\n(.*?)```").FindAllStringSubmatch(string(page), -1)
	if len(snippets) != 6 {
		t.Errorf("the page has %d snippets, not the 6 that this test knows", len(snippets))
	}
	for _, m := range snippets {
		if !strings.Contains(string(code), "\n"+m[1]) {
			t.Errorf("routers_test.go does not contain\n%s", m[1])
		}
	}
}
