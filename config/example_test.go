package config_test

import (
	"context"
	"fmt"

	"github.com/stacksjs/realtime-go"
	"github.com/stacksjs/realtime-go/auth"
	"github.com/stacksjs/realtime-go/config"
	"github.com/stacksjs/realtime-go/server"
)

// What a program does at start and at its end. The file says which driver; the program is the same for all.
func ExampleOpen() {
	ctx := context.Background()
	who := auth.New()
	who.Channel("orders.{id}", func(context.Context, *auth.User, auth.Params) (auth.Grant, error) { return auth.Grant{}, nil })
	app, err := config.Open(ctx, "testdata/example.yaml", realtime.NewEvents(),
		config.WithAuth(who),
		config.WithMiddleware(realtime.Logging(nil)),
		config.WithServer(func(s *server.Config) { s.Limits.Connections = 1000 }))
	if err != nil {
		fmt.Println(err)
		return
	}
	realtime.SetDefault(app.Broadcaster) // and app.Run(ctx), or app mounted in a router
	defer realtime.SetDefault(nil)

	fmt.Println("would listen on", app.Addr())
	fmt.Print(app.Config)
	fmt.Println(app.Close(ctx))
	// Output:
	// would listen on 127.0.0.1:6001
	// driver: bun
	// server:
	//   host: 127.0.0.1
	//   port: 6001
	// pusher:
	//   appId: "1"
	//   key: public
	//   secret: "***"
	// channels:
	//   - pattern: private-orders.*
	//     history:
	//       size: 100
	// <nil>
}

// Everything that is wrong with a file is one error, line by line.
func ExampleLoad() {
	_, err := config.Load("testdata/mistakes.yaml")
	fmt.Println(err)
	// Output:
	// testdata/mistakes.yaml:1: unknown key "drivr": the nearest is "driver"
	// testdata/mistakes.yaml:3: server.port must be a port from 1 to 65535, not "70000"
}

// Which policy holds for a channel, and where it is written.
func ExampleConfig_Which() {
	c, err := config.Load("testdata/example.yaml")
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, channel := range []string{"private-orders.7", "news"} {
		p, err := c.Which(channel)
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(channel, "keeps", p.History.Size, "messages:", p.Source)
	}
	fmt.Println("the port is written at", c.Where("server.port"))
	// Output:
	// private-orders.7 keeps 100 messages: testdata/example.yaml:6
	// news keeps 0 messages: default
	// the port is written at testdata/example.yaml:3
}
