package config

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
	"github.com/stacksjs/realtime-go/internal/webhook"
)

// variables are the environment variables read, over the file; of two for one key the first that is set holds.
var variables = []struct{ name, key, doc string }{
	{"REALTIME_DRIVER", "driver", ""},
	{"BROADCAST_DRIVER", "driver", "Only without REALTIME_DRIVER."},
	{"REALTIME_HOST", "server.host", ""},
	{"REALTIME_PORT", "server.port", ""},
	{"REALTIME_ORIGINS", "server.origins", "Separated by commas."},
	{"PUSHER_APP_ID", "pusher.appId", ""},
	{"PUSHER_APP_KEY", "pusher.key", ""},
	{"PUSHER_KEY", "pusher.key", "Only without PUSHER_APP_KEY."},
	{"PUSHER_APP_SECRET", "pusher.secret", ""},
	{"PUSHER_SECRET", "pusher.secret", "Only without PUSHER_APP_SECRET."},
	{"PUSHER_APP_CLUSTER", "pusher.cluster", ""},
	{"PUSHER_CLUSTER", "pusher.cluster", "Only without PUSHER_APP_CLUSTER."},
	{"PUSHER_HOST", "pusher.host", ""},
	{"PUSHER_PORT", "pusher.port", ""},
	{"PUSHER_SCHEME", "pusher.scheme", ""},
	{"SOCKET_REDIS_URL", "socket.redis.url", "With driver socket it says that events go to Node servers."},
	{"REALTIME_JWT_SECRET", "auth.jwt.secret", ""},
}

// Load reads a file, YAML or JSON, and the environment over it, and checks both; an empty path is the environment
// alone. The error joins everything that is wrong, each with its key and line; no secret is ever in it.
func Load(path string) (*Config, error) {
	c := &Config{file: path, where: map[string]string{}}
	r := newReader(path, c)
	if path != "" {
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("config: %w", err)
		}
		if err := r.document(data, reflect.ValueOf(c).Elem()); err != nil {
			return nil, err
		}
	}
	for i := range c.Channels {
		c.Channels[i].source = c.where[fmt.Sprintf("channels[%d]", i)]
	}
	r.environment(reflect.ValueOf(c).Elem())
	r.errs = append(r.errs, c.check(r.bad)...)
	if err := errors.Join(r.errs...); err != nil {
		return nil, err
	}
	return c, nil
}

// reader fills a Config from a file's syntax tree, which knows the lines.
type reader struct {
	file    string
	where   map[string]string
	anchors map[string]ast.Node
	errs    []error
	bad     []string // keys that could not be read
}

func newReader(file string, c *Config) *reader {
	return &reader{file: file, where: c.where, anchors: map[string]ast.Node{}}
}

func (r *reader) fail(n ast.Node, key, format string, args ...any) {
	r.bad = append(r.bad, key)
	r.errs = append(r.errs, fmt.Errorf("%s: %s", r.at(n), fmt.Sprintf(format, args...)))
}

func (r *reader) at(n ast.Node) string {
	if t := n.GetToken(); t != nil && t.Position != nil {
		return fmt.Sprintf("%s:%d", r.file, t.Position.Line)
	}
	return r.file
}

func (r *reader) document(data []byte, into reflect.Value) error {
	tree, err := parser.ParseBytes(data, 0)
	if err != nil {
		// The error's own text quotes the lines around, which may hold secrets.
		var y yaml.Error
		if errors.As(err, &y) && y.GetToken() != nil {
			return fmt.Errorf("%s:%d: %s", r.file, y.GetToken().Position.Line, y.GetMessage())
		}
		return fmt.Errorf("%s: it is neither YAML nor JSON", r.file)
	}
	var docs []ast.Node
	for _, d := range tree.Docs {
		if d.Body != nil {
			docs = append(docs, d.Body)
		}
	}
	if len(docs) > 1 {
		r.fail(docs[1], "", "a second document begins here, and a configuration is one")
	}
	if len(docs) > 0 {
		r.value(docs[0], "", into)
	}
	return nil
}

