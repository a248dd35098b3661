package config

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	realtime "github.com/stacksjs/realtime-go"
	"github.com/stacksjs/realtime-go/auth"
	"github.com/stacksjs/realtime-go/driver/socketio"
	"github.com/stacksjs/realtime-go/internal/ws"
	"github.com/stacksjs/realtime-go/internal/wsclient"
	"github.com/stacksjs/realtime-go/server"
)

// clean takes this machine's settings out of a test, which must not be parallel.
func clean(t *testing.T) {
	t.Helper()
	for _, v := range variables {
		t.Setenv(v.name, "")
	}
}

// write makes a file the test is given as "realtime.yaml", by working in its directory.
func write(t *testing.T, text string) string {
	t.Helper()
	clean(t)
	t.Chdir(t.TempDir())
	if err := os.WriteFile("realtime.yaml", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return "realtime.yaml"
}

func load(t *testing.T, text string) *Config {
	t.Helper()
	c, err := Load(write(t, text))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestEveryMistakeIsNamedWithItsLine(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"unknown key", "driver: log\ndrvier: bun\n", `realtime.yaml:2: unknown key "drvier": the nearest is "driver"`},
		{"unknown inner key", "server:\n  prot: 1\n", `realtime.yaml:2: unknown key "server.prot": the nearest is "server.port"`},
		{"key of another section", "origins: [x]\n", `realtime.yaml:1: unknown key "origins": the nearest is "server.origins"`},
		{"unknown key of a list", "apps:\n  - id: a\n  - id: b\n    secrt: x\n", `realtime.yaml:4: unknown key "apps[1].secrt": the nearest is "apps[1].secret"`},
		{"unknown driver", "\ndriver: sockets\n", `realtime.yaml:2: driver "sockets" is unknown: there are bun, socket, pusher, log, null`},
		{"no credentials", "\ndriver: pusher\n", strings.Join([]string{
			`realtime.yaml:2: pusher.appId (or PUSHER_APP_ID) is missing: driver pusher needs appId, key and secret`,
			`realtime.yaml:2: pusher.key (or PUSHER_APP_KEY) is missing: driver pusher needs appId, key and secret`,
			`realtime.yaml:2: pusher.secret (or PUSHER_APP_SECRET) is missing: driver pusher needs appId, key and secret`}, "\n")},
		{"half of the credentials", "driver: pusher\npusher:\n  appId: 1\n  secret: s\n", `realtime.yaml:2: pusher.key (or PUSHER_APP_KEY) is missing: driver pusher needs appId, key and secret`},
		{"everything about the other server", "driver: pusher\npusher:\n  appId: 1\n  key: k\n  secret: s\n  cluster: e/u\n  host: http://x\n  scheme: ws\n  path: /a?b\n  timeout: -1\n  batchWindow: -1\n", strings.Join([]string{
			`realtime.yaml:6: pusher.cluster is "e/u", and must be a name such as mt1 or eu`,
			`realtime.yaml:7: pusher.host is "http://x", and must be a name or an address alone; Scheme, Port and Path are apart`,
			`realtime.yaml:8: pusher.scheme is "ws", and must be "https" or "http"`,
			`realtime.yaml:9: pusher.path is "/a?b", and must be a path such as /realtime`,
			`realtime.yaml:10: pusher.timeout must not be negative`,
			`realtime.yaml:11: pusher.batchWindow must not be negative`}, "\n")},
		{"two schemes", "pusher:\n  useTLS: true\n  scheme: http\n", `realtime.yaml:3: pusher.scheme is "http" and pusher.useTLS true: keep one`},
		{"two addresses", "driver: socket\nsocket: {port: 3000}\nserver: {port: 4000}\n", `realtime.yaml:2: socket.port is 3000 and server.port 4000, and they mean the same: keep one`},
		{"socket path", "driver: socket\nsocket: {path: \"/a?b\"}\n", `realtime.yaml:2: socket.path is "/a?b", and must be a path such as /socket.io/`},
		{"everything about Node servers", "driver: socket\nsocket:\n  redis:\n    url: redis://:hush@h/x\n    adapter: sharded\n    subscriptionMode: most\n    stream: s\n    maxLen: -1\n    namespace: a,b\n    form: xml\n    eventNamespace: A\n    userRoom: u\n    timeout: -1\n", strings.Join([]string{
			`realtime.yaml:7: socket.redis.stream is for the streams adapter, and Adapter is "sharded"`,
			`realtime.yaml:8: socket.redis.maxLen is for the streams adapter, and Adapter is "sharded"`,
			`realtime.yaml:6: socket.redis.subscriptionMode is "most", and must be "dynamic", "dynamic-private" or "static"`,
			`realtime.yaml:8: socket.redis.maxLen must not be negative`,
			`realtime.yaml:9: socket.redis.namespace is "/a,b", and must be a name such as /admin, without a comma or a question mark`,
			`realtime.yaml:10: socket.redis.form is "xml", and must be "object" or "echo"`,
			`realtime.yaml:11: socket.redis.eventNamespace is for laravel-echo: it needs Form "echo"`,
			`realtime.yaml:12: socket.redis.userRoom is "u", and must have "{id}" where the user's id stands: user:{id}`,
			`realtime.yaml:13: socket.redis.timeout must not be negative`,
			`realtime.yaml:4: socket.redis.url has a path "/x", and it must be the number of a database, such as /0`}, "\n")},
		{"socket path that is none", "driver: socket\nsocket: {path: /}\n", `realtime.yaml:2: socket.path is "/", and must be a path such as /socket.io/`},
		{"what is never unlimited", "driver: socket\nsocket:\n  pingInterval: -1\n  pingTimeout: -1\n  maxPayload: -1\n", strings.Join([]string{
			`realtime.yaml:3: socket.pingInterval must not be negative: it is never unlimited`,
			`realtime.yaml:4: socket.pingTimeout must not be negative: it is never unlimited`,
			`realtime.yaml:5: socket.maxPayload must not be negative: it is never unlimited`}, "\n")},
		{"both kinds of driver socket", "driver: socket\nsocket:\n  host: localhost\n  port: 3000\n  redis:\n    url: redis://h\n", strings.Join([]string{
			`realtime.yaml:3: socket.host is where the embedded server listens, and with socket.redis there is none, since events go to Node servers: keep one`,
			`realtime.yaml:4: socket.port is where the embedded server listens, and with socket.redis there is none, since events go to Node servers: keep one`}, "\n")},
		{"nothing about Redis", "driver: socket\nsocket:\n  redis:\n    # url: redis://h\n", `realtime.yaml:3: socket.redis is empty: write {} for the Redis at 127.0.0.1:6379, or leave it out`},
		{"Node servers without a driver", "socket:\n  redis: {url: \"redis://h\"}\n", `realtime.yaml:2: socket.redis is for driver socket, and without a driver it is bun: write driver: socket`},
		{"port of Redis", "driver: socket\nsocket:\n  redis:\n    url: redis://h:70000\n", `realtime.yaml:4: socket.redis.url has a port that is none: they go from 1 to 65535`},
		{"unknown key of redis", "driver: socket\nsocket:\n  redis:\n    adaptor: x\n", `realtime.yaml:4: unknown key "socket.redis.adaptor": the nearest is "socket.redis.adapter"`},
		{"port", "server:\n  port: 70000\n", `realtime.yaml:2: server.port must be a port from 1 to 65535, not "70000"`},
		{"number", "limits: {connections: many}\n", `realtime.yaml:1: limits.connections must be a whole number, not "many"`},
		{"bool", "auth:\n  anonymous: 1\n", `realtime.yaml:2: auth.anonymous must be true or false, not "1"`},
		{"optional bool", "server:\n  compression: on\n", `realtime.yaml:2: server.compression must be true or false, not "on"`},
		{"duration", "server:\n  drain: 5\n", `realtime.yaml:2: server.drain must be a duration such as "5m", not "5"`},
		{"size", "limits:\n  payloadBytes: 1 furlong\n", `realtime.yaml:2: limits.payloadBytes must be a size such as "100KiB", or a number of bytes, not "1 furlong"`},
		{"text", "driver: true\n", `realtime.yaml:1: driver must be text, not true: put it in quotes if it is meant`},
		{"text as a list", "driver: [bun]\n", `realtime.yaml:1: driver must be text, not a list`},
		{"list", "server:\n  origins: https://a.example\n", `realtime.yaml:2: server.origins must be a list, not text`},
		{"mapping", "auth: yes\n", `realtime.yaml:1: auth must have keys of its own (jwt, anonymous), not be text`},
		{"no mapping at all", "- driver\n", `realtime.yaml:1: the file must be a mapping of keys to values, not a list`},
		{"two documents", "driver: log\n---\ndriver: bun\n", `realtime.yaml:3: a second document begins here, and a configuration is one`},
		{"twice", "driver: log\ndriver: bun\n", `realtime.yaml:2: mapping key "driver" already defined at [1:1]`},
		{"unknown alias", "driver: *x\n", `realtime.yaml:1: driver: there is no anchor &x before this`},
		{"merge key", "server: &s {port: 1}\nbun:\n  <<: *s\n", `realtime.yaml:3: bun: merge keys (<<) are not supported`},
		{"missing secret", "pusher:\n  appId: 1\n  key: a\n", `realtime.yaml:1: pusher.secret is missing: the default app needs appId, key and secret`},
		{"app without id", "apps:\n  - key: a\n    secret: b\n", `realtime.yaml:2: apps[0] has no id`},
		{"key without secret", "apps:\n  - id: x\n    keys:\n      - key: a\n", `realtime.yaml:4: apps[0].keys[0] has a key without its secret`},
		{"app twice", "pusher: {appId: 1, key: a, secret: s}\napps:\n  - id: 1\n", `realtime.yaml:3: apps[0].id is "1", and so is pusher.appId`},
		{"key twice", "pusher: {appId: 1, key: a, secret: s}\napps:\n  - {id: 2, key: a, secret: t}\n", `realtime.yaml:3: apps[0].key is "a", and so is pusher.key`},
		{"half of TLS", "server:\n  tls:\n    cert: x\n", `realtime.yaml:2: server.tls needs both cert and key`},
		{"two ports", "server: {port: 1}\nbun: {port: 2}\n", `realtime.yaml:2: bun.port is 2 and server.port 1, and they mean the same: keep one`},
		{"path", "server:\n  path: ws\n", `realtime.yaml:2: server.path is "ws", and must be a path such as /ws`},
		{"short secret", "auth:\n  jwt:\n    secret: hush\n", `realtime.yaml:2: auth.jwt: JWT: the Secret of HS256 has 4 bytes; it must have at least 32, made at random`},
		{"no such key file", "auth:\n  jwt:\n    algorithm: EdDSA\n    publicKey: gone.pem\n", `realtime.yaml:4: auth.jwt.publicKey is neither PEM nor a file that can be read: open gone.pem: no such file or directory`},
		{"no pattern", "channels:\n  - cache: 5m\n", `realtime.yaml:2: channels[0] has no pattern`},
		{"parameter", "channels:\n  - pattern: orders.{id}\n", `realtime.yaml:2: channels[0].pattern is "orders.{id}": parameters are for authorizers; here * stands for any characters`},
		{"slow", "channels:\n  - pattern: x\n    slow: down\n", `realtime.yaml:3: channels[0].slow is "down", and must be disconnect, drop-oldest or keep-latest`},
		{"negative", "channels:\n  - pattern: x\n    history: {size: -1}\n", `realtime.yaml:3: channels[0].history.size must not be negative`},
		{"webhook without a key to sign", "apps:\n  - id: x\n    webhooks:\n      - url: http://a\n", `realtime.yaml:3: apps[0] has webhooks, and no key to sign them with`},
		{"webhook without url", "apps:\n  - {id: x, key: a, secret: b, webhooks: [\n    {events: [cache_miss]}]}\n", `realtime.yaml:3: apps[0].webhooks[0].url is missing`},
		{"url of a webhook", "apps:\n  - id: x\n    keys: [{key: a, secret: b}]\n    webhooks:\n      - events: []\n        url: ftp://me:hush@a\n", `realtime.yaml:6: apps[0].webhooks[0].url must be a whole http or https address, such as https://shop.example/webhooks`},
		{"event of a webhook", "apps:\n  - id: x\n    key: a\n    secret: b\n    webhooks:\n      - url: http://a\n        events:\n          - member_added\n          - subscription_count\n          - memberAdded\n", strings.Join([]string{
			`realtime.yaml:10: apps[0].webhooks[0].events[2] is "memberAdded", and must be one of channel_occupied, channel_vacated, member_added, member_removed, client_event, cache_miss, subscription_count`,
			`realtime.yaml:9: apps[0].webhooks[0] wants subscription_count, and subscriptionCounts of the app is off`}, "\n")},
		{"channel of a webhook", "apps:\n  - {id: x, key: a, secret: b, webhooks: [{url: http://a, channels: [\"orders.{id}\"]}]}\n", `realtime.yaml:2: apps[0].webhooks[0].channels[0] is "orders.{id}": parameters are for authorizers; here * stands for any characters`},
		{"headers of a webhook", "apps:\n  - id: x\n    key: a\n    secret: b\n    webhooks:\n      - url: http://a\n        headers:\n          X-A: [hush]\n          Content-Type:\n            hush\n", strings.Join([]string{
			`realtime.yaml:8: apps[0].webhooks[0].headers.X-A must be text, not a list`,
			`realtime.yaml:9: apps[0].webhooks[0].headers.Content-Type cannot be set: the server sends its own Content-Type`}, "\n")},
		{"headers as a list", "apps:\n  - {id: x, key: a, secret: b, webhooks: [{url: http://a, headers: [hush]}]}\n", `realtime.yaml:2: apps[0].webhooks[0].headers must be a mapping of names to values, not a list`},
		{"unknown key of a webhook", "apps:\n  - {id: x, key: a, secret: b, webhooks: [{url: http://a, event: [cache_miss]}]}\n", `realtime.yaml:2: unknown key "apps[0].webhooks[0].event": the nearest is "apps[0].webhooks[0].events"`},
		{"all of them", "driver: x\nserver: {port: 0}\npusher: {key: a, sekret: b}\nprot: 1\n", strings.Join([]string{
			`realtime.yaml:2: server.port must be a port from 1 to 65535, not "0"`,
			`realtime.yaml:3: unknown key "pusher.sekret": the nearest is "pusher.secret"`,
			`realtime.yaml:4: unknown key "prot": the nearest is "server.port"`,
			`realtime.yaml:1: driver "x" is unknown: there are bun, socket, pusher, log, null`}, "\n")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Load(write(t, tt.text))
			if fmt.Sprint(err) != tt.want {
				t.Errorf("the error of\n%s\nis\n%v\nand should be\n%s", tt.text, err, tt.want)
			}
		})
	}
}

