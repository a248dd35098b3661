package auth

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stacksjs/realtime-go/internal/channelname"
)

func yes(context.Context, *User, Params) (Grant, error) { return Grant{}, nil }

func TestMostSpecificPatternWins(t *testing.T) {
	all := []string{
		"orders.{id}", "orders.new", "orders.{id}.items", "orders.{id}.items.{item}", "orders.{rest...}",
		"{any}.{id}", "{any}.new.items", "presence-{any}.{id}", "presence-orders.{number}", "private-encrypted-orders.{id}",
		"chat", "{one}", "private-{alone}", "a.{x}.c", "a.b.{y}", "a.{x}.{y...}", "cache-orders.{id}", "App.Models.User.{id}",
	}
	for _, tc := range []struct {
		channel, pattern string // "" for none
		params           Params
	}{
		{"private-orders.5", "orders.{id}", Params{"id": "5"}},
		{"private-encrypted-orders.5", "private-encrypted-orders.{id}", Params{"id": "5"}},
		{"presence-orders.5", "presence-orders.{number}", Params{"number": "5"}},
		{"presence-orders.new", "orders.new", Params{}}, // text beats a prefix
		{"private-orders.new", "orders.new", Params{}},
		{"private-orders.5.items", "orders.{id}.items", Params{"id": "5"}},
		{"private-orders.new.items", "orders.{id}.items", Params{"id": "new"}}, // orders.new is a dead end; orders beats {any}
		{"private-carts.new.items", "{any}.new.items", Params{"any": "carts"}},
		{"private-orders.5.items.7", "orders.{id}.items.{item}", Params{"id": "5", "item": "7"}},
		{"private-orders.5.notes", "orders.{rest...}", Params{"rest": "5.notes"}},
		{"private-orders.5.items.7.x", "orders.{rest...}", Params{"rest": "5.items.7.x"}},
		{"private-carts.5", "{any}.{id}", Params{"any": "carts", "id": "5"}},
		{"presence-carts.5", "presence-{any}.{id}", Params{"any": "carts", "id": "5"}},
		{"private-chat", "chat", Params{}},
		{"private-chats", "private-{alone}", Params{"alone": "chats"}},
		{"presence-chats", "{one}", Params{"one": "chats"}},
		{"private-ordersX5", "private-{alone}", Params{"alone": "ordersX5"}},
		{"private-a.b.c", "a.b.{y}", Params{"y": "c"}},
		{"private-a.z.c", "a.{x}.c", Params{"x": "z"}},
		{"private-a.z.d", "a.{x}.{y...}", Params{"x": "z", "y": "d"}},
		{"private-cache-orders.5", "cache-orders.{id}", Params{"id": "5"}},
		{"private-App.Models.User.10", "App.Models.User.{id}", Params{"id": "10"}},
		{"private-carts.5.x", "", nil},
		{"private-orders.", "", nil},
		{"private-orders..5", "", nil},
		{"private-.5", "", nil},
	} {
		var a Auth
		for _, p := range all {
			a.Channel(p, yes)
		}
		if err := a.Check(); err != nil {
			t.Fatal(err)
		}
		kind, bare := channelname.Split(tc.channel)
		got := a.routes.find(kind, bare)
		switch {
		case got == nil && tc.pattern == "":
		case got == nil:
			t.Errorf("%s: no pattern, want %s", tc.channel, tc.pattern)
		case got.pattern.text != tc.pattern:
			t.Errorf("%s: pattern %q, want %q", tc.channel, got.pattern.text, tc.pattern)
		case !maps.Equal(got.params(bare), tc.params):
			t.Errorf("%s: params %v, want %v", tc.channel, got.params(bare), tc.params)
		}
	}
}

