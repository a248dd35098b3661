package realtime

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
)

// Event is a payload that names itself and knows where it goes. Its exported fields, through encoding/json,
// are what listeners get. Value and pointer receivers both work.
//
// A payload may also have
//
//	Validate() error      // runs before Handle; its error is Broadcast's, and nothing is sent
//	BroadcastWhen() bool  // false: nothing is sent, and Broadcast returns nil
type Event interface {
	// EventName is the name the event is broadcast by and listeners bind to. Registration asks a zero value.
	EventName() string
	// Handle sends the event where it belongs, with Channel or User and the ctx it is given.
	Handle(ctx context.Context) error
}

// Events is the table of an application's events: which name takes which payload, and what handles it.
// The zero value is an empty table. All its functions may be called concurrently, and one table may serve
// several Broadcasters. What is registered after New holds too, but only Err tells what is wrong with it.
type Events struct {
	mu     sync.RWMutex
	byName map[string]*handler
	errs   []error
}

// handler is one line of the table.
type handler struct {
	name    string
	payload reflect.Type                             // never a pointer
	call    func(ctx context.Context, ptr any) error // ptr is a pointer to payload
}

// NewEvents returns an empty table.
func NewEvents() *Events { return &Events{} }

// Register adds an event whose payload handles itself. E is the payload, or a pointer to it where the
// methods have pointer receivers. What is wrong with a registration is kept for Err and New.
func Register[E Event](e *Events) {
	t := reflect.TypeFor[E]()
	if t.Kind() == reflect.Interface {
		e.fail(fmt.Errorf("realtime: Register[%v]: an interface cannot be decoded into; register the struct", t))
		return
	}
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	e.add(selfHandled(reflect.New(t).Interface().(Event).EventName(), t))
}

func selfHandled(name string, payload reflect.Type) *handler {
	return &handler{name, payload, func(ctx context.Context, ptr any) error { return ptr.(Event).Handle(ctx) }}
}

// HandleFunc adds an event that fn handles: the form for handlers that need a store, a mailer or anything
// else their closure holds. T is the payload: a struct, a pointer to one, a map, or json.RawMessage for
// JSON as it came. What is wrong with a registration is kept for Err and New.
func HandleFunc[T any](e *Events, name string, fn func(ctx context.Context, data T) error) {
	t := reflect.TypeFor[T]()
	switch {
	case t.Kind() == reflect.Interface:
		e.fail(fmt.Errorf("realtime: HandleFunc[%v](%q): an interface cannot be decoded into; use a struct, a map or json.RawMessage", t, name))
	case fn == nil:
		e.fail(fmt.Errorf("realtime: HandleFunc(%q): the function is nil", name))
	case t.Kind() == reflect.Pointer:
		e.add(&handler{name, t.Elem(), func(ctx context.Context, ptr any) error { return fn(ctx, ptr.(T)) }})
	default:
		e.add(&handler{name, t, func(ctx context.Context, ptr any) error { return fn(ctx, *ptr.(*T)) }})
	}
}

func (e *Events) add(h *handler) {
	if err := validateEventName(h.name); err != nil {
		e.fail(fmt.Errorf("realtime: event of %v: %w", h.payload, err))
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if old := e.byName[h.name]; old != nil {
		e.errs = append(e.errs, fmt.Errorf("realtime: event %q is registered twice: for %s and for %s", h.name, typeName(old.payload, h.payload), typeName(h.payload, old.payload)))
		return
	}
	if e.byName == nil {
		e.byName = make(map[string]*handler)
	}
	e.byName[h.name] = h
}

func (e *Events) fail(err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.errs = append(e.errs, err)
}

// Err returns all that went wrong while registering: duplicate, empty, overlong and reserved names. New
// returns it too, so that a program with such a table does not start.
func (e *Events) Err() error {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return errors.Join(e.errs...)
}

// find returns nil for a name that is not registered. A nil table has no names.
func (e *Events) find(name string) *handler {
	if e == nil {
		return nil
	}
	e.mu.RLock()
	defer e.mu.RUnlock()
	return e.byName[name]
}

func (e *Events) unknown(name string) error {
	const most = 3
	var names []string
	if e != nil {
		e.mu.RLock()
		for n := range e.byName {
			names = append(names, n)
		}
		e.mu.RUnlock()
	}
	if len(names) == 0 {
		return fmt.Errorf("realtime: event %.60q is unknown: no events are registered", name)
	}
	if len(name) > MaxEventName {
		return fmt.Errorf("realtime: event %.60q… is unknown: names have at most %d bytes", name, MaxEventName)
	}
	distance := make(map[string]int, len(names))
	for _, n := range names {
		distance[n] = editDistance(strings.ToLower(name), strings.ToLower(n))
	}
	slices.SortFunc(names, func(a, b string) int {
		return cmp.Or(cmp.Compare(distance[a], distance[b]), cmp.Compare(a, b))
	})
	for i, n := range names[:min(most, len(names))] {
		names[i] = fmt.Sprintf("%q", n)
	}
	return fmt.Errorf("realtime: event %q is unknown: nearest of %d registered: %s", name, len(names), strings.Join(names[:min(most, len(names))], ", "))
}

// editDistance is Levenshtein's: insertions, deletions and substitutions of bytes that turn a into b.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1) // distances of a[:i] to every b[:j]
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			substitute := diagonal
			if a[i] != b[j] {
				substitute++
			}
			diagonal = row[j+1]
			row[j+1] = min(substitute, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// payloadOf turns what was given to Broadcast into a pointer to the handler's payload.
func (h *handler) payloadOf(data any) (any, error) {
	v := reflect.ValueOf(data)
	if v.IsValid() {
		switch v.Type() {
		case h.payload:
			ptr := reflect.New(h.payload)
			ptr.Elem().Set(v)
			return ptr.Interface(), nil
		case reflect.PointerTo(h.payload):
			if v.IsNil() {
				return nil, fmt.Errorf("realtime: event %q was given a nil %v", h.name, v.Type())
			}
			return data, nil
		}
	}
	var raw []byte
	switch d := data.(type) {
	case nil:
		raw = []byte("null")
	case json.RawMessage:
		raw = d
	case []byte:
		raw = d
	default:
		if v.Kind() != reflect.Map {
			return nil, fmt.Errorf("realtime: event %q takes %s, not %s: give it that type, a pointer to it, a map, or raw JSON", h.name, typeName(h.payload, v.Type()), typeName(v.Type(), h.payload))
		}
		var err error
		if raw, err = marshal(h.name, data); err != nil {
			return nil, err
		}
	}
	ptr := reflect.New(h.payload)
	if err := decode(h.name, raw, ptr); err != nil {
		return nil, err
	}
	return ptr.Interface(), nil
}

// run does what Event promises, with a pointer to the payload.
func (h *handler) run(ctx context.Context, ptr any) error {
	if p, ok := ptr.(interface{ Validate() error }); ok {
		if err := p.Validate(); err != nil {
			return fmt.Errorf("realtime: event %q is not valid: %w", h.name, err)
		}
	}
	if p, ok := ptr.(interface{ BroadcastWhen() bool }); ok && !p.BroadcastWhen() {
		return nil
	}
	return h.call(ctx, ptr)
}

// typeName tells t from other even where two packages share their last element.
func typeName(t, other reflect.Type) string {
	if t != other && t.String() == other.String() {
		return t.PkgPath() + "." + t.Name()
	}
	return t.String()
}
