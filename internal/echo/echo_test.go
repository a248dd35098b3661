package echo

import "testing"

func TestEventName(t *testing.T) {
	for _, c := range []struct{ namespace, name, want string }{
		{"", "OrderShipped", "OrderShipped"},
		{"", ".order.shipped", ".order.shipped"},
		{"App.Events", "OrderShipped", `App\Events\OrderShipped`},
		{`App\Events`, "OrderShipped", `App\Events\OrderShipped`},
		{`.App.Events.`, "order.shipped", `App\Events\order\shipped`},
		{"App.Events", ".order.shipped", "order.shipped"},
		{"App.Events", `\Other\Event`, `Other\Event`},
	} {
		if got := EventName(c.namespace, c.name); got != c.want {
			t.Errorf("EventName(%q, %q) is %q, not %q", c.namespace, c.name, got, c.want)
		}
	}
}
