package pusher_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"

	"github.com/stacksjs/realtime-go"
	"github.com/stacksjs/realtime-go/driver/pusher"
)

// A program that sends to a server of its own. For hosted Pusher Channels, Cluster stands in place of Scheme, Host and
// Port.
func Example() {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		fmt.Println(r.Method, r.URL.Path)
		fmt.Println(string(body))
		io.WriteString(w, "{}")
	}))
	defer srv.Close()
	host, port, _ := strings.Cut(srv.Listener.Addr().String(), ":")
	portNumber, _ := strconv.Atoi(port)

	d, err := pusher.New(pusher.Config{AppID: "3", Key: "key", Secret: "secret", Scheme: "http", Host: host, Port: portNumber})
	if err != nil {
		fmt.Println(err)
		return
	}
	b, err := realtime.New(d, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx := realtime.WithBroadcaster(context.Background(), b)
	defer b.Close(ctx)

	order := map[string]string{"orderId": "12345"}
	if err := realtime.Channel("orders.12345").ToOthers("123.456").Private(ctx, "OrderShipped", order); err != nil {
		fmt.Println(err)
	}
	// Output:
	// POST /apps/3/events
	// {"name":"OrderShipped","channels":["private-orders.12345"],"data":"{\"orderId\":\"12345\"}","socket_id":"123.456"}
}