func TestCheckReportsEveryBadPattern(t *testing.T) {
	for _, tc := range []struct {
		patterns []string
		want     string
	}{
		{[]string{"orders.{id}", "orders.{orderId}"}, `"orders.{id}" and "orders.{orderId}" match the same channels`},
		{[]string{"orders.{a...}", "orders.{b...}"}, "match the same channels"},
		{[]string{"presence-x.{a}", "presence-x.{b}"}, "match the same channels"},
		{[]string{"orders.new", "orders.new"}, `"orders.new" is registered twice`},
		{[]string{""}, "it is empty"},
		{[]string{"private-"}, "segment 1 is empty"},
		{[]string{"orders."}, "segment 2 is empty"},
		{[]string{"orders..x"}, "segment 2 is empty"},
		{[]string{"orders.*"}, "write {name...}"},
		{[]string{"orders.#"}, `'#'`},
		{[]string{"orders-{id}"}, "a parameter is a whole segment"},
		{[]string{"orders.{id"}, "a parameter is a whole segment"},
		{[]string{"orders.{}"}, `parameter name ""`},
		{[]string{"orders.{...}"}, `parameter name ""`},
		{[]string{"orders.{1a}"}, `parameter name "1a"`},
		{[]string{"orders.{a-b}"}, `parameter name "a-b"`},
		{[]string{"{a}.{a}"}, `parameter "a" is there twice`},
		{[]string{"{a...}.x"}, "must be the last segment"},
		{[]string{"private-private-x"}, "two prefixes"},
		{[]string{"presence-private-{x}"}, "two prefixes"},
		{[]string{"#server-to-user-{id}"}, "channels of users need no pattern"},
		{[]string{"a b"}, `' '`},
		{[]string{strings.Repeat("a", 201)}, "longer than 200"},
	} {
		a := New()
		for _, p := range tc.patterns {
			a.Channel(p, yes)
		}
		if err := a.Check(); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%q: %v, want %q in it", tc.patterns, err, tc.want)
		}
	}

	a := New()
	a.Channel("ok", nil)
	a.Channel("x..y", yes)
	a.Identify(nil)
	a.JWT(JWTConfig{Algorithm: "none"})
	if got := strings.Count(a.Check().Error(), "\n") + 1; got != 4 {
		t.Errorf("%d complaints, want 4:\n%v", got, a.Check())
	}

	a = New() // different kinds, or another shape, are not ambiguous
	for _, p := range []string{"x.{a}", "presence-x.{b}", "private-x.{c}", "private-encrypted-x.{d}", "x.{e...}", "{f}.y"} {
		a.Channel(p, yes)
	}
	if err := a.Check(); err != nil {
		t.Error(err)
	}
}

// naive finds the pattern by the rules as they are documented, without a tree.
func naive(patterns []pattern, kind channelname.Kind, bare string) *pattern {
	names := strings.Split(bare, ".")
	for _, n := range names {
		if n == "" {
			return nil
		}
	}
	matches := func(p pattern) bool {
		if p.kind != channelname.Public && p.kind != kind {
			return false
		}
		for i, s := range p.segs {
			if i >= len(names) {
				return false
			}
			if s.sort == rest {
				return true
			}
			if s.sort == literal && s.text != names[i] {
				return false
			}
		}
		return len(p.segs) == len(names)
	}
	better := func(a, b pattern) bool {
		for i := range min(len(a.segs), len(b.segs)) {
			if a.segs[i].sort != b.segs[i].sort {
				return a.segs[i].sort < b.segs[i].sort
			}
		}
		return a.kind != channelname.Public
	}
	var best *pattern
	for i := range patterns {
		if matches(patterns[i]) && (best == nil || better(patterns[i], *best)) {
			best = &patterns[i]
		}
	}
	return best
}

func randomName(r *rand.Rand, words []string, more int) string {
	parts := make([]string, 1+r.IntN(5))
	for i := range parts {
		parts[i] = words[r.IntN(len(words))]
	}
	if more > 0 && r.IntN(more) == 0 {
		parts[len(parts)-1] = "{rest...}"
	}
	return strings.Join(parts, ".")
}

