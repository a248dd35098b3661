package socketio

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/stacksjs/realtime-go/internal/jsontext"
	protocol "github.com/stacksjs/realtime-go/internal/protocol/socketio"
)

// MaxAttachments is how many attachments the arguments of one event or acknowledgement may have: clients disconnect when
// there are more.
const MaxAttachments = 10

// Binary is bytes that travel as an attachment, wherever in a value they stand. A nil Binary is null. An attachment can be
// decoded into a Binary or a []byte.
//
// It is for values that are emitted. In other JSON that encoding/json makes of it only this process can read it: what is
// stored or sent elsewhere should hold a []byte.
type Binary []byte

// mark begins the strings that stand for attachments while a value is encoded. Nobody can know it.
var mark = rand.Text() + ":"

// MarshalJSON implements json.Marshaler.
func (b Binary) MarshalJSON() ([]byte, error) {
	if b == nil {
		return []byte("null"), nil
	}
	out := make([]byte, 0, 2+len(mark)+base64.StdEncoding.EncodedLen(len(b)))
	out = append(out, '"')
	out = append(out, mark...)
	out = base64.StdEncoding.AppendEncode(out, b)
	return append(out, '"'), nil
}

// UnmarshalJSON implements json.Unmarshaler.
func (b *Binary) UnmarshalJSON(text []byte) error {
	var s *string
	if err := json.Unmarshal(text, &s); err != nil {
		return err
	}
	if s == nil {
		*b = nil
		return nil
	}
	out, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(*s, mark))
	if err != nil {
		return err
	}
	*b = out
	return nil
}

// Args are the arguments of an event or an acknowledgement. The zero value has none. They do not change.
type Args struct {
	p     protocol.Args
	items []string // pieces of p.JSON
}

// MakeArgs makes arguments of values, as Emit does.
func MakeArgs(values ...any) (Args, error) {
	p, err := encode(values)
	if err != nil {
		return Args{}, fmt.Errorf("socketio: %w", err)
	}
	return newArgs(p), nil
}

// newArgs takes apart what the protocol's room checked.
func newArgs(p protocol.Args) Args {
	a := Args{p: p}
	_ = jsontext.Array(p.JSON, func(_ int, v jsontext.Value) { a.items = append(a.items, string(v)) })
	return a
}

// Len is the number of arguments.
func (a Args) Len() int { return len(a.items) }

// Raw is the JSON text of argument i; attachments stand in it as base64 strings. It panics if there is no such argument.
func (a Args) Raw(i int) json.RawMessage {
	item := a.items[i]
	if len(a.p.Blobs) == 0 {
		return json.RawMessage(item)
	}
	var b []byte
	from := 0
	_ = protocol.EachPlaceholder(item, func(at, to, num int) error {
		b = append(b, item[from:at]...)
		b = append(b, '"')
		b = base64.StdEncoding.AppendEncode(b, a.p.Blobs[num])
		b = append(b, '"')
		from = to
		return nil
	})
	return append(b, item[from:]...)
}

// MarshalJSON makes them a list, for where Args stand within another value. Attachments are base64 strings in it.
func (a Args) MarshalJSON() ([]byte, error) {
	b := []byte{'['}
	for i := range a.items {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, a.Raw(i)...)
	}
	return append(b, ']'), nil
}

// Decode reads argument i, counted from 0, into v as json.Unmarshal does. Attachments go into []byte and [Binary], and are
// base64 strings to everything else. The bytes of an argument that is an attachment itself are not copied, and must not be
// changed. An argument that is not there is an error.
func (a Args) Decode(i int, v any) error {
	if i < 0 || i >= len(a.items) {
		return fmt.Errorf("args[%d] is missing: there are %d arguments", i, len(a.items))
	}
	var to *[]byte
	switch v := v.(type) {
	case *[]byte:
		to = v
	case *Binary:
		to = (*[]byte)(v)
	}
	if to != nil {
		if num := a.attachment(i); num >= 0 {
			b := a.p.Blobs[num]
			*to = b[:len(b):len(b)]
			return nil
		}
	}
	return json.Unmarshal(a.Raw(i), v)
}