func TestNoErrorShowsASecret(t *testing.T) {
	for _, text := range []string{
		"pusher:\n  secret: hush-hush\n bad: [\n",
		"pusher:\n  secret: [hush-hush]\n",
		"pusher: {secret: hush-hush}\n",
		"driver: socket\nsocket: {redis: {url: \"redis://:hush-hush@%zz\", password: [hush-hush]}}\n",
		"driver: socket\nsocket: {redis: {url: \"redis://:hush-hush\"}}\n",
		"auth: {jwt: {secret: hush-hush}}\n",
		"apps: [{secret: hush-hush, secret: hush-hush}]\n",
	} {
		_, err := Load(write(t, text))
		if err == nil || strings.Contains(err.Error(), "hush") {
			t.Errorf("the error of %q is %v", text, err)
		}
	}
}

func TestNothingPrintsASecret(t *testing.T) {
	c := load(t, "driver: log\npusher: {appId: 1, key: pub, secret: hush-hush}\napps:\n  - {id: 2, keys: [{key: k, secret: hush-2}], webhooks: [{url: \"https://a.example/x?token=hush\", headers: {Authorization: Bearer hush}}]}\nauth: {jwt: {secret: hush-hush-hush-hush-hush-hush-hush-hush}}\n")
	asJSON, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{c.String(), fmt.Sprintf("%v %+v %#v", c, *c, *c), string(asJSON)} {
		if strings.Contains(text, "hush") {
			t.Errorf("a secret is printed in\n%s", text)
		}
	}
	want := `driver: log
server:
  host: 127.0.0.1
  port: 6001
pusher:
  appId: "1"
  key: pub
  secret: "***"
apps:
  - id: "2"
    keys:
      - key: k
        secret: "***"
    webhooks:
      - url: https://a.example/x?***
        headers:
          Authorization: "***"
auth:
  jwt:
    secret: "***"
`
	if c.String() != want {
		t.Errorf("String is\n%s\nand should be\n%s", c, want)
	}
}

