package browser

import (
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/stacksjs/realtime-go/internal/pagecode"
)

// TestTheGettingStartedPage reads what docs/getting-started.md promises its reader.
func TestTheGettingStartedPage(t *testing.T) {
	dir, _ := pagecode.Module(t, "../..", "docs/getting-started.md")
	addr, _ := pagecode.Start(t, dir)
	b := tab{t, browser(t)}
	b.do(chromedp.Navigate("http://" + addr + "/?user=ada"))
	b.becomes("pre", "listening to private-orders.7\n")
	b.do(chromedp.Click(chromedp.CSS("button")))
	b.becomes("pre", "listening to private-orders.7\norder 7 left with DHL\n")
	b.do(chromedp.Navigate("http://" + addr + "/?user=bob"))
	b.becomes("pre", "private-orders.7: this order is not yours\n")
}
