// Orders is a shop that tells its customers what happens to their orders: "go run ." in this directory, and open the
// address it prints.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"time"

	realtime "github.com/stacksjs/realtime-go"
	"github.com/stacksjs/realtime-go/auth"
	"github.com/stacksjs/realtime-go/config"
	"github.com/stacksjs/realtime-go/examples/orders/app/broadcasts"
	"github.com/stacksjs/realtime-go/examples/orders/app/shop"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context) error {
	app, handler, err := open(ctx, shop.New(time.Now))
	if err != nil {
		return err
	}
	realtime.SetDefault(app.Broadcaster)
	web := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	end := func() error {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		return errors.Join(app.Close(ctx), web.Shutdown(ctx))
	}
	ln, err := net.Listen("tcp", app.Addr())
	if err != nil {
		return errors.Join(err, end())
	}
	fmt.Printf("http://%s/\n", ln.Addr())
	failed := make(chan error, 1)
	go func() { failed <- web.Serve(ln) }()
	select {
	case <-ctx.Done():
		return end()
	case err := <-failed:
		return errors.Join(err, end())
	}
}

// open puts the shop and the realtime server behind one address.
func open(ctx context.Context, s *shop.Shop) (*config.App, http.Handler, error) {
	who := auth.New()
	who.Identify(s.User)
	who.AllowAnonymous() // visitors may hear public channels
	broadcasts.Channels(who, s)
	app, err := config.Open(ctx, "config/realtime.yaml", broadcasts.All(s), config.WithAuth(who))
	if err != nil {
		return nil, nil, err
	}
	mux := http.NewServeMux()
	s.Routes(mux)
	mux.Handle("/", app)
	return app, http.NewCrossOriginProtection().Handler(mux), nil
}