func TestJSONIsAccepted(t *testing.T) {
	c := load(t, "{\n\t\"driver\": \"null\",\n\t\"server\": {\"port\": 7000, \"compression\": false},\n\t\"channels\": [\n\t\t{\"pattern\": \"a\\tb\", \"cache\": \"5m\"}\n\t]\n}\n")
	if c.Driver != "null" || c.Server.Port != 7000 || *c.Server.Compression || c.Channels[0].Pattern != "a\tb" || c.Channels[0].Cache != Duration(5*time.Minute) {
		t.Errorf("read %+v", *c)
	}
	if at := c.Channels[0].source; at != "realtime.yaml:5" {
		t.Errorf("the policy's source is %q", at)
	}
}

func TestEnvironmentIsOverTheFile(t *testing.T) {
	path := write(t, "driver: log\nserver: {host: localhost, port: 1, origins: [https://file.example]}\npusher: {appId: 1, key: a, secret: b}\n")
	t.Setenv("BROADCAST_DRIVER", "bun")
	for k, v := range map[string]string{
		"REALTIME_HOST": "0.0.0.0", "REALTIME_PORT": "7001", "PUSHER_APP_ID": "9", "PUSHER_KEY": "k9", "PUSHER_APP_SECRET": "s9",
		"PUSHER_SECRET": "not this", "PUSHER_CLUSTER": "eu", "PUSHER_HOST": "rt.example", "PUSHER_PORT": "8443", "PUSHER_SCHEME": "https",
		"REALTIME_JWT_SECRET": strings.Repeat("j", 32), "REALTIME_ORIGINS": "https://a.example, https://b.example,",
	} {
		t.Setenv(k, v)
	}
	c, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if c.Driver != "bun" {
		t.Errorf("BROADCAST_DRIVER gives driver %q", c.Driver)
	}
	t.Setenv("REALTIME_DRIVER", "null")
	if c, err = Load(path); err != nil {
		t.Fatal(err)
	}
	if c.Driver != "null" || c.Addr() != "0.0.0.0:7001" || c.Pusher != (Pusher{AppID: "9", Key: "k9", Secret: "s9", Cluster: "eu", Host: "rt.example", Port: 8443, Scheme: "https"}) ||
		c.Auth.JWT.Secret != Secret(strings.Repeat("j", 32)) || !reflect.DeepEqual(c.Server.Origins, []string{"https://a.example", "https://b.example"}) {
		t.Errorf("read\n%s", c)
	}
	for key, want := range map[string]string{"driver": "REALTIME_DRIVER", "server.port": "REALTIME_PORT", "pusher.cluster": "PUSHER_CLUSTER", "pusher.path": ""} {
		if got := c.Where(key); got != want {
			t.Errorf("Where(%q) is %q", key, got)
		}
	}
	t.Setenv("REALTIME_PORT", "http")
	t.Setenv("REALTIME_DRIVER", "ably")
	want := "REALTIME_PORT: server.port must be a port from 1 to 65535, not \"http\"\nREALTIME_DRIVER: driver \"ably\" is unknown: there are bun, socket, pusher, log, null"
	if _, err = Load(path); fmt.Sprint(err) != want {
		t.Errorf("the error is\n%v\nand should be\n%s", err, want)
	}
}

