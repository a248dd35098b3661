// Package archtest keeps the walls between the rooms: who must not import whom, and why.
package archtest

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/stacksjs/realtime-go"

// forbidden lists what a package must not link, directly or not. A dep that ends in "/" stands for everything
// below it; "third-party" for everything outside the standard library and the module.
var forbidden = []struct{ pkg, dep, why string }{
	{"", "third-party", "the root package needs only the standard library"},
	{"", "/server", "an application that only sends links no server"},
	{"", "/internal/hub", "an application that only sends links no hub"},
	{"", "/internal/loop", "an application that only sends links no event loop"},
	{"", "/auth", "sending needs no authorizer"},
	{"/driver/log", "third-party", "a driver that writes a log needs only the standard library"},
	{"/driver/null", "third-party", "a driver that does nothing needs only the standard library"},
	{"/driver/pusher", "/server", "a driver for another server links none"},
	{"/driver/pusher", "/internal/hub", "a driver for another server links no hub"},
	{"/driver/pusher", "/internal/loop", "a driver for another server links no event loop"},
	{"/driver/pusher", "/config", "configuration knows the drivers, not the other way round"},
	{"/driver/socketio", "/server", "a driver for other servers links none"},
	{"/driver/socketio", "/internal/hub", "a driver for other servers links no hub"},
	{"/driver/socketio", "/internal/loop", "a driver for other servers links no event loop"},
	{"/driver/socketio", "/config", "configuration knows the drivers, not the other way round"},
	{"/internal/loop", "/internal/hub", "loops know no channels"},
	{"/internal/loop", "/internal/ws", "loops know no frames"},
	{"/internal/loop", "/internal/protocol/", "loops know no protocol"},
	{"/internal/loop", "net/http", "loops know no HTTP"},
	{"/internal/hub", "/internal/protocol/", "the hub knows no protocol"},
	{"/internal/hub", "/internal/ws", "the hub knows no wire format"},
	{"/internal/hub", "/auth", "the hub asks an interface"},
	{"/internal/hub", "net/http", "the hub knows no HTTP"},
	{"/internal/ws", "/internal/loop", "frames are functions over bytes"},
	{"/auth", "/server", "the server uses the authorizer, not the other way round"},
	{"/auth", "/internal/hub", "the authorizer knows no connections"},
	{"/internal/protocol/bun", "/server", "a protocol's room does not know who mounts it"},
	{"/internal/protocol/bun", "/auth", "a protocol's room asks the hub"},
	{"/internal/protocol/pusher", "/server", "a protocol's room does not know who mounts it"},
	{"/internal/protocol/pusher", "/auth", "a protocol's room asks the hub"},
	{"/internal/protocol/pusher", "/internal/protocol/bun", "protocols' rooms do not know each other"},
	{"/internal/protocol/bun", "/internal/protocol/pusher", "protocols' rooms do not know each other"},
	{"/internal/protocol/socketio", "/server", "a protocol's room does not know who mounts it"},
	{"/internal/protocol/socketio", "/auth", "a protocol's room asks the hub"},
	{"/internal/protocol/socketio", "/socketio", "a program's side of the protocol stands on its room, not the other way round"},
	{"/internal/protocol/socketio", "/internal/protocol/bun", "protocols' rooms do not know each other"},
	{"/internal/protocol/socketio", "/internal/protocol/pusher", "protocols' rooms do not know each other"},
	{"/internal/protocol/bun", "/internal/protocol/socketio", "protocols' rooms do not know each other"},
	{"/internal/protocol/pusher", "/internal/protocol/socketio", "protocols' rooms do not know each other"},
	{"/socketio", "/server", "the server serves a program's namespaces, not the other way round"},
	{"/socketio", "/config", "namespaces are code, and no configuration"},
	{"/internal/webhook", "/internal/hub", "webhooks are told, and know no subscriptions"},
	{"/internal/webhook", "/internal/loop", "webhooks know no connections"},
	{"/internal/webhook", "/internal/protocol/", "webhooks know no clients' protocol"},
	{"/internal/webhook", "/server", "the server uses webhooks, not the other way round"},
	{"/server", "/config", "configuration knows the server, not the other way round"},
}

// only lists what is for a few packages: those, and what their tests and examples link.
var only = []struct {
	dep, why string
	pkgs     []string
}{
	{"github.com/redis/rueidis", "whoever does not speak to Redis links no client of it", []string{"/driver/socketio", "/config", "/cmd/realtime"}},
	{"github.com/vmihailenco/msgpack/v5", "MessagePack is what Node's Redis adapter speaks", []string{"/driver/socketio", "/config", "/cmd/realtime"}},
}

// TestOnly goes through all packages of the module.
func TestOnly(t *testing.T) {
	out, err := exec.Command("go", "list", "-f", "{{.ImportPath}} {{join .Deps \" \"}}", module+"/...").Output()
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for line := range strings.Lines(string(out)) {
		deps := strings.Fields(line)
		pkg := strings.TrimPrefix(deps[0], module)
		for _, o := range only {
			if !slices.Contains(deps[1:], o.dep) {
				continue
			}
			seen[o.dep] = true
			if !slices.Contains(o.pkgs, pkg) {
				t.Errorf("%s links %s: %s", deps[0], o.dep, o.why)
			}
		}
	}
	for _, o := range only {
		if !seen[o.dep] {
			t.Errorf("nothing links %s", o.dep)
		}
	}
}

func deps(t *testing.T, pkg string) []string {
	t.Helper()
	out, err := exec.Command("go", "list", "-deps", "-f", "{{.ImportPath}}{{if .Standard}} std{{end}}", module+pkg).Output()
	if err != nil {
		t.Fatalf("go list %s: %v", module+pkg, err)
	}
	return strings.Split(strings.TrimSpace(string(out)), "\n")
}

func TestWalls(t *testing.T) {
	cache := map[string][]string{}
	for _, f := range forbidden {
		if cache[f.pkg] == nil {
			cache[f.pkg] = deps(t, f.pkg)
		}
		for _, line := range cache[f.pkg] {
			dep, std := strings.CutSuffix(line, " std")
			bad := false
			switch {
			case f.dep == "third-party":
				bad = !std && dep != module && !strings.HasPrefix(dep, module+"/")
			case strings.HasPrefix(f.dep, "/") && strings.HasSuffix(f.dep, "/"):
				bad = strings.HasPrefix(dep, module+f.dep)
			case strings.HasPrefix(f.dep, "/"):
				bad = dep == module+f.dep
			default:
				bad = dep == f.dep
			}
			if bad {
				t.Errorf("%s links %s: %s", module+f.pkg, dep, f.why)
			}
		}
	}
}