func TestTreeEqualsNaiveMatching(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	prefixes := []string{"", "", "private-", "presence-", "private-encrypted-"}
	found := 0
	for range 300 {
		var tr tree
		var patterns []pattern
		for range r.IntN(40) {
			text := prefixes[r.IntN(len(prefixes))] + randomName(r, []string{"a", "b", "{}"}, 4)
			for i := 0; strings.Contains(text, "{}"); i++ { // names of parameters must differ
				text = strings.Replace(text, "{}", fmt.Sprintf("{p%d}", i), 1)
			}
			if tr.add(text, yes) != nil {
				continue // the same shape again
			}
			p, err := parsePattern(text, false)
			if err != nil {
				t.Fatal(err)
			}
			patterns = append(patterns, p)
		}
		for range 100 {
			kind := channelname.Kind(1 + r.IntN(3))
			name := randomName(r, []string{"a", "a", "b", "b", "c", ""}, 0)
			want, got := naive(patterns, kind, name), tr.find(kind, name)
			if (want == nil) != (got == nil) || want != nil && want.text != got.pattern.text {
				t.Fatalf("%s %q: tree found %+v, want %+v", kind, name, got, want)
			}
			if want != nil {
				found++
			}
			var claims []string
			for _, p := range patterns {
				claims = append(claims, strings.Replace(p.text, "{rest...}", "*", r.IntN(2)))
			}
			wire, err := channelname.Wire(name, kind)
			if err == nil && anyCovers(claims, wire) != (want != nil) {
				t.Fatalf("claims %q cover %q: %v", claims, wire, want == nil)
			}
		}
	}
	if found < 1000 {
		t.Errorf("only %d names matched anything: the test is too weak", found)
	}
}

func TestClaimsCover(t *testing.T) {
	for _, tc := range []struct {
		claim, channel string
		want           bool
	}{
		{"*", "private-a", true},
		{"*", "presence-a.b.c", true},
		{"*", "private-encrypted-a", true},
		{"*", "public", true},
		{"*", "#server-to-user-7", false},
		{"private-*", "private-a.b", true},
		{"private-*", "presence-a", false},
		{"private-*", "private-encrypted-a", false},
		{"private-encrypted-*", "private-encrypted-a", true},
		{"orders.*", "private-orders.5", true},
		{"orders.*", "private-orders.5.items", true},
		{"orders.*", "private-orders", false},
		{"orders.*", "private-ordersX5", false},
		{"orders.{id}", "private-orders.5", true},
		{"orders.{id}", "private-orders.5.items", false},
		{"{a}.{rest...}", "private-orders.5.items", true},
		{"{a}.{rest...}", "private-orders", false},
		{"orders.5", "private-orders.5", true},
		{"orders.5", "private-orders.55", false},
		{"orders.5", "private-orders.5.x", false},
		{"orders.5.x", "private-orders.5", false},
		{"presence-orders.5", "private-orders.5", false},
	} {
		if _, err := parsePattern(tc.claim, true); err != nil {
			t.Error(err)
		}
		if got := anyCovers([]string{"other", tc.claim}, tc.channel); got != tc.want {
			t.Errorf("%q covers %q: %v", tc.claim, tc.channel, got)
		}
	}
}

func FuzzPattern(f *testing.F) {
	for _, s := range []string{"orders.{id}", "a.*", "private-{x}", "{a...}", "{a}.{b...}", "x.}{", "...}", "{...}", "#server-to-user-1"} {
		f.Add(s, "private-orders.5")
	}
	f.Fuzz(func(t *testing.T, text, channel string) {
		p, err := parsePattern(text, true)
		if err != nil {
			return
		}
		kind, bare := channelname.Split(channel)
		if kind == channelname.Public || kind == channelname.User {
			return
		}
		if got, want := anyCovers([]string{text}, channel), naive([]pattern{p}, kind, bare) != nil; got != want {
			t.Errorf("%q covers %q: %v, want %v", text, channel, got, want)
		}
	})
}

func BenchmarkFind(b *testing.B) {
	var tr tree
	for i := range 5000 {
		if err := tr.add(fmt.Sprintf("resource%d.{id}.items.{item}", i), yes); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		if tr.find(channelname.Private, "resource2500.17.items.4") == nil {
			b.Fatal("not found")
		}
	}
}