func TestANullIsTheDefaultExceptAsDriver(t *testing.T) {
	for text, want := range map[string]string{"driver: null\n": "null", "driver:\n": "bun", "driver: ~\n": "bun", "driver: \"null\"\n": "null", "": "bun", "server:\nauth:\n": "bun"} {
		if c := load(t, text); c.Driver != want {
			t.Errorf("%q gives driver %q, and should give %q", text, c.Driver, want)
		}
	}
}

func TestSizesAndDurations(t *testing.T) {
	for text, want := range map[string]Size{"0": 0, "1": 1, "-1": -1, "100KiB": 100 << 10, "4 MiB": 4 << 20, "1GiB": 1 << 30, "2kB": 2000, "2KB": 2000, "3MB": 3e6, "5B": 5} {
		if got, ok := parseSize(text); !ok || int(want) != got {
			t.Errorf("%q is %d (%v)", text, got, ok)
		}
	}
	for _, text := range []string{"", "-2", "-1KiB", "KiB", "1.5MiB", "9999999999999GiB", "1 kib"} {
		if got, ok := parseSize(text); ok {
			t.Errorf("%q is %d and should be refused", text, got)
		}
	}
	for d, want := range map[time.Duration]string{5 * time.Minute: "5m", 2 * time.Hour: "2h", 90 * time.Minute: "1h30m", 90 * time.Second: "1m30s", 10 * time.Second: "10s"} {
		if got := Duration(d).String(); got != want {
			t.Errorf("%v prints as %q", d, got)
		}
	}
}

