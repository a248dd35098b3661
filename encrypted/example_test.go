package encrypted_test

import (
	"bytes"
	"context"
	"fmt"

	"github.com/stacksjs/realtime-go"
	"github.com/stacksjs/realtime-go/encrypted"
)

// What a program gives realtime.New (or config.WithMiddleware), and what its clients do.
func ExampleMiddleware() {
	key, err := encrypted.ParseKey("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=") // from the configuration
	if err != nil {
		panic(err)
	}
	mw, err := encrypted.Middleware(key)
	if err != nil {
		panic(err)
	}
	driver := realtime.DriverFunc(func(_ context.Context, m *realtime.Message) error { // all that server and provider see
		fmt.Println(m.Channels, "readable:", bytes.Contains(m.Data, []byte("negative")))

		secret := encrypted.SharedSecret(key, m.Channels[0]) // which a client gets with its grant
		plain, err := encrypted.Open(secret, m.Data)
		fmt.Println("opened:", string(plain), err)
		return nil
	})
	b, err := realtime.New(driver, nil, mw)
	if err != nil {
		panic(err)
	}
	ctx := realtime.WithBroadcaster(context.Background(), b)
	if err := realtime.Channel("medical.7").Encrypted(ctx, "result", "negative"); err != nil {
		fmt.Println(err)
	}
	// Output:
	// [private-encrypted-medical.7] readable: false
	// opened: "negative" <nil>
}
