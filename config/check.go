package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/stacksjs/realtime-go/driver/socketio"
	"github.com/stacksjs/realtime-go/internal/webhook"
)

// Drivers and protocols that this build has, and protocols it knows of.
var (
	drivers = []string{"bun", "socket", "pusher", "log", "null"}

	protocols       = []string{"ws", "pusher", "socketio"}
	absentProtocols = []string{"sse"}
)

// check finds what is wrong between keys, and fills in the defaults of driver and address. What could not be read is
// reported already, and not again as missing.
func (c *Config) check(unread []string) []error {
	var errs []error
	fail := func(key, format string, args ...any) {
		for _, u := range unread {
			if rest, under := strings.CutPrefix(u, key); under && (rest == "" || rest[0] == '.' || rest[0] == '[') {
				return
			}
		}
		at := ""
		for k := key; ; { // the nearest that was written
			if at = c.where[k]; at != "" || k == "" {
				break
			}
			k = k[:max(strings.LastIndexAny(k, ".["), 0)]
		}
		errs = append(errs, fmt.Errorf("%s: %s", cmp.Or(at, c.file, "config"), fmt.Sprintf(format, args...)))
	}
	c.Driver = cmp.Or(c.Driver, "bun")
	switch {
	case !slices.Contains(drivers, c.Driver):
		fail("driver", "driver %.60q is unknown: there are %s", c.Driver, strings.Join(drivers, ", "))
	}
	for i, p := range c.Protocols {
		key := fmt.Sprintf("protocols[%d]", i)
		switch {
		case slices.Contains(protocols, p):
		case slices.Contains(absentProtocols, p):
			fail(key, "protocol %q is not in this build, which has %s", p, strings.Join(protocols, ", "))
		default:
			fail(key, "protocol %.60q is unknown: there are %s", p, strings.Join(protocols, ", "))
		}
	}
	s := &c.Server
	section, own := "bun", c.Bun // the same address under the driver's name
	if c.Driver == "socket" && !c.intoNode() {
		section, own = "socket", Address{c.Socket.Host, c.Socket.Port}
		if !slices.Contains(c.Protocols, "socketio") {
			c.Protocols = append([]string{"socketio"}, c.Protocols...)
		}
	}
	if s.Host != "" && own.Host != "" && s.Host != own.Host && c.where["server.host"] != "REALTIME_HOST" {
		fail(section+".host", "%s.host is %q and server.host %q, and they mean the same: keep one", section, own.Host, s.Host)
	}
	if s.Port != 0 && own.Port != 0 && s.Port != own.Port && c.where["server.port"] != "REALTIME_PORT" {
		fail(section+".port", "%s.port is %d and server.port %d, and they mean the same: keep one", section, own.Port, s.Port)
	}
	s.Host, s.Port = cmp.Or(s.Host, own.Host, "127.0.0.1"), cmp.Or(s.Port, own.Port, 6001)
	c.Bun, c.Socket.Host, c.Socket.Port = Address{}, "", 0
	if p := c.Socket.Path; strings.ContainsAny(p, "{} ?#%") || p != "" && strings.Trim(p, "/") == "" {
		fail("socket.path", "socket.path is %.60q, and must be a path such as /socket.io/", c.Socket.Path)
	}
	for _, n := range []struct {
		name  string
		value int
	}{{"pingInterval", int(c.Socket.PingInterval)}, {"pingTimeout", int(c.Socket.PingTimeout)}, {"maxPayload", int(c.Socket.MaxPayload)}} {
		if n.value < 0 {
			fail("socket."+n.name, "socket.%s must not be negative: it is never unlimited", n.name)
		}
	}
	if s.Path != "" && (s.Path == "/" || !strings.HasPrefix(s.Path, "/") || strings.ContainsAny(s.Path, "{} ?#")) {
		fail("server.path", "server.path is %.60q, and must be a path such as /ws", s.Path)
	}
	if s.Prefix != "" && (s.Prefix[0] != '/' || strings.HasSuffix(s.Prefix, "/") || strings.ContainsAny(s.Prefix, "{} ?#%")) {
		fail("server.prefix", "server.prefix is %.60q, and must be a path such as /realtime, without a slash at its end", s.Prefix)
	}
	if s.Drain < 0 {
		fail("server.drain", "server.drain must not be negative")
	}
	if (s.TLS.Cert == "") != (s.TLS.Key == "") {
		fail("server.tls", "server.tls needs both cert and key")
	}
	c.checkPusher(fail)
	c.checkSocket(fail)
	c.checkApps(fail)
	c.checkJWT(fail)
	for i, ch := range c.Channels {
		key := fmt.Sprintf("channels[%d]", i)
		if ch.Pattern == "" {
			fail(key, "%s has no pattern", key)
		}
		if strings.ContainsAny(ch.Pattern, "{}") {
			fail(key+".pattern", "%s.pattern is %.60q: parameters are for authorizers; here * stands for any characters", key, ch.Pattern)
		}
		if !slices.Contains([]string{"", "disconnect", "drop-oldest", "keep-latest"}, ch.Slow) {
			fail(key+".slow", "%s.slow is %.60q, and must be disconnect, drop-oldest or keep-latest", key, ch.Slow)
		}
		for _, n := range []struct {
			name  string
			value int
		}{{"history.size", ch.History.Size}, {"history.age", int(ch.History.Age)}, {"history.bytes", int(ch.History.Bytes)}, {"cache", int(ch.Cache)},
			{"payload", int(ch.Payload)}, {"subscribers", ch.Subscribers}, {"members", ch.Members}} {
			if n.value < 0 {
				fail(key+"."+n.name, "%s.%s must not be negative", key, n.name)
			}
		}
	}
	return errs
}