// fill sets every value of v to one that is not zero.
func fill(v reflect.Value, n int) {
	for i := range v.NumField() {
		v.Field(i).SetInt(int64(n + i))
	}
}

func TestEveryLimitReachesTheServer(t *testing.T) {
	c := load(t, "")
	fill(reflect.ValueOf(&c.Limits).Elem(), 100)
	cfg, err := c.server(options{})
	if err != nil {
		t.Fatal(err)
	}
	got, want := reflect.ValueOf(cfg.Limits), reflect.ValueOf(c.Limits)
	if got.NumField() != want.NumField() {
		t.Fatalf("server.Limits has %d limits, the file %d", got.NumField(), want.NumField())
	}
	for i := range got.NumField() {
		name := got.Type().Field(i).Name
		if from := want.FieldByName(name); !from.IsValid() || from.Int() != got.Field(i).Int() {
			t.Errorf("limit %s is %v", name, got.Field(i))
		}
	}
}

func TestWebhooksReachTheServer(t *testing.T) {
	c := load(t, `apps:
  - id: x
    key: a
    secret: b
    webhooks:
      - url: https://a.example/x?token=1
        events: [member_added, member_removed]
        channels: ["presence-*"]
        headers: {Authorization: Bearer hush, X-Tenant: 7}
      - url: http://127.0.0.1:9000
  - id: y
`)
	cfg, err := c.server(options{})
	if err != nil {
		t.Fatal(err)
	}
	want := []server.Webhook{
		{URL: "https://a.example/x?token=1", Events: []string{"member_added", "member_removed"}, Channels: []string{"presence-*"},
			Headers: map[string]string{"Authorization": "Bearer hush", "X-Tenant": "7"}},
		{URL: "http://127.0.0.1:9000"},
	}
	if !reflect.DeepEqual(cfg.Apps[0].Webhooks, want) || cfg.Apps[1].Webhooks != nil {
		t.Errorf("the webhooks are %v, not %v", cfg.Apps, want)
	}
}

func TestWhichPolicyHolds(t *testing.T) {
	c := load(t, `limits: {payloadBytes: 50KiB}
channels:
  - pattern: private-orders.*
    history: {size: 10}
    whispers: false
    slow: keep-latest
  - {pattern: "private-encrypted-*", subscribers: 5}
  - {pattern: "private-*", cache: 1m, payload: 1KiB, subscribers: 5, members: 6, encrypted: true, history: {size: 1, age: 2m, bytes: 3KiB}}
`)
	for channel, want := range map[string]server.Channel{
		"private-orders.1": {Pattern: "private-orders.*", Source: "realtime.yaml:3", History: server.History{Size: 10, Age: 5 * time.Minute, Bytes: 1 << 20},
			NoWhispers: true, Slow: server.KeepLatest, PayloadBytes: 50 << 10, Members: 100},
		"private-x": {Pattern: "private-*", Source: "realtime.yaml:8", History: server.History{Size: 1, Age: 2 * time.Minute, Bytes: 3 << 10},
			Cache: time.Minute, PayloadBytes: 1 << 10, Subscribers: 5, Members: 6, Encrypted: true},
		"private-encrypted-cache-x": {Pattern: "private-encrypted-*", Source: "realtime.yaml:7", Cache: 30 * time.Minute, PayloadBytes: 50 << 10,
			Subscribers: 5, Members: 100, Encrypted: true},
		"cache-x": {Pattern: "*cache-*", Source: "default for cache channels", Cache: 30 * time.Minute, PayloadBytes: 50 << 10, Members: 100},
		"x":       {Pattern: "*", Source: "default", PayloadBytes: 50 << 10, Members: 100},
	} {
		got, err := c.Which(channel)
		if err != nil || got != want {
			t.Errorf("%s has\n%+v (%v)\nand should have\n%+v", channel, got, err, want)
		}
	}
	if _, err := c.Which("not a name"); err == nil {
		t.Error("a channel name with spaces has a policy")
	}
}

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

