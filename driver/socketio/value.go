package socketio

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/vmihailenco/msgpack/v5"

	"github.com/stacksjs/realtime-go/internal/jsontext"
)

// A message is made of nil, bool, int, string, []byte, json.Number, json.RawMessage, []any and object. Data that is JSON
// stays the text it is where the wire has JSON, and has its keys in their order on every wire.

// object is a JSON object.
type object []member

type member struct {
	key   string
	value any
}

// maxDepth is how deep lists and maps with binary may be nested.
const maxDepth = 100

// argument makes an argument of an event a part of a message: []byte is binary, also inside []any and map[string]any, and
// everything else is what encoding/json makes of it.
func argument(v any, depth int) (any, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("it is nested deeper than %d", maxDepth)
	}
	switch v := v.(type) {
	case nil:
		return nil, nil
	case []byte:
		if v == nil {
			return nil, nil
		}
		return v, nil
	case []any:
		if v == nil {
			return nil, nil
		}
		list := make([]any, len(v))
		for i, x := range v {
			var err error
			if list[i], err = argument(x, depth+1); err != nil {
				return nil, err
			}
		}
		return list, nil
	case map[string]any:
		if v == nil {
			return nil, nil
		}
		o := make(object, 0, len(v))
		for _, key := range slices.Sorted(maps.Keys(v)) {
			x, err := argument(v[key], depth+1)
			if err != nil {
				return nil, err
			}
			o = append(o, member{key, x})
		}
		return o, nil
	}
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return json.RawMessage(bytes.TrimSuffix(buf.Bytes(), []byte("\n"))), nil
}

func arguments(args []any) ([]any, error) {
	out := make([]any, len(args))
	for i, a := range args {
		v, err := argument(a, 0)
		if err != nil {
			return nil, fmt.Errorf("its argument %d cannot be sent: %w", i, err)
		}
		out[i] = v
	}
	return out, nil
}

func hasBinary(v any) bool {
	switch v := v.(type) {
	case []byte:
		return true
	case []any:
		return slices.ContainsFunc(v, hasBinary)
	case object:
		return slices.ContainsFunc(v, func(m member) bool { return hasBinary(m.value) })
	}
	return false
}

// appendJSON appends v, which has no binary.
func appendJSON(b []byte, v any) []byte {
	switch v := v.(type) {
	case nil:
		return append(b, "null"...)
	case bool:
		return strconv.AppendBool(b, v)
	case int:
		return strconv.AppendInt(b, int64(v), 10)
	case string:
		return jsontext.AppendString(b, v)
	case json.Number:
		return append(b, v...)
	case json.RawMessage:
		return append(b, v...)
	case []any:
		b = append(b, '[')
		for i, x := range v {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendJSON(b, x)
		}
		return append(b, ']')
	case object:
		b = append(b, '{')
		for i, m := range v {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(jsontext.AppendString(b, m.key), ':')
			b = appendJSON(b, m.value)
		}
		return append(b, '}')
	}
	panic(fmt.Sprintf("socketio: %T in a message that is JSON", v))
}

// marshalMsgpack makes v MessagePack: what notepack.io, the Node servers' codec, reads.
func marshalMsgpack(v any) ([]byte, error) {
	var buf bytes.Buffer
	if err := encodeMsgpack(msgpack.NewEncoder(&buf), v); err != nil {
		return nil, err
	}
	return buf.Bytes(), nil
}

func encodeMsgpack(enc *msgpack.Encoder, v any) error {
	switch v := v.(type) {
	case nil:
		return enc.EncodeNil()
	case bool:
		return enc.EncodeBool(v)
	case int:
		return enc.EncodeInt(int64(v))
	case string:
		return enc.EncodeString(v)
	case []byte:
		return enc.EncodeBytes(v)
	case json.Number:
		switch n := number(v).(type) {
		case int64:
			return enc.EncodeInt(n)
		case uint64:
			return enc.EncodeUint(n)
		case float64:
			return enc.EncodeFloat64(n)
		}
	case json.RawMessage:
		x, err := parse(v)
		if err != nil {
			return err
		}
		return encodeMsgpack(enc, x)
	case []any:
		if err := enc.EncodeArrayLen(len(v)); err != nil {
			return err
		}
		for _, x := range v {
			if err := encodeMsgpack(enc, x); err != nil {
				return err
			}
		}
		return nil
	case object:
		if err := enc.EncodeMapLen(len(v)); err != nil {
			return err
		}
		for _, m := range v {
			if err := errors.Join(enc.EncodeString(m.key), encodeMsgpack(enc, m.value)); err != nil {
				return err
			}
		}
		return nil
	}
	panic(fmt.Sprintf("socketio: %T in a message", v))
}

// plain makes v what Config.Encode is promised.
func plain(v any) (any, error) {
	switch v := v.(type) {
	case int:
		return int64(v), nil
	case json.Number:
		return number(v), nil
	case json.RawMessage:
		x, err := parse(v)
		if err != nil {
			return nil, err
		}
		return plain(x)
	case []any:
		list := make([]any, len(v))
		for i, x := range v {
			var err error
			if list[i], err = plain(x); err != nil {
				return nil, err
			}
		}
		return list, nil
	case object:
		m := make(map[string]any, len(v))
		for _, x := range v {
			var err error
			if m[x.key], err = plain(x.value); err != nil {
				return nil, err
			}
		}
		return m, nil
	}
	return v, nil
}

// number is a number of JSON as what JavaScript takes it for: whole where it is written so and has 64 bits, which the
// receiver rounds as it rounds JSON's, and a float64 otherwise.
func number(n json.Number) any {
	text := string(n)
	if !strings.ContainsAny(text, ".eE") && text != "-0" {
		if i, err := strconv.ParseInt(text, 10, 64); err == nil {
			return i
		}
		if u, err := strconv.ParseUint(text, 10, 64); err == nil {
			return u
		}
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil && !errors.Is(err, strconv.ErrRange) { // beyond the range it is ±Inf, which is JavaScript's answer too
		return math.NaN()
	}
	return f
}

// parse reads JSON. Of two members with one name the last counts, in the place of the first: as in JavaScript.
func parse(raw json.RawMessage) (any, error) {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	return parseValue(dec)
}

func parseValue(dec *json.Decoder) (any, error) {
	tok, err := dec.Token()
	if err != nil {
		return nil, err
	}
	switch tok {
	case json.Delim('['):
		list := []any{}
		for dec.More() {
			x, err := parseValue(dec)
			if err != nil {
				return nil, err
			}
			list = append(list, x)
		}
		_, err := dec.Token()
		return list, err
	case json.Delim('{'):
		o := object{}
		at := map[string]int{}
		for dec.More() {
			key, err := dec.Token()
			if err != nil {
				return nil, err
			}
			x, err := parseValue(dec)
			if err != nil {
				return nil, err
			}
			name := key.(string)
			if i, twice := at[name]; twice {
				o[i].value = x
				continue
			}
			at[name] = len(o)
			o = append(o, member{name, x})
		}
		_, err := dec.Token()
		return o, err
	}
	return tok, nil
}

// text makes v text for where the wire has only that: JSON, or with binary in it MessagePack in base64.
func text(v any) (string, error) {
	if !hasBinary(v) {
		return string(appendJSON(nil, v)), nil
	}
	b, err := marshalMsgpack(v)
	return base64.StdEncoding.EncodeToString(b), err
}