func (c *Config) checkApps(fail func(key, format string, args ...any)) {
	if p := c.Pusher; c.Driver != "pusher" && (p.AppID != "" || p.Key != "" || p.Secret != "") {
		for _, x := range [][2]string{{"appId", p.AppID}, {"key", p.Key}, {"secret", string(p.Secret)}} {
			if x[1] == "" {
				fail("pusher", "pusher.%s is missing: the default app needs appId, key and secret", x[0])
			}
		}
	}
	ids, keys := map[string]string{}, map[string]string{}
	once := func(seen map[string]string, key, value string) {
		if value == "" {
			return
		}
		if first, twice := seen[value]; twice {
			fail(key, "%s is %q, and so is %s", key, value, first)
			return
		}
		seen[value] = key
	}
	once(ids, "pusher.appId", c.Pusher.AppID)
	once(keys, "pusher.key", c.Pusher.Key)
	for i, a := range c.Apps {
		at := fmt.Sprintf("apps[%d]", i)
		if a.ID == "" {
			fail(at, "%s has no id", at)
		}
		once(ids, at+".id", a.ID)
		if a.Connections < 0 {
			fail(at+".connections", "%s.connections must not be negative", at)
		}
		if a.AuthorizedWithin < 0 {
			fail(at+".authorizedWithin", "%s.authorizedWithin must not be negative", at)
		}
		pair := func(at, key string, secret Secret) {
			switch {
			case key != "" && secret == "":
				fail(at, "%s has a key without its secret", at)
			case key == "" && secret != "":
				fail(at, "%s has a secret without its key", at)
			}
			once(keys, at+".key", key)
		}
		pair(at, a.Key, a.Secret)
		for j, k := range a.Keys {
			at := fmt.Sprintf("%s.keys[%d]", at, j)
			if k.Key == "" && k.Secret == "" {
				fail(at, "%s has neither key nor secret", at)
			}
			pair(at, k.Key, k.Secret)
		}
		if len(a.Webhooks) > 0 && a.Key == "" && len(a.Keys) == 0 {
			fail(at+".webhooks", "%s has webhooks, and no key to sign them with", at)
		}
		for j, w := range a.Webhooks {
			at := fmt.Sprintf("%s.webhooks[%d]", at, j)
			e := webhook.Endpoint(w.server())
			e.Check(func(key, format string, args ...any) {
				fail(at+"."+key, "%s.%s "+format, append([]any{at, key}, args...)...)
			})
			if k := slices.Index(w.Events, "subscription_count"); k >= 0 && !a.SubscriptionCounts {
				fail(fmt.Sprintf("%s.events[%d]", at, k), "%s wants subscription_count, and subscriptionCounts of the app is off", at)
			}
		}
	}
}

// checkSocket finds what driver socket cannot work with.
func (c *Config) checkSocket(fail func(key, format string, args ...any)) {
	redis := c.where["socket.redis"] != "" // in the file, beside which the environment may choose
	if redis && c.where["driver"] == "" {
		fail("socket.redis", "socket.redis is for driver socket, and without a driver it is bun: write driver: socket")
	}
	for _, key := range []string{"socket.host", "socket.port"} {
		if redis && c.Driver == "socket" && c.where[key] != "" {
			fail(key, "%s is where the embedded server listens, and with socket.redis there is none, since events go to Node servers: keep one", key)
		}
	}
	if !c.intoNode() {
		return
	}
	_, err := socketio.New(c.socketio(options{}))
	failFields(err, "socketio: ", "socket.redis.", map[string]string{"Redis": "url", "Mode": "subscriptionMode"}, fail)
}
