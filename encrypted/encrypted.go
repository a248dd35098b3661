// Package encrypted makes channels end-to-end encrypted: what goes to a "private-encrypted-" channel is
// readable only for those the application's auth endpoint gives the channel's key, not for the server or the
// provider in between. The encoding is the Pusher protocol's (Pusher Channels documentation, "Encrypted channels"), so
// pusher-js (its with-encryption build) and the native clients decrypt it by themselves.
//
// Names of channels and events are not encrypted. All functions, and the middleware, may be called concurrently.
package encrypted

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"

	"golang.org/x/crypto/nacl/secretbox"

	"github.com/stacksjs/realtime-go"
	"github.com/stacksjs/realtime-go/internal/channelname"
)

// KeySize is the length of a master key in bytes.
const KeySize = 32

const nonceSize = 24

// ParseKey reads a master key as configuration files hold it: KeySize bytes in standard base64. Its errors
// do not repeat the key.
func ParseKey(text string) ([]byte, error) {
	key, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, errors.New("encrypted: the master key is not standard base64; `openssl rand -base64 32` makes one")
	}
	return key, checkKey(key)
}

func checkKey(key []byte) error {
	if len(key) != KeySize {
		return fmt.Errorf("encrypted: the master key has %d bytes, not %d; `openssl rand -base64 32` makes one in base64", len(key), KeySize)
	}
	return nil
}

// SharedSecret is the key of one channel, by its wire name. An auth endpoint that grants the channel gives
// it to the client in standard base64 as "shared_secret".
func SharedSecret(masterKey []byte, channel string) [KeySize]byte {
	return sha256.Sum256(slices.Concat([]byte(channel), masterKey))
}

// envelope is the data of an encrypted message; encoding/json writes the bytes in standard base64.
type envelope struct {
	Nonce      []byte `json:"nonce"`
	Ciphertext []byte `json:"ciphertext"`
}

// Open decrypts the data of one message with the channel's SharedSecret.
func Open(secret [KeySize]byte, data []byte) (json.RawMessage, error) {
	var e envelope
	if err := json.Unmarshal(data, &e); err != nil {
		return nil, fmt.Errorf("encrypted: data is not an encrypted message: %w", err)
	}
	if len(e.Nonce) != nonceSize {
		return nil, fmt.Errorf("encrypted: data is not an encrypted message: its nonce has %d bytes, not %d", len(e.Nonce), nonceSize)
	}
	plain, ok := secretbox.Open(nil, e.Ciphertext, (*[nonceSize]byte)(e.Nonce), &secret)
	if !ok {
		return nil, errors.New("encrypted: the message was made with another key, or changed on its way")
	}
	return plain, nil
}

// Middleware encrypts what goes to encrypted channels, and leaves everything else as it is. The key has
// KeySize bytes; a copy of it is kept.
//
// Every channel has a key of its own, so a message to several is sent as several, one after the other: first
// the channels that are not encrypted, in one message, then one message per encrypted channel. All keep the
// message's ID. The first error ends it; some channels may then have got the event, and sending it again
// with the same ID, as realtime.Retry outside of this middleware does, reaches the rest.
func Middleware(masterKey []byte) (realtime.Middleware, error) {
	return middleware(masterKey, rand.Reader)
}

func middleware(masterKey []byte, nonces io.Reader) (realtime.Middleware, error) {
	if err := checkKey(masterKey); err != nil {
		return nil, err
	}
	masterKey = slices.Clone(masterKey)
	return func(next realtime.Driver) realtime.Driver {
		return realtime.DriverFunc(func(ctx context.Context, m *realtime.Message) error {
			var plain, secret []string
			for _, c := range m.Channels {
				if kind, _ := channelname.Split(c); kind == channelname.Encrypted {
					secret = append(secret, c)
				} else {
					plain = append(plain, c)
				}
			}
			if len(secret) == 0 {
				return next.Send(ctx, m)
			}
			if len(plain) > 0 {
				rest := *m
				rest.Channels = plain
				if err := next.Send(ctx, &rest); err != nil {
					return err
				}
			}
			for _, c := range secret {
				var nonce [nonceSize]byte
				if _, err := io.ReadFull(nonces, nonce[:]); err != nil {
					return fmt.Errorf("encrypted: no random bytes for a nonce: %w", err)
				}
				key := SharedSecret(masterKey, c)
				data, err := json.Marshal(envelope{nonce[:], secretbox.Seal(nil, m.Data, &nonce, &key)})
				if err != nil {
					return fmt.Errorf("encrypted: channel %q: %w", c, err)
				}
				one := *m
				one.Channels, one.Data = []string{c}, data
				if err := next.Send(ctx, &one); err != nil {
					return fmt.Errorf("channel %q: %w", c, err)
				}
			}
			return nil
		})
	}, nil
}
