package socketio_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/stacksjs/realtime-go/socketio"
)

// A chat: who has a name may enter, rooms, and events that answer.
func Example() {
	io := socketio.New(socketio.Options{})
	chat := io.Namespace("/chat")

	chat.OnConnect(func(ctx context.Context, s *socketio.Socket) error {
		var hello struct{ Name string }
		if json.Unmarshal(s.Handshake().Auth, &hello) != nil || hello.Name == "" {
			return &socketio.Error{Message: "say who you are"} // connect_error, in the page
		}
		s.SetData(hello.Name)
		return nil
	})
	socketio.On(chat, "join", func(ctx context.Context, s *socketio.Socket, room string) ([]string, error) {
		if err := s.Join(ctx, room); err != nil {
			return nil, err
		}
		there, err := chat.To(room).Sockets(ctx)
		if err != nil {
			return nil, err
		}
		var names []string
		for _, s := range there {
			names = append(names, s.Data().(string))
		}
		slices.Sort(names)
		return names, s.To(room).Emit(ctx, "joined", room, s.Data())
	})
	type message struct{ Room, Text string }
	socketio.On(chat, "say", func(ctx context.Context, s *socketio.Socket, m message) (any, error) {
		if strings.TrimSpace(m.Text) == "" {
			return nil, &socketio.Error{Message: "say something"}
		}
		return nil, s.To(m.Room).Emit(ctx, "said", m.Room, s.Data(), m.Text)
	})

	site := serve(io)
	defer site.stop()
	p := site.open("", nil)
	fmt.Println("nobody:", p.join("/chat", ""))
	p.close()

	ada, bob := site.enter("/chat", `{"name":"Ada"}`), site.enter("/chat", `{"name":"Bob"}`)
	ada.say(`2/chat,0["join","tea"]`)
	fmt.Println("Ada:", ada.hear())
	bob.say(`2/chat,0["join","tea"]`)
	fmt.Println("Bob:", bob.hear())
	fmt.Println("Ada:", ada.hear())
	bob.say(`2/chat,1["say",{"room":"tea","text":"Milk?"}]`)
	fmt.Println("Ada:", ada.hear())
	fmt.Println("Bob:", bob.hear())
	bob.say(`2/chat,2["say",{"room":"tea"}]`)
	fmt.Println("Bob:", bob.hear())
	ada.close()
	bob.close()
	// Output:
	// nobody: 4/chat,{"message":"say who you are"}
	// Ada: 3/chat,0[["Ada"]]
	// Bob: 3/chat,0[["Ada","Bob"]]
	// Ada: 2/chat,["joined","tea","Bob"]
	// Ada: 2/chat,["said","tea","Bob","Milk?"]
	// Bob: 3/chat,1[]
	// Bob: 3/chat,2[{"error":{"message":"say something"}}]
}

// Arguments in several forms.
func ExampleOn() {
	io := socketio.New(socketio.Options{})
	ns := io.Namespace("/")

	// One argument and one reply: socket.emit("double", 21, (n) => …)
	socketio.On(ns, "double", func(ctx context.Context, s *socketio.Socket, n int) (int, error) {
		return 2 * n, nil
	})
	// An argument that may be missing, and an acknowledgement without arguments.
	socketio.On(ns, "typing", func(ctx context.Context, s *socketio.Socket, where *string) (any, error) {
		if where == nil {
			return nil, s.Broadcast().EmitVolatile(ctx, "typing")
		}
		return nil, s.To(*where).EmitVolatile(ctx, "typing", *where)
	})
	// All arguments, and several replies.
	socketio.On(ns, "divide", func(ctx context.Context, s *socketio.Socket, args socketio.Args) (socketio.Args, error) {
		var a, b int
		if err := errors.Join(args.Decode(0, &a), args.Decode(1, &b)); err != nil || b == 0 {
			return socketio.Args{}, &socketio.Error{Message: "two numbers, please", Data: map[string]int{"got": args.Len()}}
		}
		return socketio.MakeArgs(a/b, a%b)
	})

	site := serve(io)
	defer site.stop()
	page := site.enter("/", "")
	for _, packet := range []string{`20["double",21]`, `21["double","21"]`, `22["typing"]`, `23["divide",17,5]`, `24["divide",17]`} {
		page.say(packet)
		fmt.Println(page.hear())
	}
	page.close()
	// Output:
	// 30[42]
	// 31[{"error":{"message":"event \"double\": args[0] is a JSON string, which the server does not take"}}]
	// 32[]
	// 33[3,2]
	// 34[{"error":{"message":"two numbers, please","data":{"got":1}}}]
}

