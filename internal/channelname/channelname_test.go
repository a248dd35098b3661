package channelname

import (
	"strings"
	"testing"
)

func TestWire(t *testing.T) {
	long := strings.Repeat("x", MaxLength)
	for _, tt := range []struct {
		name string
		kind Kind
		want string // or, after "!", the words of the error
	}{
		{"orders.1", Public, "orders.1"},
		{"orders.1", Private, "private-orders.1"},
		{"orders.1", Presence, "presence-orders.1"},
		{"orders.1", Encrypted, "private-encrypted-orders.1"},
		{"orders.1", User, "#server-to-user-orders.1"},

		{"private-orders.1", Private, "private-orders.1"},
		{"presence-orders.1", Presence, "presence-orders.1"},
		{"private-encrypted-orders.1", Encrypted, "private-encrypted-orders.1"},
		{"#server-to-user-7", User, "#server-to-user-7"},

		{"cache-orders.1", Private, "private-cache-orders.1"},
		{"private-cache-orders.1", Private, "private-cache-orders.1"},
		{"privateer", Private, "private-privateer"},
		{"Aa0_-=@,.;", Public, "Aa0_-=@,.;"},
		{"ada@example.com/#1 ü", User, "#server-to-user-ada@example.com/#1 ü"},
		{long, Public, long},

		{"", Private, `!channel name is empty`},
		{"private-orders.1", Public, `!channel "private-orders.1" has the prefix of kind private, but was asked for as public: use the bare name "orders.1", or the kind private`},
		{"private-orders.1", Presence, `!channel "private-orders.1" has the prefix of kind private, but was asked for as presence: use the bare name "orders.1", or the kind private`},
		{"private-encrypted-x", Private, `!channel "private-encrypted-x" has the prefix of kind encrypted, but was asked for as private: use the bare name "x", or the kind encrypted`},
		{"encrypted-x", Private, `!channel "encrypted-x" as private would be "private-encrypted-x", which is an encrypted channel: rename it, or send it as encrypted`},
		{"#server-to-user-7", Public, `!channel "#server-to-user-7" has the prefix of kind user, but was asked for as public: use the bare name "7", or the kind user`},
		{"private-", Private, `!channel name "private-" is only a prefix`},
		{"a b", Public, `!channel name "a b" has ' ' at byte 1; allowed are letters, digits and _ - = @ , . ;`},
		{"#orders", Public, `!channel name "#orders" has '#' at byte 0; allowed are letters, digits and _ - = @ , . ;`},
		{"a\nb", User, `!user id in channel "#server-to-user-a\nb" has a control character at byte 17`},
		{"a\xff", User, `!user id in channel "#server-to-user-a\xff" is not valid UTF-8`},
		{long + "x", Public, `!channel name of 201 bytes is longer than 200: "` + long[:40] + `"…`},
		{long, Private, `!channel name of 208 bytes is longer than 200: "private-` + long[:32] + `"…`},
		{"x", User + 1, `!channel "x" was asked for as Kind(5), which is no kind of channel`},
	} {
		got, err := Wire(tt.name, tt.kind)
		if words, bad := strings.CutPrefix(tt.want, "!"); bad {
			if err == nil || err.Error() != words {
				t.Errorf("Wire(%.60q, %s) = %.60q, %v\n want error %s", tt.name, tt.kind, got, err, words)
			}
		} else if got != tt.want || err != nil {
			t.Errorf("Wire(%.60q, %s) = %.60q, %v\n want %.60q", tt.name, tt.kind, got, err, tt.want)
		}
	}
}

func TestSplit(t *testing.T) {
	for _, tt := range []struct {
		wire  string
		kind  Kind
		bare  string
		cache bool
	}{
		{"", Public, "", false},
		{"orders", Public, "orders", false},
		{"cache-orders", Public, "cache-orders", true},
		{"private-orders", Private, "orders", false},
		{"private-cache-orders", Private, "cache-orders", true},
		{"private-encrypted-orders", Encrypted, "orders", false},
		{"private-encrypted-cache-orders", Encrypted, "cache-orders", true},
		{"presence-room", Presence, "room", false},
		{"presence-cache-room", Presence, "cache-room", true},
		{"private-private-orders", Private, "private-orders", false},
		{"#server-to-user-7", User, "7", false},
	} {
		if kind, bare := Split(tt.wire); kind != tt.kind || bare != tt.bare {
			t.Errorf("Split(%q) = %s, %q; want %s, %q", tt.wire, kind, bare, tt.kind, tt.bare)
		}
		if got := IsCache(tt.wire); got != tt.cache {
			t.Errorf("IsCache(%q) = %t", tt.wire, got)
		}
	}
}

// FuzzWire checks what everything below relies on: a wire name is valid, says its kind, and is its own wire
// name.
func FuzzWire(f *testing.F) {
	for _, name := range []string{"orders.1", "private-x", "private-encrypted-x", "encrypted-x", "presence-", "#server-to-user-7", "private-private-x", "ü", ""} {
		for k := Public; k <= User; k++ {
			f.Add(name, uint8(k))
		}
	}
	f.Fuzz(func(t *testing.T, name string, kind uint8) {
		k := Kind(kind)
		wire, err := Wire(name, k)
		if err != nil {
			return
		}
		if again, err := Wire(wire, k); again != wire || err != nil {
			t.Errorf("Wire(%q, %s) = %q, and of that %q, %v", name, k, wire, again, err)
		}
		if got, bare := Split(wire); got != k || prefixOf(k)+bare != wire {
			t.Errorf("Split(%q) = %s, %q; it was made as %s", wire, got, bare, k)
		}
		if err := Validate(wire); err != nil {
			t.Errorf("Wire(%q, %s) = %q, which is not valid: %v", name, k, wire, err)
		}
	})
}

func TestMatch(t *testing.T) {
	for _, c := range []struct {
		pattern, name string
		want          bool
	}{
		{"orders", "orders", true}, {"orders", "orders.1", false}, {"*", "", true}, {"*", "orders", true},
		{"orders.*", "orders.", true}, {"orders.*", "orders.1.items", true}, {"orders.*", "my-orders.1", false},
		{"*-news", "the-news", true}, {"*-news", "the-news-2", false}, {"a*a", "a", false}, {"a*a", "aa", true},
		{"a*b*c", "abc", true}, {"a*b*c", "a-b-b-c", true}, {"a*b*c", "acb", false}, {"*ab*b", "ab", false}, {"**", "x", true}, {"", "", true}, {"", "x", false},
	} {
		if got := Match(c.pattern, c.name); got != c.want {
			t.Errorf("Match(%q, %q) is %v", c.pattern, c.name, got)
		}
	}
}