// attachment is the number of the attachment that argument i is; -1 if it is something else.
func (a Args) attachment(i int) int {
	found := -1
	if item := a.items[i]; len(a.p.Blobs) > 0 && item[0] == '{' {
		_ = protocol.EachPlaceholder(item, func(from, to, num int) error {
			if from == 0 && to == len(item) {
				found = num
			}
			return nil
		})
	}
	return found
}

// encode makes arguments of values; Args among them stand for all of theirs.
func encode(values []any) (protocol.Args, error) {
	if len(values) == 1 {
		if a, ok := values[0].(Args); ok && a.p.JSON != "" {
			return a.p, nil
		}
	}
	var e encoder
	e.json = append(e.json, '[')
	for i, v := range values {
		if err := e.add(v); err != nil {
			return protocol.Args{}, fmt.Errorf("args[%d]: %w", i, err)
		}
	}
	e.json = append(e.json, ']')
	out := protocol.Args{JSON: string(e.json), Blobs: e.blobs}
	if n := len(out.Blobs); n > MaxAttachments {
		return protocol.Args{}, fmt.Errorf("%d attachments, and clients take %d", n, MaxAttachments)
	}
	if len(out.Blobs) > 0 {
		if err := out.Check(); err != nil {
			return protocol.Args{}, fmt.Errorf("beside the attachments there is an object that clients would take for one: %w", err)
		}
	}
	return out, nil
}

type encoder struct {
	json  []byte
	blobs [][]byte
}

func (e *encoder) next() {
	if len(e.json) > 1 {
		e.json = append(e.json, ',')
	}
}

func (e *encoder) add(v any) error {
	switch v := v.(type) {
	case Args:
		base := len(e.blobs)
		for _, item := range v.items {
			e.next()
			from := 0
			if len(v.p.Blobs) > 0 {
				err := protocol.EachPlaceholder(item, func(at, to, num int) error {
					e.json = append(e.json, item[from:at]...)
					e.placeholder(base + num)
					from = to
					return nil
				})
				if err != nil {
					return err
				}
			}
			e.json = append(e.json, item[from:]...)
		}
		e.blobs = append(e.blobs, v.p.Blobs...)
		return nil
	case []byte:
		e.next()
		e.blob(v)
		return nil
	case Binary:
		e.next()
		e.blob(v)
		return nil
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return err
	}
	e.next()
	return e.splice(string(bytes.TrimSuffix(b.Bytes(), []byte("\n"))))
}

// splice appends JSON in which Binaries are marked.
func (e *encoder) splice(text string) error {
	begin := `"` + mark
	for {
		i := strings.Index(text, begin)
		if i < 0 {
			e.json = append(e.json, text...)
			return nil
		}
		if i > 0 && text[i-1] == '\\' { // within a string: somebody's JSON of a Binary
			e.json = append(e.json, text[:i+1]...)
			text = text[i+1:]
			continue
		}
		e.json = append(e.json, text[:i]...)
		text = text[i+len(begin):]
		end := strings.IndexByte(text, '"')
		if end < 0 {
			return errors.New("an attachment has no end")
		}
		blob, err := base64.StdEncoding.DecodeString(text[:end])
		if err != nil {
			return err
		}
		e.blob(blob)
		text = text[end+1:]
	}
}

func (e *encoder) blob(b []byte) {
	if b == nil {
		e.json = append(e.json, "null"...)
		return
	}
	e.placeholder(len(e.blobs))
	e.blobs = append(e.blobs, b)
}

func (e *encoder) placeholder(num int) {
	e.json = append(e.json, `{"_placeholder":true,"num":`...)
	e.json = strconv.AppendInt(e.json, int64(num), 10)
	e.json = append(e.json, '}')
}
