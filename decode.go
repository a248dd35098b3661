package realtime

import (
	"bytes"
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// DataError says how a map or raw JSON differs from the payload its event takes. It holds every difference,
// as JSON paths such as shippingAddress.postalCode or products[1].name, so that whoever wrote the data can
// mend it in one go.
type DataError struct {
	Event   string
	Payload reflect.Type // what the event takes
	Missing []string     // fields that are neither pointers nor omitempty or omitzero, and absent or null
	Unknown []string     // fields the payload does not have; names are compared exactly
	Wrong   []string     // "path wants a string, got 5"
}

func (e *DataError) Error() string {
	var parts []string
	if len(e.Missing) > 0 {
		parts = append(parts, "missing "+strings.Join(e.Missing, ", "))
	}
	if len(e.Unknown) > 0 {
		parts = append(parts, "unknown "+strings.Join(e.Unknown, ", "))
	}
	parts = append(parts, e.Wrong...)
	return fmt.Sprintf("realtime: data of event %q does not fit %v: %s", e.Event, e.Payload, strings.Join(parts, "; "))
}

// decode fills the payload ptr points to, and is stricter than encoding/json: see DataError.
//
// The data is read twice. The first pass walks it along the payload's type and only collects complaints,
// because encoding/json stops at its first one and never misses a field; the second is json.Unmarshal.
func decode(event string, data []byte, ptr reflect.Value) error {
	var whole json.RawMessage
	if err := json.Unmarshal(data, &whole); err != nil {
		if syntax := (*json.SyntaxError)(nil); errors.As(err, &syntax) {
			err = fmt.Errorf("%w at byte %d of %d", err, syntax.Offset, len(data))
		}
		return fmt.Errorf("realtime: data of event %q is not JSON: %w", event, err)
	}
	c := checker{
		dec: json.NewDecoder(bytes.NewReader(data)),
		err: DataError{Event: event, Payload: ptr.Type().Elem()},
	}
	c.dec.UseNumber() // token would fail on a number that float64 cannot hold
	if t := c.err.Payload; string(whole) == "null" && t.Kind() == reflect.Struct && !decodesItself(t) {
		c.missing(fieldsOf(t), nil, "") // as {}: right for an event without fields
	} else {
		c.value(t, "")
	}
	if len(c.err.Missing)+len(c.err.Unknown)+len(c.err.Wrong) > 0 {
		return &c.err
	}
	if err := json.Unmarshal(data, ptr.Interface()); err != nil {
		c.err.Wrong = []string{err.Error()}
		return &c.err
	}
	return nil
}

// checker compares one JSON text with a type. The text is known to be valid.
type checker struct {
	dec *json.Decoder
	err DataError
}

var (
	rawMessageType      = reflect.TypeFor[json.RawMessage]()
	jsonUnmarshalerType = reflect.TypeFor[json.Unmarshaler]()
	textUnmarshalerType = reflect.TypeFor[encoding.TextUnmarshaler]()
)

// value reads one value that should fit t.
func (c *checker) value(t reflect.Type, path string) {
	nullable := false
	for t.Kind() == reflect.Pointer {
		t, nullable = t.Elem(), true
	}
	switch {
	case decodesItself(t), t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Uint8:
		c.leaf(t, path, nullable)
	case t.Kind() == reflect.Struct:
		if c.open('{', "an object", path, nullable) {
			c.object(fieldsOf(t), path)
		}
	case t.Kind() == reflect.Map:
		if c.open('{', "an object", path, nullable) {
			for c.dec.More() {
				c.value(t.Elem(), member(path, c.key()))
			}
			c.token()
		}
	case t.Kind() == reflect.Slice, t.Kind() == reflect.Array:
		if c.open('[', "a list", path, nullable) {
			n := 0
			for ; c.dec.More(); n++ {
				c.value(t.Elem(), path+"["+strconv.Itoa(n)+"]")
			}
			c.token()
			if t.Kind() == reflect.Array && n != t.Len() {
				c.wrong(path, "wants %d elements, got %d", t.Len(), n)
			}
		}
	default:
		c.leaf(t, path, nullable)
	}
}

// object reads the members after '{'.
func (c *checker) object(fields []field, path string) {
	seen := make(map[string]bool, len(fields))
	for c.dec.More() {
		name := c.key()
		at := member(path, name)
		i := slices.IndexFunc(fields, func(f field) bool { return f.name == name })
		switch {
		case i < 0:
			c.err.Unknown = append(c.err.Unknown, at)
			c.raw()
		case seen[name]:
			c.wrong(at, "is given twice")
			c.raw()
		default:
			c.field(fields[i], at)
		}
		seen[name] = true
	}
	c.token()
	c.missing(fields, seen, path)
}

func (c *checker) missing(fields []field, seen map[string]bool, path string) {
	for _, f := range fields {
		if !f.optional && !seen[f.name] {
			c.err.Missing = append(c.err.Missing, member(path, f.name))
		}
	}
}

func (c *checker) field(f field, path string) {
	t := f.typ
	if f.optional && t.Kind() != reflect.Pointer {
		t = reflect.PointerTo(t) // null is as good as leaving it out
	}
	if !f.quoted {
		c.value(t, path)
		return
	}
	var text *string // `json:",string"`: the value stands in a JSON string
	raw := c.raw()
	switch err := json.Unmarshal(raw, &text); {
	case err != nil:
		c.wrong(path, "wants %s in a string, got %s", want(f.typ), short(raw))
	case text == nil && !f.optional:
		c.err.Missing = append(c.err.Missing, path)
	case text != nil && json.Unmarshal([]byte(*text), reflect.New(t).Interface()) != nil:
		c.wrong(path, "wants %s in a string, got %s", want(f.typ), short(raw))
	}
}

// leaf reads a value that encoding/json, or the type itself, takes whole.
func (c *checker) leaf(t reflect.Type, path string, nullable bool) {
	raw := c.raw()
	if t == rawMessageType || t.Kind() == reflect.Interface && t.NumMethod() == 0 {
		return // these can hold anything, null too
	}
	if string(raw) == "null" {
		if !nullable {
			c.err.Missing = append(c.err.Missing, named(path))
		}
		return
	}
	if err := json.Unmarshal(raw, reflect.New(t).Interface()); err != nil {
		why := ""
		if mismatch := (*json.UnmarshalTypeError)(nil); !errors.As(err, &mismatch) {
			why = " (" + err.Error() + ")" // the type's own words
		}
		c.wrong(path, "wants %s, got %s%s", want(t), short(raw), why)
	}
}

// open reads the beginning of an object or list, or complains about what stands there and skips it.
func (c *checker) open(delim json.Delim, wants, path string, nullable bool) bool {
	tok := c.token()
	switch got := tok.(type) {
	case json.Delim:
		if got == delim {
			return true
		}
		c.wrong(path, "wants %s, got %s", wants, map[json.Delim]string{'{': "an object", '[': "a list"}[got])
		for depth := 1; depth > 0; {
			switch c.token() {
			case json.Delim('{'), json.Delim('['):
				depth++
			case json.Delim('}'), json.Delim(']'):
				depth--
			}
		}
	case nil:
		if !nullable {
			c.err.Missing = append(c.err.Missing, named(path))
		}
	default:
		text, _ := json.Marshal(tok)
		c.wrong(path, "wants %s, got %s", wants, short(text))
	}
	return false
}

func (c *checker) wrong(path, format string, args ...any) {
	c.err.Wrong = append(c.err.Wrong, named(path)+" "+fmt.Sprintf(format, args...))
}

func (c *checker) key() string { return c.token().(string) }

func (c *checker) token() json.Token {
	tok, err := c.dec.Token()
	if err != nil {
		panic("realtime: valid JSON has a bad token: " + err.Error())
	}
	return tok
}

func (c *checker) raw() json.RawMessage {
	var raw json.RawMessage
	if err := c.dec.Decode(&raw); err != nil {
		panic("realtime: valid JSON has a bad value: " + err.Error())
	}
	return raw
}

// field is one member of a struct's JSON object.
type field struct {
	name     string
	typ      reflect.Type
	optional bool // may be left out
	quoted   bool
	tagged   bool
	depth    int // in embedded structs
}

var fieldCache sync.Map // reflect.Type → []field

// fieldsOf lists the members of t's JSON object in the order of declaration, by encoding/json's rules:
// embedded structs give their fields to the outer one, and of two with one name the less deep wins, then the
// tagged one, then neither.
func fieldsOf(t reflect.Type) []field {
	if known, ok := fieldCache.Load(t); ok {
		return known.([]field)
	}
	all := collect(nil, t, 0, false, nil)
	var fields []field
	for i, f := range all {
		wins := true
		for j, other := range all {
			if i == j || f.name != other.name {
				continue
			}
			if other.depth < f.depth || other.depth == f.depth && (other.tagged || !f.tagged) {
				wins = false
			}
		}
		if wins {
			fields = append(fields, f)
		}
	}
	fieldCache.Store(t, fields)
	return fields
}

func collect(fields []field, t reflect.Type, depth int, optional bool, outer []reflect.Type) []field {
	if slices.Contains(outer, t) {
		return fields // embeds itself through a pointer
	}
	outer = append(slices.Clip(outer), t)
	for i := range t.NumField() {
		sf := t.Field(i)
		tag, hasTag := sf.Tag.Lookup("json")
		if tag == "-" {
			continue
		}
		name, options, _ := strings.Cut(tag, ",")
		inner, pointer := sf.Type, false
		if inner.Kind() == reflect.Pointer && inner.Name() == "" {
			inner, pointer = inner.Elem(), true
		}
		if sf.Anonymous && name == "" && inner.Kind() == reflect.Struct {
			if sf.IsExported() || !pointer {
				fields = collect(fields, inner, depth+1, optional || pointer, outer)
			}
			continue
		}
		if !sf.IsExported() {
			continue
		}
		f := field{name: name, typ: sf.Type, depth: depth, tagged: hasTag && name != ""}
		if name == "" {
			f.name = sf.Name
		}
		opts := strings.Split(options, ",")
		f.optional = optional || sf.Type.Kind() == reflect.Pointer || slices.Contains(opts, "omitempty") || slices.Contains(opts, "omitzero")
		switch inner.Kind() {
		case reflect.Struct, reflect.Map, reflect.Slice, reflect.Array, reflect.Interface:
		default:
			f.quoted = slices.Contains(opts, "string")
		}
		fields = append(fields, f)
	}
	return fields
}

func decodesItself(t reflect.Type) bool {
	p := reflect.PointerTo(t)
	return p.Implements(jsonUnmarshalerType) || p.Implements(textUnmarshalerType)
}

// want says in the words of JSON what a Go type takes.
func want(t reflect.Type) string {
	if decodesItself(t) {
		return t.String()
	}
	switch t.Kind() {
	case reflect.Pointer:
		return want(t.Elem())
	case reflect.String:
		return "a string"
	case reflect.Bool:
		return "true or false"
	case reflect.Float32, reflect.Float64:
		return "a number"
	case reflect.Slice: // of bytes, or it would not be a leaf
		return "a string in base64"
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uintptr:
		return "an integer (" + t.Kind().String() + ")"
	}
	return t.String()
}

// short is the beginning of a JSON value, enough to know it again.
func short(raw []byte) string {
	const most = 40
	switch {
	case raw[0] == '{':
		return "an object"
	case raw[0] == '[':
		return "a list"
	case len(raw) > most:
		return strings.ToValidUTF8(string(raw[:most]), "") + "…"
	}
	return string(raw)
}

// member is the path of a member of the object at path.
func member(path, key string) string {
	plain := key != ""
	for _, r := range key {
		if !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || r == '_' || r == '-' || r >= 0x80) {
			plain = false
		}
	}
	switch {
	case !plain:
		return fmt.Sprintf("%s[%.40q]", path, key)
	case path == "":
		return key
	}
	return path + "." + key
}

func named(path string) string {
	if path == "" {
		return "data"
	}
	return path
}
