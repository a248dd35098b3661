package socketio

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/stacksjs/realtime-go/internal/jsontext"
)

// kind is the type of a Socket.IO packet, as it stands on the wire.
type kind byte

const (
	connect kind = '0' + iota
	disconnect
	event
	ack
	connectError
	binaryEvent
	binaryAck
)

func (k kind) String() string {
	names := [...]string{"CONNECT", "DISCONNECT", "EVENT", "ACK", "CONNECT_ERROR", "BINARY_EVENT", "BINARY_ACK"}
	if k < connect || k > binaryAck {
		return fmt.Sprintf("packet type %q", byte(k))
	}
	return names[k-connect]
}

func (k kind) binary() bool { return k == binaryEvent || k == binaryAck }

// packet is one Socket.IO packet, the content of an Engine.IO message:
//
//	<type>[<attachments>-][<namespace>,][<ack id>][<JSON>]
type packet struct {
	kind  kind
	nsp   string // "/" when none is written
	query string // protocol 4 only: what stood behind ? in the namespace
	id    uint64 // of an acknowledgement wanted or given
	hasID bool
	blobs int    // attachments announced
	data  string // JSON text as it came, without space around it; empty when there is none

	// of events: the name, and the first argument, empty when there is none
	name, arg jsontext.Value
}

// idLimit is what ids stay below: a client counts in float64.
const idLimit = 1 << 53

// parse reads a packet strictly: an unknown type, a payload of the wrong form for its type, a reserved event name, a bad
// id, more than maxBlobs attachments, and invalid JSON are errors that say so. Whether
// the placeholders of a binary packet are the right ones is for placeholders. text is UTF-8; the packet's strings are
// pieces of it.
//
// v4 chooses Socket.IO protocol 4 (Engine.IO 3): a namespace may have a query, and a refusal may be a mere string.
func parse(text string, maxBlobs int, v4 bool) (packet, error) {
	if text == "" {
		return packet{}, errors.New("a packet without a type")
	}
	p := packet{kind: kind(text[0]), nsp: "/"}
	if p.kind < connect || p.kind > binaryAck {
		return packet{}, fmt.Errorf("unknown packet type %q", text[0])
	}
	rest := text[1:]
	if p.kind.binary() {
		n, after, err := number(rest, uint64(maxBlobs)+1)
		if err != nil {
			return packet{}, fmt.Errorf("attachments of a %s: %w", p.kind, err)
		}
		if !strings.HasPrefix(after, "-") {
			return packet{}, fmt.Errorf("no '-' behind the number of attachments of a %s", p.kind)
		}
		p.blobs, rest = int(n), after[1:]
	}
	if strings.HasPrefix(rest, "/") {
		p.nsp, rest, _ = strings.Cut(rest, ",") // which some clients leave out where nothing follows
		if v4 {
			p.nsp, p.query, _ = strings.Cut(p.nsp, "?")
		}
	}
	if rest != "" && rest[0] >= '0' && rest[0] <= '9' {
		n, after, err := number(rest, idLimit)
		if err != nil {
			return packet{}, fmt.Errorf("id of a %s: %w", p.kind, err)
		}
		p.id, p.hasID, rest = n, true, after
	}
	p.data = strings.Trim(rest, " \t\r\n")
	if err := p.check(v4); err != nil {
		return packet{}, err
	}
	return p, nil
}

// number reads the decimal digits at the start of s, a number below limit.
func number(s string, limit uint64) (n uint64, rest string, err error) {
	i := 0
	for ; i < len(s) && s[i] >= '0' && s[i] <= '9'; i++ {
		if n = n*10 + uint64(s[i]-'0'); n >= limit {
			return 0, "", fmt.Errorf("more than %d", limit-1)
		}
	}
	if i == 0 {
		return 0, "", errors.New("digits are missing")
	}
	return n, s[i:], nil
}

// check compares id and data with what the packet's kind wants.
func (p *packet) check(v4 bool) error {
	var err error
	switch p.kind {
	case event, binaryEvent:
		err = jsontext.Array(p.data, func(i int, v jsontext.Value) {
			switch i {
			case 0:
				p.name = v
			case 1:
				p.arg = v
			}
		})
		if err == nil {
			err = checkName(p.name)
		}
	case ack, binaryAck:
		if !p.hasID {
			return fmt.Errorf("%s without an id", p.kind)
		}
		err = jsontext.Array(p.data, func(int, jsontext.Value) {})
	default:
		switch {
		case p.hasID:
			return fmt.Errorf("%s with an id", p.kind)
		case p.kind == connect && p.data == "":
		case p.kind == disconnect:
			if p.data != "" {
				err = errors.New("it has data")
			}
		case p.kind == connectError && v4 && strings.HasPrefix(p.data, `"`):
			if !jsontext.Valid(p.data) {
				err = errors.New("its data is not JSON")
			}
		default:
			err = jsontext.Object(p.data, func(string, jsontext.Value) {})
		}
	}
	if err != nil {
		return fmt.Errorf("%s: %w", p.kind, err)
	}
	return nil
}

