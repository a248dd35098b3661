package server

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"
)

// Whenever Shutdown comes, Serve ends without an error, and takes its listener with it.
func TestShutdownWhileServeBegins(t *testing.T) {
	for range 100 {
		s, err := New(Config{Logger: quiet(), Loops: 2})
		if err != nil {
			t.Fatal(err)
		}
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := s.Serve(ctx, ln); err != nil {
				t.Errorf("Serve: %v", err)
			}
		})
		wg.Go(func() {
			if err := s.Shutdown(ctx); err != nil {
				t.Errorf("Shutdown: %v", err)
			}
		})
		wg.Wait()
		cancel()
		if c, err := net.Dial("tcp", ln.Addr().String()); err == nil {
			c.Close()
			t.Fatal("the address is still listened on")
		}
	}
}
