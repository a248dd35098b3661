package node

import (
	"testing"

	"github.com/stacksjs/realtime-go"
	"github.com/stacksjs/realtime-go/driver/socketio"
)

func TestThin(t *testing.T) {
	for _, adapter := range []string{"classic", "sharded", "streams"} {
		t.Run(adapter, func(t *testing.T) {
			c := start(t, adapter)
			d := c.open(t, socketio.Config{Adapter: socketio.Adapter(adapter)})
			a := c.connect(t, 0, "/", "", "orders.1")
			if err := d.Send(t.Context(), &realtime.Message{Channels: []string{"orders.1"}, Event: "OrderShipped", Data: []byte(`{"id":1}`)}); err != nil {
				t.Fatal(err)
			}
			if got, want := a.next(), (heard{"OrderShipped", `[{"event":"OrderShipped","channel":"orders.1","data":{"id":1}}]`}); got != want {
				t.Errorf("heard %v", got)
			}
		})
	}
}
