package config

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
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

// path makes a path of the file one of the process: it is relative to the file.
func (c *Config) path(p string) string {
	if p == "" || filepath.IsAbs(p) {
		return p
	}
	return filepath.Join(filepath.Dir(c.file), p)
}
