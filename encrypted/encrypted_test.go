package encrypted

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stacksjs/realtime-go"
	"github.com/stacksjs/realtime-go/driver/drivertest"
	"github.com/stacksjs/realtime-go/realtimetest"
)

const masterKey = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=" // bytes 0 to 31

// counting reads 100, 101, 102…
type counting byte

func (c *counting) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(*c)
		*c++
	}
	return len(p), nil
}

func key(t testing.TB) []byte {
	t.Helper()
	k, err := ParseKey(masterKey)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// sent is what m becomes.
func sent(t *testing.T, m *realtime.Message) []realtime.Message {
	t.Helper()
	nonces := counting(100)
	mw, err := middleware(key(t), &nonces)
	if err != nil {
		t.Fatal(err)
	}
	_, rec := realtimetest.Record(t, nil)
	if err := mw(rec).Send(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	return rec.Messages()
}

// TestVector is the Pusher protocol's end-to-end encryption byte for byte.
func TestVector(t *testing.T) {
	const channel = "private-encrypted-orders"
	secret := SharedSecret(key(t), channel)
	if got, want := base64.StdEncoding.EncodeToString(secret[:]), "Rp+JW0P1Y4Dbn8NPhcFo88FAzz3QPb3PZ646obzmrp4="; got != want {
		t.Errorf("shared secret %s, want %s", got, want)
	}
	got := sent(t, &realtime.Message{Channels: []string{channel}, Event: "e", Data: json.RawMessage(`{"id":7,"status":"shipped"}`)})
	want := `{"nonce":"ZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXp7","ciphertext":"B72eKXVDI/WdBxScB0uyTR65TKMzYfZEGWxCcOsQ96PwOspbtgFz4/rIEg=="}`
	if len(got) != 1 || string(got[0].Data) != want {
		t.Fatalf("sent %s\nwant %s", got[0].Data, want)
	}
	plain, err := Open(secret, got[0].Data)
	if err != nil || string(plain) != `{"id":7,"status":"shipped"}` {
		t.Errorf("opened: %s, %v", plain, err)
	}
}

func TestEachEncryptedChannelGetsItsOwnMessage(t *testing.T) {
	m := &realtime.Message{
		ID: "id", App: "shop", Event: "e", Data: json.RawMessage(`1`), ExceptSockets: []string{"1.2"}, ExceptUsers: []string{"ada"},
		Channels: []string{"private-encrypted-a", "news", "private-encrypted-cache-b", "private-c"},
	}
	before := fmt.Sprintf("%+v", *m)
	got := sent(t, m)
	if after := fmt.Sprintf("%+v", *m); after != before {
		t.Errorf("the message was changed\n from %s\n to   %s", before, after)
	}
	want := [][]string{{"news", "private-c"}, {"private-encrypted-a"}, {"private-encrypted-cache-b"}}
	if len(got) != len(want) {
		t.Fatalf("sent %d messages: %+v", len(got), got)
	}
	nonces := make(map[string]bool)
	for i, g := range got {
		data := string(g.Data)
		if i > 0 {
			var e envelope
			if err := json.Unmarshal(g.Data, &e); err != nil {
				t.Fatal(err)
			}
			nonces[string(e.Nonce)] = true
			plain, err := Open(SharedSecret(key(t), g.Channels[0]), g.Data)
			if err != nil {
				t.Fatal(err)
			}
			data = string(plain)
		}
		g.Data = nil
		whole := realtime.Message{ID: "id", App: "shop", Channels: want[i], Event: "e", ExceptSockets: []string{"1.2"}, ExceptUsers: []string{"ada"}}
		if data != "1" || fmt.Sprintf("%+v", g) != fmt.Sprintf("%+v", whole) {
			t.Errorf("message %d: %+v with data %s\nwant %+v", i, g, data, whole)
		}
	}
	if len(nonces) != 2 {
		t.Errorf("%d nonces for two messages", len(nonces))
	}
}

func TestFirstErrorEndsIt(t *testing.T) {
	mw, err := Middleware(key(t))
	if err != nil {
		t.Fatal(err)
	}
	boom := errors.New("boom")
	for _, tt := range []struct {
		failing, tried string
		want           string
	}{
		{"news", "[news]", "boom"},
		{"private-encrypted-a", "[news private-encrypted-a]", `channel "private-encrypted-a": boom`},
		{"private-encrypted-b", "[news private-encrypted-a private-encrypted-b]", `channel "private-encrypted-b": boom`},
	} {
		var tried []string
		d := mw(realtime.DriverFunc(func(_ context.Context, m *realtime.Message) error {
			tried = append(tried, m.Channels...)
			if m.Channels[0] == tt.failing {
				return boom
			}
			return nil
		}))
		err := d.Send(t.Context(), &realtime.Message{Channels: []string{"private-encrypted-a", "private-encrypted-b", "news"}, Event: "e", Data: json.RawMessage("1")})
		if !errors.Is(err, boom) || err.Error() != tt.want || fmt.Sprint(tried) != tt.tried {
			t.Errorf("%s fails: %v after %v; want %s after %s", tt.failing, err, tried, tt.want, tt.tried)
		}
	}
}

func TestNoRandomBytesIsAnError(t *testing.T) {
	mw, err := middleware(key(t), strings.NewReader("short"))
	if err != nil {
		t.Fatal(err)
	}
	_, rec := realtimetest.Record(t, nil)
	err = mw(rec).Send(t.Context(), &realtime.Message{Channels: []string{"private-encrypted-a"}, Event: "e", Data: json.RawMessage("1")})
	if err == nil || err.Error() != "encrypted: no random bytes for a nonce: unexpected EOF" {
		t.Errorf("error %v", err)
	}
	rec.AssertCount(0)
}

func TestKeys(t *testing.T) {
	for _, tt := range []struct{ key, want string }{
		{"AAEC", "encrypted: the master key has 3 bytes, not 32; `openssl rand -base64 32` makes one in base64"},
		{"", "encrypted: the master key has 0 bytes, not 32; `openssl rand -base64 32` makes one in base64"},
		{"s3cr3t!", "encrypted: the master key is not standard base64; `openssl rand -base64 32` makes one"},
	} {
		if _, err := ParseKey(tt.key); err == nil || err.Error() != tt.want {
			t.Errorf("ParseKey(%q): %v\nwant %s", tt.key, err, tt.want)
		}
	}
	if _, err := Middleware(make([]byte, 31)); err == nil {
		t.Error("Middleware took a key of 31 bytes")
	}
}

func TestOpenRefuses(t *testing.T) {
	secret := SharedSecret(key(t), "private-encrypted-orders")
	good := sent(t, &realtime.Message{Channels: []string{"private-encrypted-orders"}, Event: "e", Data: json.RawMessage(`1`)})[0].Data
	if _, err := Open(secret, good); err != nil {
		t.Fatal(err)
	}
	var e envelope
	if err := json.Unmarshal(good, &e); err != nil {
		t.Fatal(err)
	}
	e.Ciphertext[3] ^= 1
	changed, _ := json.Marshal(e)
	for _, tt := range []struct {
		name   string
		secret [KeySize]byte
		data   []byte
		want   string
	}{
		{"another channel's key", SharedSecret(key(t), "private-encrypted-other"), good, "encrypted: the message was made with another key, or changed on its way"},
		{"a changed bit", secret, changed, "encrypted: the message was made with another key, or changed on its way"},
		{"plain data", secret, []byte(`{"id":7}`), "encrypted: data is not an encrypted message: its nonce has 0 bytes, not 24"},
		{"no JSON", secret, []byte(`{`), "encrypted: data is not an encrypted message: unexpected end of JSON input"},
	} {
		if plain, err := Open(tt.secret, tt.data); err == nil || err.Error() != tt.want {
			t.Errorf("%s: %s, %v\nwant %s", tt.name, plain, err, tt.want)
		}
	}
}

func FuzzOpen(f *testing.F) {
	secret := SharedSecret(key(f), "private-encrypted-orders")
	f.Add([]byte(`{"nonce":"ZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXp7","ciphertext":"B72eKXVDI/WdBxScB0uyTR65TKMzYfZEGWxCcOsQ96PwOspbtgFz4/rIEg=="}`))
	f.Add([]byte(`{"nonce":null,"ciphertext":5}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		plain, err := Open(secret, data)
		if err == nil && !bytes.Equal(plain, []byte(`{"id":7,"status":"shipped"}`)) {
			t.Errorf("opened %q, which nobody made", plain)
		}
	})
}

// TestDriver shows that the middleware keeps a driver's contract.
func TestDriver(t *testing.T) {
	mw, err := Middleware(key(t))
	if err != nil {
		t.Fatal(err)
	}
	drivertest.Run(t, drivertest.Harness{New: func(t *testing.T) (realtime.Driver, func() realtime.Message) {
		far := make(chan realtime.Message, drivertest.MaxWaiting)
		d := mw(realtime.DriverFunc(func(ctx context.Context, m *realtime.Message) error {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			c := *m
			c.Channels, c.Data = slices.Clone(m.Channels), slices.Clone(m.Data)
			c.ExceptSockets, c.ExceptUsers = slices.Clone(m.ExceptSockets), slices.Clone(m.ExceptUsers)
			far <- c
			return nil
		}))
		return d, func() realtime.Message { return <-far }
	}})
}