// serve serves app on a loopback port until the test ends, and returns the port's address.
func serve(t *testing.T, app *App) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- app.Server.Serve(context.Background(), ln) }()
	t.Cleanup(func() {
		if err := app.Close(context.Background()); err != nil {
			t.Errorf("Close: %v", err)
		}
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return ln.Addr().String()
}

// talk sends a frame, unless it is empty, and wants the next one to be want.
func talk(t *testing.T, c *wsclient.Conn, frame, want string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if frame != "" {
		if err := c.Write(ctx, ws.OpText, []byte(frame)); err != nil {
			t.Fatal(err)
		}
	}
	_, got, err := c.ReadMessage(ctx)
	if err != nil || want != "" && string(got) != want {
		t.Fatalf("frame is\n%s (%v)\nand should be\n%s", got, err, want)
	}
}

func TestAClientHearsABroadcast(t *testing.T) {
	secret := strings.Repeat("s", 32)
	path := write(t, "driver: bun\nserver: {drain: 1ns}\nauth: {anonymous: true, jwt: {secret: "+secret+"}}\n")
	type shipped struct {
		OrderID string `json:"orderId"`
	}
	events := realtime.NewEvents()
	realtime.HandleFunc(events, "OrderShipped", func(ctx context.Context, o shipped) error {
		return realtime.Channel("orders."+o.OrderID).Private(ctx, "OrderShipped", o)
	})
	who := auth.New()
	who.Channel("orders.{id}", func(_ context.Context, u *auth.User, p auth.Params) (auth.Grant, error) {
		if u == nil || u.ID != "ada" {
			return auth.Grant{}, auth.Refuse("this order is not yours")
		}
		return auth.Grant{}, nil
	})
	changed := false
	app, err := Open(t.Context(), path, events, WithAuth(who), WithLogger(quiet()), WithServer(func(c *server.Config) { changed = c.DrainWindow == 1 }))
	if err != nil {
		t.Fatal(err)
	}
	if !changed {
		t.Error("WithServer was not given the file's configuration")
	}
	addr := serve(t, app)
	w := httptest.NewRecorder()
	app.ServeHTTP(w, httptest.NewRequest("GET", "/health", nil))
	if got := fmt.Sprint(w.Code, w.Body); got != "200 ok\n" {
		t.Errorf("mounted, it answers %q", got)
	}
	token, err := auth.IssueHS256([]byte(secret), auth.Claims{Subject: "ada", ExpiresAt: time.Now().Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	dial := func(query string) *wsclient.Conn {
		c, err := wsclient.Dial(t.Context(), "ws://"+addr+"/ws"+query, nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close(1000, "") })
		talk(t, c, "", "")
		return c
	}
	c := dial("?token=" + token)
	talk(t, c, `{"event":"subscribe","channel":"private-orders.1"}`, `{"event":"subscription_succeeded","channel":"private-orders.1"}`)
	if err := app.Broadcaster.Broadcast(t.Context(), "OrderShipped", map[string]string{"orderId": "1"}); err != nil {
		t.Fatal(err)
	}
	talk(t, c, "", `{"event":"OrderShipped","channel":"private-orders.1","data":{"orderId":"1"}}`)
	talk(t, dial(""), `{"event":"subscribe","channel":"private-orders.1"}`,
		`{"event":"subscription_error","channel":"private-orders.1","data":{"code":4009,"type":"AuthError","error":"this order is not yours","status":401}}`)
}

func TestDriversWithoutAServer(t *testing.T) {
	for _, driver := range []string{"log", "null"} {
		path := write(t, "driver: "+driver+"\n")
		var out strings.Builder
		app, err := Open(t.Context(), path, nil, WithLogger(slog.New(slog.NewTextHandler(&out, nil))))
		if err != nil {
			t.Fatal(err)
		}
		if app.Server != nil {
			t.Errorf("driver %s has a server", driver)
		}
		if got := fmt.Sprintf("%T", app.Driver); got != driver+".driver" {
			t.Errorf("driver %s is a %s", driver, got)
		}
		ctx := realtime.WithBroadcaster(t.Context(), app.Broadcaster)
		if err := realtime.Channel("orders").Public(ctx, "OrderShipped", 1); err != nil {
			t.Fatal(err)
		}
		if logged := strings.Contains(out.String(), "OrderShipped"); logged != (driver == "log") {
			t.Errorf("driver %s logged %q", driver, &out)
		}
		w := httptest.NewRecorder()
		app.ServeHTTP(w, httptest.NewRequest("GET", "/ws", nil))
		if got, want := fmt.Sprint(w.Code, w.Body), "404 no realtime server: driver \""+driver+"\" has none\n"; got != want {
			t.Errorf("mounted, it answers %q, not %q", got, want)
		}
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		if err := app.Run(ended); err != nil {
			t.Errorf("Run: %v", err)
		}
		if err := app.Close(t.Context()); err != nil {
			t.Errorf("Close: %v", err)
		}
		if err := realtime.Channel("orders").Public(ctx, "OrderShipped", 1); err != realtime.ErrClosed {
			t.Errorf("after Close, sending returns %v", err)
		}
	}
}

func TestDriverPusherSendsWhereTheFileSays(t *testing.T) {
	type request struct{ path, body, library string }
	got := make(chan request, 1)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if err := auth.VerifyRequest(r, body, auth.AppKeys{ID: "7", Keys: []auth.Key{{Key: "pub", Secret: "hush"}}}, time.Now(), ""); err != nil {
			t.Error(err)
		}
		got <- request{r.URL.Path, string(body), r.Header.Get("X-Pusher-Library")}
		io.WriteString(w, "{}")
	}))
	defer srv.Close()
	host, port, _ := net.SplitHostPort(srv.Listener.Addr().String())
	for _, window := range []string{"0", "1h"} {
		path := write(t, "driver: pusher\npusher: {appId: 7, key: pub, host: "+host+", port: "+port+", useTLS: false, path: /rt, eventNamespace: App.Events, maxPayload: 20, batchWindow: "+window+"}\n")
		t.Setenv("PUSHER_SECRET", "hush")
		app, err := Open(t.Context(), path, nil, WithLogger(quiet()))
		if err != nil {
			t.Fatal(err)
		}
		if app.Server != nil {
			t.Error("driver pusher has a server")
		}
		ctx := realtime.WithBroadcaster(t.Context(), app.Broadcaster)
		if err := realtime.Channel("orders").Private(ctx, "OrderShipped", 1); err != nil {
			t.Fatal(err)
		}
		if err := realtime.Channel("orders").Private(ctx, "OrderShipped", strings.Repeat("x", 19)); err == nil || !strings.Contains(err.Error(), "its data has 21 bytes, more than the 20") {
			t.Errorf("the error is %v", err)
		}
		if err := app.Close(t.Context()); err != nil {
			t.Errorf("Close: %v", err)
		}
		want := request{"/rt/apps/7/events", `{"name":"App\\Events\\OrderShipped","channels":["private-orders"],"data":"1"}`, "realtime-go 1"}
		if r := <-got; r != want {
			t.Errorf("the server got\n%+v\nand should have got\n%+v", r, want)
		}
	}
}