// Files in both directions, at any depth of a value.
func ExampleBinary() {
	type file struct {
		Name string          `json:"name"`
		Body socketio.Binary `json:"body"`
	}
	io := socketio.New(socketio.Options{})
	socketio.On(io.Namespace("/"), "shout", func(ctx context.Context, s *socketio.Socket, f file) (file, error) {
		return file{strings.ToUpper(f.Name), socketio.Binary(strings.ToUpper(string(f.Body)))}, nil
	})

	site := serve(io)
	defer site.stop()
	page := site.enter("/", "")
	page.say(`51-0["shout",{"name":"a.txt","body":{"_placeholder":true,"num":0}}]`, "hello")
	fmt.Println(page.hear())
	fmt.Println(page.hear())
	page.close()
	// Output:
	// 61-0[{"name":"A.TXT","body":{"_placeholder":true,"num":0}}]
	// blob "HELLO"
}

// A question to one client, with a time to answer.
func ExampleSocket_EmitWithAck() {
	io := socketio.New(socketio.Options{})
	ns := io.Namespace("/")
	results := make(chan string)
	socketio.On(ns, "order", func(ctx context.Context, s *socketio.Socket, item string) (any, error) {
		ask, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		var sure bool
		err := s.EmitWithAck(ask, &sure, "are you sure", item)
		switch {
		case errors.Is(err, socketio.ErrTimeout):
			return nil, &socketio.Error{Message: "too late"}
		case err != nil:
			return nil, err
		}
		results <- fmt.Sprintf("%s: %v", item, sure)
		return nil, nil
	})

	site := serve(io)
	defer site.stop()
	page := site.enter("/", "")
	page.say(`2["order","tea"]`)
	id := strings.TrimSuffix(strings.TrimPrefix(page.hear(), "2"), `["are you sure","tea"]`)
	page.say("3" + id + "[true]")
	fmt.Println(<-results)
	page.close()
	// Output: tea: true
}

// A question to everybody in a room.
func ExampleTarget_EmitWithAck() {
	io := socketio.New(socketio.Options{})
	ns := io.Namespace("/")
	ns.OnConnect(func(ctx context.Context, s *socketio.Socket) error { return s.Join(ctx, "voters") })
	site := serve(io)
	defer site.stop()
	pages := []*page{site.enter("/", ""), site.enter("/", "")}
	for i, p := range pages {
		go func() { // what a page does
			question := p.hear()
			id := strings.TrimSuffix(strings.TrimPrefix(question, "2"), `["more tea?"]`)
			p.say(fmt.Sprintf("3%s[%d]", id, i+1))
		}()
	}

	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	replies, err := ns.To("voters").EmitWithAck(ctx, "more tea?")
	cups := 0
	for _, r := range replies { // also those that came, if err says that others did not
		var n int
		if r.Args.Decode(0, &n) == nil {
			cups += n
		}
	}
	fmt.Println(len(replies), "answers,", cups, "cups,", err)
	for _, p := range pages {
		p.close()
	}
	// Output: 2 answers, 3 cups, <nil>
}

// One namespace for each tenant, whose sockets do not hear the others'.
func ExampleIO_NamespaceFunc() {
	io := socketio.New(socketio.Options{})
	tenants := io.NamespaceFunc(func(name string) bool { return strings.HasPrefix(name, "/tenant-") })
	tenants.OnConnect(func(ctx context.Context, s *socketio.Socket) error {
		return s.Emit(ctx, "welcome", strings.TrimPrefix(s.Namespace(), "/tenant-"))
	})
	site := serve(io)
	defer site.stop()
	page := site.enter("/tenant-7", "")
	fmt.Println(page.hear())

	if err := io.Of("/tenant-7").Emit(site.ctx, "news", 1); err != nil { // from anywhere in the program
		fmt.Println(err)
	}
	fmt.Println(page.hear())
	page.close()
	// Output:
	// 2/tenant-7,["welcome","7"]
	// 2/tenant-7,["news",1]
}
