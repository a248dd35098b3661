package node

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"github.com/stacksjs/realtime-go"
	"github.com/stacksjs/realtime-go/config"
	"github.com/stacksjs/realtime-go/driver/socketio"
	"github.com/stacksjs/realtime-go/internal/pagecode"
	"github.com/stacksjs/realtime-go/internal/redistest"
)

const page = "docs/publish-into-node.md"

// TestThePage does what docs/publish-into-node.md says: its server, its client, its Go program.
func TestThePage(t *testing.T) {
	need(t)
	redis := "redis://" + redistest.Start(t)
	text, err := os.ReadFile(filepath.Join("..", "..", page))
	if err != nil {
		t.Fatal(err)
	}
	js, err := os.MkdirTemp(".", "page-") // below node_modules
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(js) })
	files := regexp.MustCompile("(?s)```js\n// (\\S+)\n(.*?)```").FindAllSubmatch(text, -1)
	if len(files) != 2 {
		t.Fatalf("the page has %d programs in JavaScript, not 2", len(files))
	}
	for _, f := range files {
		if err := os.WriteFile(filepath.Join(js, string(f[1])), f[2], 0o600); err != nil {
			t.Fatal(err)
		}
	}
	port := freePort(t)
	t.Setenv("PORT", port)
	t.Setenv("REDIS_URL", redis)
	runUntilTheEnd(t, filepath.Join(js, "server.mjs"))
	// The client connects again until the server is there.
	client := runUntilTheEnd(t, filepath.Join(js, "client.mjs"))
	line := func(want string) {
		t.Helper()
		if !client.Scan() || client.Text() != want {
			t.Fatalf("the client says %q, and should say %q (%v)", client.Text(), want, client.Err())
		}
	}
	line("listening")
	dir, _ := pagecode.Module(t, "../..", page)
	pagecode.Go(t, dir, "build", "-o", "program", ".")
	program := exec.Command("./program")
	program.Dir, program.Env = dir, append(os.Environ(), "SOCKET_REDIS_URL="+redis)
	if out, err := program.CombinedOutput(); err != nil || len(out) > 0 {
		t.Fatalf("%v: %s", err, out)
	}
	line("OrderShipped private-orders.12345 12345")
}

type orderShipped struct {
	OrderID     string  `json:"orderId"`
	TotalAmount float64 `json:"totalAmount"`
}

// TestABroadcastFromAConfigurationFile: the seed's event by its name, through every adapter, to others and to a user.
func TestABroadcastFromAConfigurationFile(t *testing.T) {
	for _, adapter := range []string{"classic", "sharded", "streams"} {
		t.Run(adapter, func(t *testing.T) {
			c := start(t, adapter)
			file := filepath.Join(t.TempDir(), "realtime.yaml")
			text := fmt.Sprintf("driver: socket\nsocket: {redis: {url: redis://%s, adapter: %s, userRoom: \"user:{id}\"}}\n", c.redis, adapter)
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			c.open(t, socketio.Config{Adapter: socketio.Adapter(adapter)}) // the servers listen
			ada := c.connect(t, 0, "/", "ada", "private-orders.12345")
			bob := c.connect(t, 1, "/", "bob", "private-orders.12345")
			stranger := c.connect(t, 1, "/", "")

			events := realtime.NewEvents()
			realtime.HandleFunc(events, "OrderShipped", func(ctx context.Context, o orderShipped) error {
				return realtime.Channel("orders."+o.OrderID).ToOthers(bob.id).Private(ctx, "OrderShipped", o)
			})
			realtime.HandleFunc(events, "Greeting", func(ctx context.Context, to string) error {
				return realtime.User(to).Send(ctx, "Greeting", "hello")
			})
			realtime.HandleFunc(events, "Closing", func(ctx context.Context, _ map[string]any) error {
				return realtime.Channel("private-orders.12345").ExceptUsers("ada").Private(ctx, "Closing", nil)
			})
			app, err := config.Open(t.Context(), file, events)
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := app.Close(t.Context()); err != nil {
					t.Error(err)
				}
			}()
			ctx := realtime.WithBroadcaster(t.Context(), app.Broadcaster)
			for _, b := range []struct {
				event string
				data  any
			}{{"OrderShipped", map[string]any{"orderId": "12345", "totalAmount": 99.99}}, {"Greeting", "bob"}, {"Closing", map[string]any{}}} {
				if err := realtime.Broadcast(ctx, b.event, b.data); err != nil {
					t.Fatal(err)
				}
			}
			if err := app.Driver.(*socketio.Driver).Namespace("/").Emit(ctx, "end"); err != nil {
				t.Fatal(err)
			}
			end := heard{"end", "[]"}
			for _, tt := range []struct {
				who  *client
				want []heard
			}{
				{ada, []heard{{"OrderShipped", `[{"event":"OrderShipped","channel":"private-orders.12345","data":{"orderId":"12345","totalAmount":99.99}}]`}, end}},
				{bob, []heard{{"Greeting", `[{"event":"Greeting","channel":"#server-to-user-bob","data":"hello"}]`}, {"Closing", `[{"event":"Closing","channel":"private-orders.12345","data":null}]`}, end}},
				{stranger, []heard{end}},
			} {
				for _, want := range tt.want {
					if got := tt.who.next(); got != want {
						t.Errorf("%s hears %v, and should hear %v", tt.who.name, got, want)
					}
				}
			}
		})
	}
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// runUntilTheEnd runs a program that does not end by itself, and returns the lines it says.
func runUntilTheEnd(t *testing.T, file string) *bufio.Scanner {
	t.Helper()
	c := exec.Command("node", file)
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	c.Stderr = t.Output()
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	late := time.AfterFunc(patience, func() { c.Process.Kill() })
	t.Cleanup(func() {
		late.Stop()
		c.Process.Kill()
		c.Wait()
	})
	return bufio.NewScanner(out)
}