// value reads n into a value of the key path.
func (r *reader) value(n ast.Node, path string, into reflect.Value) {
	switch x := n.(type) {
	case *ast.AnchorNode:
		r.anchors[x.Name.GetToken().Value] = x.Value
		r.value(x.Value, path, into)
		return
	case *ast.AliasNode:
		if target, ok := r.anchors[x.Value.GetToken().Value]; ok {
			r.value(target, path, into)
		} else {
			r.fail(n, path, "%s: there is no anchor &%s before this", path, x.Value.GetToken().Value)
		}
		return
	case *ast.TagNode:
		r.value(x.Value, path, into)
		return
	case *ast.NullNode:
		// The default, as if it were not there; but "driver: null" means the driver.
		if path == "driver" && x.Token.Type == token.NullType && x.Token.Value == "null" {
			r.where[path] = r.at(n)
			into.SetString("null")
		}
		if path == "socket.redis" { // whether it is there decides what the driver is
			r.fail(n, path, "%s is empty: write {} for the Redis at 127.0.0.1:6379, or leave it out", path)
		}
		return
	}
	r.where[path] = r.at(n)
	switch into.Kind() {
	case reflect.Struct:
		r.mapping(n, path, into)
	case reflect.Slice:
		seq, ok := n.(*ast.SequenceNode)
		if !ok {
			r.fail(n, path, "%s must be a list, not %s", path, describe(n))
			return
		}
		into.Set(reflect.MakeSlice(into.Type(), len(seq.Values), len(seq.Values)))
		for i, v := range seq.Values {
			r.value(v, fmt.Sprintf("%s[%d]", path, i), into.Index(i))
		}
	case reflect.Map:
		r.table(n, path, into)
	default:
		text, quoted, ok := scalar(n)
		if !ok {
			r.fail(n, path, "%s must be %s, not %s", path, wanted(into.Type()), describe(n))
			return
		}
		if err := set(into, text, quoted); err != nil {
			r.fail(n, path, "%s %v", path, err)
		}
	}
}

func (r *reader) mapping(n ast.Node, path string, into reflect.Value) {
	m, ok := n.(ast.MapNode)
	if !ok {
		if path == "" {
			r.fail(n, path, "the file must be a mapping of keys to values, not %s", describe(n))
		} else {
			r.fail(n, path, "%s must have keys of its own (%s), not be %s", path, strings.Join(keysOf(into.Type()), ", "), describe(n))
		}
		return
	}
	for it := m.MapRange(); it.Next(); {
		if it.Key().IsMergeKey() {
			r.fail(it.Key(), path, "%s: merge keys (<<) are not supported", cmp.Or(path, "the file"))
			continue
		}
		name := it.Key().GetToken().Value
		key := join(path, name)
		f, ok := field(into, name)
		if !ok {
			r.fail(it.Key(), key, "unknown key %q: the nearest is %q", key, nearest(path, name, into.Type()))
			continue
		}
		r.value(it.Value(), key, f)
		if _, written := r.where[key]; written {
			r.where[key] = r.at(it.Key())
		}
	}
}

// table reads a mapping whose keys are the user's own.
func (r *reader) table(n ast.Node, path string, into reflect.Value) {
	m, ok := n.(ast.MapNode)
	if !ok {
		r.fail(n, path, "%s must be a mapping of names to values, not %s", path, describe(n))
		return
	}
	into.Set(reflect.MakeMap(into.Type()))
	for it := m.MapRange(); it.Next(); {
		if it.Key().IsMergeKey() {
			r.fail(it.Key(), path, "%s: merge keys (<<) are not supported", path)
			continue
		}
		name := it.Key().GetToken().Value
		v := reflect.New(into.Type().Elem()).Elem()
		r.value(it.Value(), join(path, name), v)
		r.where[join(path, name)] = r.at(it.Key())
		into.SetMapIndex(reflect.ValueOf(name), v)
	}
}

// environment puts the variables that are set, and not empty, over what the file said.
func (r *reader) environment(into reflect.Value) {
	done := map[string]bool{}
	for _, v := range variables {
		text := os.Getenv(v.name)
		if text == "" || done[v.key] {
			continue
		}
		done[v.key] = true
		f := into
		for name := range strings.SplitSeq(v.key, ".") {
			f, _ = field(f, name)
		}
		r.where[v.key] = v.name
		if f.Kind() == reflect.Slice {
			var list []string
			for x := range strings.SplitSeq(text, ",") {
				if x = strings.TrimSpace(x); x != "" {
					list = append(list, x)
				}
			}
			f.Set(reflect.ValueOf(list))
		} else if err := set(f, text, false); err != nil {
			r.bad = append(r.bad, v.key)
			r.errs = append(r.errs, fmt.Errorf("%s: %s %w", v.name, v.key, err))
		}
	}
}

// field finds a struct's field by its key.
func field(v reflect.Value, name string) (reflect.Value, bool) {
	for i := range v.NumField() {
		if keyOf(v.Type().Field(i)) == name && name != "" {
			return v.Field(i), true
		}
	}
	return reflect.Value{}, false
}

func keyOf(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
	return name
}