func checkName(v jsontext.Value) error {
	if v == "" {
		return errors.New("no event name")
	}
	if c := v[0]; c == '-' || c >= '0' && c <= '9' {
		return nil
	}
	name, ok := v.Text()
	if !ok {
		return fmt.Errorf("the event name is neither a string nor a number: %.50s", string(v))
	}
	if reserved(name) {
		return fmt.Errorf("the event name %q is reserved", name)
	}
	return nil
}

// reserved reports whether clients and servers use name for events of their own: neither may send it.
func reserved(name string) bool {
	switch name {
	case "connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener":
		return true
	}
	return false
}

// CheckEvent says what is wrong with the name of an event that a program sends or takes.
func CheckEvent(name string) error {
	switch {
	case reserved(name):
		return fmt.Errorf("the event name %q is reserved", name)
	case !utf8.ValidString(name):
		return fmt.Errorf("the event name %q is not valid UTF-8", name)
	}
	return nil
}

// appendHead appends everything before the JSON: type, attachments, namespace, id. blobs counts for binary kinds only.
func appendHead(dst []byte, k kind, blobs int, nsp string, id uint64, hasID bool) []byte {
	dst = append(dst, byte(k))
	if k.binary() {
		dst = strconv.AppendInt(dst, int64(blobs), 10)
		dst = append(dst, '-')
	}
	if nsp != "/" {
		dst = append(dst, nsp...)
		dst = append(dst, ',')
	}
	if hasID {
		dst = strconv.AppendUint(dst, id, 10)
	}
	return dst
}

// splitEvent takes apart the data of an EVENT that parse let through: the name (of one that is a number, its text), and
// the JSON array of the arguments behind it, "[]" when there are none.
func splitEvent(data string) (name, args string) {
	inner := space(data[1:])
	end := 0
	if inner[0] == '"' {
		end = stringEnd(inner)
		name, _ = jsontext.Value(inner[:end]).Text()
	} else {
		end = strings.IndexAny(inner, ",] \t\r\n")
		name = inner[:end]
	}
	rest := space(inner[end:])
	if rest[0] == ']' {
		return name, "[]"
	}
	return name, "[" + space(rest[1:])
}

func space(s string) string { return strings.TrimLeft(s, " \t\r\n") }

// stringEnd is where the JSON string ends that s begins with.
func stringEnd(s string) int {
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '"':
			return i + 1
		case '\\':
			i++
		}
	}
	return len(s)
}

// Check tells whether a client would find each of the attachments, once, and nothing else that looks like one.
func (a Args) Check() error { return placeholders(a.JSON, len(a.Blobs)) }

// EachPlaceholder calls each with the place and the number of every placeholder in data, which is valid JSON.
func EachPlaceholder(data string, each func(from, to, num int) error) error {
	return eachPlaceholder(data, each)
}

// placeholders checks that data, valid JSON of a binary packet with n attachments, has one placeholder for each of them
// and no other.
func placeholders(data string, n int) error {
	var few [32]bool
	seen := few[:]
	if n > len(few) {
		seen = make([]bool, n)
	}
	found := 0
	err := eachPlaceholder(data, func(_, _, num int) error {
		if num >= n {
			return fmt.Errorf("placeholder %d, but there are %d attachments", num, n)
		}
		if seen[num] {
			return fmt.Errorf("placeholder %d stands twice", num)
		}
		seen[num] = true
		found++
		return nil
	})
	if err == nil && found < n {
		return fmt.Errorf("%d attachments, but %d placeholders", n, found)
	}
	return err
}

// eachPlaceholder calls each with the place and the number of every placeholder in data, which is valid JSON. One that
// has other fields, or a num that is no number, is an error.
func eachPlaceholder(data string, each func(from, to, num int) error) error {
	for i := 0; i < len(data); {
		switch data[i] {
		case '{':
			size, num := placeholder(data[i:])
			if size == 0 {
				i++
				continue
			}
			if err := each(i, i+size, num); err != nil {
				return err
			}
			i += size
		case '"':
			end := i + stringEnd(data[i:])
			if v, ok := strings.CutPrefix(space(data[end:]), ":"); ok && strings.HasPrefix(space(v), "true") {
				// Clients look at the decoded name.
				if name, _ := jsontext.Value(data[i:end]).Text(); name == "_placeholder" {
					return errors.New("a placeholder is not of the form {\"_placeholder\":true,\"num\":0}")
				}
			}
			i = end
		default:
			i++
		}
	}
	return nil
}

// placeholder reads a placeholder at the start of s, its fields in either order; size is 0 if there is none.
func placeholder(s string) (size, num int) {
	at, have := 1, 0
	skip := func(token string) bool {
		at = len(s) - len(space(s[at:]))
		if !strings.HasPrefix(s[at:], token) {
			return false
		}
		at += len(token)
		return true
	}
	for _, separator := range [...]string{",", "}"} {
		switch {
		case have != 1 && skip(`"_placeholder"`) && skip(":") && skip("true"):
			have |= 1
		case have != 2 && skip(`"num"`) && skip(":"):
			skip("")
			n, rest, err := number(s[at:], 1<<31)
			if err != nil {
				return 0, 0
			}
			num, at = int(n), len(s)-len(rest)
			have |= 2
		default:
			return 0, 0
		}
		if !skip(separator) {
			return 0, 0
		}
	}
	return at, num
}
