// Command gws is a plain JSON WebSocket hub on github.com/lxzan/gws, written the way most Go hubs are: a goroutine
// reads each connection, a map knows each channel's subscribers, and the library's broadcaster queues one frame for
// each of them. The load generator measures ours against it.
//
//	gws -port 9002 [-cert cert.pem -key key.pem]
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"net"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/lxzan/gws"
)

type command struct {
	Event   string          `json:"event"`
	Channel string          `json:"channel"`
	Name    string          `json:"name"`
	Data    json.RawMessage `json:"data"`
	Except  []string        `json:"except"`
	ID      json.RawMessage `json:"id"`
}

type envelope struct {
	Event   string          `json:"event"`
	Channel string          `json:"channel,omitempty"`
	Data    json.RawMessage `json:"data,omitempty"`
	ID      json.RawMessage `json:"id,omitempty"`
}

type hub struct {
	gws.BuiltinEventHandler
	last atomic.Int64

	mu       sync.Mutex // held while a message is queued, so all subscribers see one order
	channels map[string]map[*gws.Conn]string
	clients  map[*gws.Conn]*client
}

type client struct {
	socketID string
	channels []string
}

func (h *hub) OnOpen(c *gws.Conn) {
	id := fmt.Sprintf("%d.%d", h.last.Add(1), os.Getpid())
	h.mu.Lock()
	h.clients[c] = &client{socketID: id}
	h.mu.Unlock()
	h.answer(c, envelope{Event: "connection_established", Data: fmt.Appendf(nil, `{"socket_id":%q,"activity_timeout":120}`, id)})
}

func (h *hub) OnClose(c *gws.Conn, _ error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if client := h.clients[c]; client != nil {
		for _, channel := range client.channels {
			delete(h.channels[channel], c)
		}
		delete(h.clients, c)
	}
}

func (h *hub) OnMessage(c *gws.Conn, message *gws.Message) {
	defer message.Close()
	var m command
	if err := json.Unmarshal(message.Bytes(), &m); err != nil {
		h.answer(c, envelope{Event: "error", Data: json.RawMessage(strconv.Quote(err.Error()))})
		return
	}
	switch m.Event {
	case "publish":
		frame, err := json.Marshal(envelope{Event: m.Name, Channel: m.Channel, Data: m.Data})
		if err != nil {
			h.answer(c, envelope{Event: "error", Data: json.RawMessage(strconv.Quote(err.Error()))})
			return
		}
		h.publish(m.Channel, frame, m.Except)
		if m.ID != nil {
			h.answer(c, envelope{Event: "ack", ID: m.ID})
		}
	case "ping":
		c.WriteString(`{"event":"pong"}`)
	case "subscribe":
		h.mu.Lock()
		if h.channels[m.Channel] == nil {
			h.channels[m.Channel] = map[*gws.Conn]string{}
		}
		client := h.clients[c]
		h.channels[m.Channel][c] = client.socketID
		client.channels = append(client.channels, m.Channel)
		h.mu.Unlock()
		h.answer(c, envelope{Event: "subscription_succeeded", Channel: m.Channel, ID: m.ID})
	}
}

func (h *hub) publish(channel string, frame []byte, except []string) {
	b := gws.NewBroadcaster(gws.OpcodeText, frame)
	h.mu.Lock()
	for c, id := range h.channels[channel] {
		if !slices.Contains(except, id) {
			b.Broadcast(c)
		}
	}
	h.mu.Unlock()
	b.Close()
}

func (h *hub) answer(c *gws.Conn, e envelope) {
	b, err := json.Marshal(e)
	if err != nil {
		log.Print(err)
		return
	}
	c.WriteMessage(gws.OpcodeText, b)
}

func main() {
	port := flag.Int("port", 0, "port to listen on; 0 takes a free one")
	cert := flag.String("cert", "", "certificate file, for TLS")
	key := flag.String("key", "", "key file, for TLS")
	flag.Parse()
	h := &hub{channels: map[string]map[*gws.Conn]string{}, clients: map[*gws.Conn]*client{}}
	server := gws.NewServer(h, &gws.ServerOption{})
	server.OnError = func(net.Conn, error) {} // a client that went away
	addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(*port))
	if *cert != "" {
		fmt.Println("listening", addr)
		log.Fatal(server.RunTLS(addr, *cert, *key))
	}
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("listening", listener.Addr())
	log.Fatal(server.RunListener(listener))
}