func keysOf(t reflect.Type) []string {
	var keys []string
	for i := range t.NumField() {
		if k := keyOf(t.Field(i)); k != "" {
			keys = append(keys, k)
		}
	}
	return keys
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

// scalar returns a scalar's text as it was written.
func scalar(n ast.Node) (text string, quoted, ok bool) {
	switch x := n.(type) {
	case *ast.StringNode:
		return x.Value, true, true
	case *ast.LiteralNode:
		return x.Value.Value, true, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		return n.GetToken().Value, false, true
	}
	return "", false, false
}

func describe(n ast.Node) string {
	switch n.Type() {
	case ast.SequenceType:
		return "a list"
	case ast.MappingType, ast.MappingValueType:
		return "a mapping"
	case ast.BoolType:
		return "true or false"
	case ast.IntegerType, ast.FloatType:
		return "a number"
	}
	return "text"
}

var (
	durationType = reflect.TypeFor[Duration]()
	sizeType     = reflect.TypeFor[Size]()
	portType     = reflect.TypeFor[Port]()
	secretType   = reflect.TypeFor[Secret]()
)

func wanted(t reflect.Type) string {
	switch t {
	case durationType:
		return `a duration such as "5m"`
	case sizeType:
		return `a size such as "100KiB", or a number of bytes`
	case portType:
		return "a port from 1 to 65535"
	}
	switch t.Kind() {
	case reflect.Pointer, reflect.Bool:
		return "true or false"
	case reflect.Int:
		return "a whole number"
	}
	return "text"
}

// set reads a scalar's text into a value of its type. text is not part of the error where it may be a secret.
func set(v reflect.Value, text string, quoted bool) error {
	t := v.Type()
	wrong := func() error { return fmt.Errorf("must be %s, not %.60q", wanted(t), text) }
	switch {
	case t == durationType:
		if text == "-1" || text == "0" {
			v.SetInt(map[string]int64{"-1": -1, "0": 0}[text])
			return nil
		}
		d, err := time.ParseDuration(text)
		if err != nil || d < 0 {
			return wrong()
		}
		v.SetInt(int64(d))
	case t == sizeType:
		n, ok := parseSize(text)
		if !ok {
			return wrong()
		}
		v.SetInt(int64(n))
	case t.Kind() == reflect.Int:
		n, err := strconv.Atoi(text)
		if err != nil || t == portType && (n < 1 || n > 65535) {
			return wrong()
		}
		v.SetInt(int64(n))
	case t.Kind() == reflect.Bool:
		if text != "true" && text != "false" {
			return wrong()
		}
		v.SetBool(text == "true")
	case t.Kind() == reflect.Pointer:
		if text != "true" && text != "false" {
			return wrong()
		}
		on := text == "true"
		v.Set(reflect.ValueOf(&on))
	default: // text; numbers are taken as written, since ids look like them
		if !quoted && (text == "true" || text == "false") && t != secretType {
			return fmt.Errorf("must be text, not %s: put it in quotes if it is meant", text)
		}
		v.SetString(text)
	}
	return nil
}

func parseSize(text string) (int, bool) {
	if n, err := strconv.Atoi(text); err == nil {
		return n, n >= -1
	}
	for _, u := range units {
		if digits, ok := strings.CutSuffix(text, u.name); ok {
			n, err := strconv.Atoi(strings.TrimSpace(digits))
			return n * u.bytes, err == nil && n >= 0 && n <= math.MaxInt/u.bytes
		}
	}
	return 0, false
}

// nearest is the known key that name was most likely meant to be: one beside it, or, if that is clearly nearer, one
// of another section.
func nearest(path, name string, t reflect.Type) string {
	best, least := "", math.MaxInt
	try := func(key, last string, penalty int) {
		if d := editDistance(strings.ToLower(name), strings.ToLower(last)) + penalty; d < least {
			best, least = key, d
		}
	}
	for _, k := range keysOf(t) {
		try(join(path, k), k, 0)
	}
	var walk func(path string, t reflect.Type)
	walk = func(path string, t reflect.Type) {
		for i := range t.NumField() {
			f := t.Field(i)
			k := keyOf(f)
			if k == "" {
				continue
			}
			try(join(path, k), k, 1)
			if f.Type.Kind() == reflect.Struct {
				walk(join(path, k), f.Type)
			}
		}
	}
	walk("", reflect.TypeFor[Config]())
	return best
}

// editDistance is Levenshtein's.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

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

// path makes a path of the file one of the process: it is relative to the file.
func (c *Config) path(p string) string {
	if p == "" || filepath.IsAbs(p) {
		return p
	}
	return filepath.Join(filepath.Dir(c.file), p)
}