func TestTheEnvironmentsSchemeIsOverTheFilesTLS(t *testing.T) {
	path := write(t, "driver: pusher\npusher: {appId: 1, key: k, secret: s, useTLS: true}\n")
	t.Setenv("PUSHER_SCHEME", "http")
	c, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if got := c.pusher(options{}).Scheme; got != "http" {
		t.Errorf("the scheme is %q", got)
	}
}

func TestRunListensWhereTheFileSays(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	_, port, _ := net.SplitHostPort(taken.Addr().String())
	app, err := Open(t.Context(), write(t, "bun: {port: "+port+"}\n"), nil, WithLogger(quiet()))
	if err != nil {
		t.Fatal(err)
	}
	defer app.Close(context.Background())
	if app.Addr() != taken.Addr().String() {
		t.Errorf("Addr is %s", app.Addr())
	}
	if err := app.Run(t.Context()); err == nil || !strings.Contains(err.Error(), taken.Addr().String()) {
		t.Errorf("Run on an address in use returns %v", err)
	}
}

func TestWhatTheServerRefusesNamesTheFile(t *testing.T) {
	_, err := Open(t.Context(), write(t, "server: {origins: [shop.example]}\n"), nil)
	want := `realtime.yaml: server: origin "shop.example" is not of the form https://shop.example[:port], https://*.example or *`
	if fmt.Sprint(err) != want {
		t.Errorf("the error is\n%v\nand should be\n%s", err, want)
	}
}

func TestFilesAreRelativeToTheConfiguration(t *testing.T) {
	c := load(t, "")
	c.file = filepath.Join("config", "realtime.yaml")
	if got := c.path("keys/tls.pem"); got != filepath.Join("config", "keys", "tls.pem") {
		t.Errorf("the path is %q", got)
	}
	if got := c.path("/keys/tls.pem"); got != "/keys/tls.pem" {
		t.Errorf("the path is %q", got)
	}
}

func TestReloadChangesTheApplications(t *testing.T) {
	path := write(t, "apps: [{id: 3, key: old, secret: one}]\n")
	app, err := Open(t.Context(), path, nil, WithLogger(quiet()), WithServer(func(c *server.Config) {
		c.Apps = append(c.Apps, server.App{ID: "own", Keys: []auth.Key{{Key: "own", Secret: "own"}}})
	}))
	if err != nil {
		t.Fatal(err)
	}
	defer app.Close(context.Background())
	publish := func(id, key, secret string) int {
		const body = `{"name":"e","channel":"a","data":"1"}`
		w := httptest.NewRecorder()
		query := auth.SignRequest("POST", "/apps/"+id+"/events", nil, []byte(body), key, secret, time.Now())
		app.ServeHTTP(w, httptest.NewRequest("POST", "/apps/"+id+"/events?"+query, strings.NewReader(body)))
		return w.Code
	}
	status := func(want [3]int) {
		t.Helper()
		if got := [3]int{publish("3", "old", "one"), publish("3", "new", "two"), publish("own", "own", "own")}; got != want {
			t.Errorf("the old key, the new one and the program's get %v, not %v", got, want)
		}
	}
	status([3]int{200, 401, 200})
	for _, step := range []struct {
		file, err string
		want      [3]int
	}{
		{"apps: [{id: 3, key: old, secret: one, keys: [{key: new, secret: two}]}]\n", "", [3]int{200, 200, 200}},
		{"apps: [{id: 3, key: new}]\n", path + ":1: apps[0] has a key without its secret", [3]int{200, 200, 200}},
		{"apps: [{id: own, key: new, secret: two}]\n", path + `: server: app "own" is configured twice`, [3]int{200, 200, 200}},
		{"apps: [{id: 3, key: new, secret: two}]\n", "", [3]int{401, 200, 200}},
	} {
		if err := os.WriteFile(path, []byte(step.file), 0o600); err != nil {
			t.Fatal(err)
		}
		got := ""
		if err := app.Reload(); err != nil {
			got = err.Error()
		}
		if got != step.err {
			t.Errorf("%s gives %q, not %q", step.file, got, step.err)
		}
		status(step.want)
	}
}

func FuzzLoad(f *testing.F) {
	f.Add("driver: log\nserver: &s {port: 1, tls: {cert: a, key: b}}\nbun: *s\n")
	f.Add("{\"channels\":[{\"pattern\":\"*\",\"history\":{\"size\":1}}]}")
	f.Add("a: &a [*a]\n")
	f.Add("pusher: !!map {secret: |\n  x\n}")
	f.Fuzz(func(t *testing.T, text string) {
		c := &Config{where: map[string]string{}}
		r := newReader("f", c)
		if r.document([]byte(text), reflect.ValueOf(c).Elem()) == nil && len(r.errs) == 0 {
			c.check(nil)
			_ = c.String()
		}
	})
}

func TestDriverSocketPublishesWhereTheFileSays(t *testing.T) {
	const text = "driver: socket\nsocket:\n  redis:\n    url: rediss://ada:hush@redis.example:7000/2?addr=b:1\n    password: hush2\n    adapter: sharded\n    prefix: shop\n    subscriptionMode: static\n" +
		"    namespace: /orders\n    form: echo\n    eventNamespace: App.Events\n    userRoom: user:{id}\n    maxPayload: 64KiB\n    timeout: 2s\n"
	c := load(t, text)
	log := slog.New(slog.DiscardHandler)
	want := socketio.Config{
		Redis: "rediss://ada:hush@redis.example:7000/2?addr=b:1", Password: "hush2", Adapter: socketio.Sharded, Prefix: "shop", Mode: socketio.Static,
		Namespace: "/orders", Form: socketio.Echo, EventNamespace: "App.Events", UserRoom: "user:{id}", MaxPayload: 64 << 10, Timeout: 2 * time.Second, Logger: log,
	}
	if got := c.socketio(options{logger: log}); !reflect.DeepEqual(got, want) {
		t.Errorf("the driver gets\n%#v, and should get\n%#v", got, want)
	}
	if got := fmt.Sprintf("%v%+v%#v", c, *c, *c); strings.Contains(got, "hush") || !strings.Contains(c.String(), "url: rediss://redis.example:7000/2?***\n    password: \"***\"\n") {
		t.Errorf("printed\n%s", got)
	}
	if got := load(t, "driver: socket\nsocket: {redis: {adapter: streams, stream: s, maxLen: 50}}\n").socketio(options{}); !reflect.DeepEqual(got, socketio.Config{Adapter: socketio.Streams, Stream: "s", MaxLen: 50}) {
		t.Errorf("the driver gets %#v", got)
	}
	app, err := Open(t.Context(), write(t, text), nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(app.Driver); app.Server != nil || got != "socketio.Driver{rediss://redis.example:7000/2 sharded /orders}" {
		t.Errorf("opened %s, server %v", got, app.Server)
	}
	w := httptest.NewRecorder()
	app.ServeHTTP(w, httptest.NewRequest("GET", "/socket.io/", nil))
	if got, want := fmt.Sprint(w.Code, w.Body), "404 no realtime server: with socket.redis events go to Node servers, and nothing is served here\n"; got != want {
		t.Errorf("mounted, it answers %q, not %q", got, want)
	}
	if err := app.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestAnAddressOfRedisIsShown(t *testing.T) {
	for u, want := range map[URL]string{"": "", "127.0.0.1:6379": "127.0.0.1:6379", "hush@h:1/2?addr=hush": "h:1/2?***", "redis://:hush@h": "redis://h", "a:%zz": "***"} {
		if got := u.String(); got != want {
			t.Errorf("%q is shown as %q, not %q", string(u), got, want)
		}
	}
}

func TestTheEnvironmentSaysThatDriverSocketPublishes(t *testing.T) {
	path := write(t, "driver: socket\nsocket: {port: 3000}\n") // a file that serves
	t.Setenv("REDIS_URL", "redis://localhost:1")               // of the program's own Redis
	if c, err := Load(path); err != nil || c.intoNode() {
		t.Errorf("another program's variable decides which driver it is: %v, %v", c, err)
	}
	t.Setenv("SOCKET_REDIS_URL", "redis://:hush@localhost:2")
	c, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if c.Socket.Redis.URL != "redis://:hush@localhost:2" || c.Where("socket.redis.url") != "SOCKET_REDIS_URL" {
		t.Errorf("read\n%s", c)
	}
}
