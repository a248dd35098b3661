package socketio

import (
	"cmp"
	"context"
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"unicode"
	"unicode/utf8"

	"github.com/stacksjs/realtime-go/internal/hub"
	protocol "github.com/stacksjs/realtime-go/internal/protocol/socketio"
)

// Options of an [IO]. The zero value is ready.
type Options struct {
	// Logger gets what clients are not told. Nil: slog.Default().
	Logger *slog.Logger
}

// IO is a program's namespaces and what it does in them. Register first, make the server then: everything that registers
// panics once a server has it, and must be called by one goroutine. What sends and asks may be called from many.
type IO struct {
	log        *slog.Logger
	namespaces map[string]*Namespace
	patterns   []*Namespace
	served     atomic.Pointer[served] // nil until a server has them
}

// served is where io's sockets are.
type served struct {
	room *protocol.Room
	app  func() *hub.App // the first
}

// New returns an IO whose one namespace, "/", lets everybody in and knows no event.
func New(o Options) *IO {
	io := &IO{log: o.Logger, namespaces: map[string]*Namespace{}}
	if io.log == nil {
		io.log = slog.Default()
	}
	io.Namespace("/")
	return io
}

// maxNamespace is the longest name of a namespace, in bytes.
const maxNamespace = 200

// Namespace returns the namespace of a name, the same one every time. A name begins with "/" and has at most 200 bytes,
// without commas, question marks, space and control characters. It panics if the name is none, or new when a server has
// the namespaces already.
func (io *IO) Namespace(name string) *Namespace {
	if ns := io.namespaces[name]; ns != nil {
		return ns
	}
	if err := checkNamespace(name); err != nil {
		panic("socketio: " + err.Error())
	}
	io.registering(fmt.Sprintf("Namespace(%q)", name))
	ns := &Namespace{io: io, name: name, events: map[string]handler{}}
	io.namespaces[name] = ns
	return ns
}

// NamespaceFunc returns a namespace that stands for all names that match and were not given to Namespace; the first
// whose match says yes has them. Its handlers learn the name from [Socket.Namespace]; clients in different names do not
// hear each other. What it emits by itself is an error, as nobody knows where: use [IO.Of].
//
// match is asked at every connection, with names that Namespace would accept, by many goroutines. It may take its time, such
// as for asking a store; who connects waits for it, for as long as for OnConnect.
func (io *IO) NamespaceFunc(match func(name string) bool) *Namespace {
	if match == nil {
		panic("socketio: NamespaceFunc(nil)")
	}
	io.registering("NamespaceFunc")
	ns := &Namespace{io: io, match: match, events: map[string]handler{}}
	io.patterns = append(io.patterns, ns)
	return ns
}

// Of selects all sockets of a namespace by its name: that of a namespace, or one that a NamespaceFunc has.
func (io *IO) Of(name string) Target {
	t := Target{io: io, t: protocol.Target{Namespace: name}}
	if io.find(name) == nil {
		t.err = fmt.Errorf("there is no namespace %q", name)
	}
	return t
}

// find returns the namespace that has a name; nil if none has.
func (io *IO) find(name string) *Namespace {
	if ns := io.namespaces[name]; ns != nil {
		return ns
	}
	if len(io.patterns) == 0 || checkNamespace(name) != nil {
		return nil
	}
	for _, ns := range io.patterns {
		if ns.match(name) {
			return ns
		}
	}
	return nil
}

func (io *IO) registering(what string) {
	if io.served.Load() != nil {
		panic("socketio: " + what + " was called after a server got the namespaces")
	}
}

func checkNamespace(name string) error {
	switch {
	case !strings.HasPrefix(name, "/"):
		return fmt.Errorf("namespace %q does not begin with a slash", name)
	case len(name) > maxNamespace:
		return fmt.Errorf("namespace %.20q… has %d bytes, and %d are allowed", name, len(name), maxNamespace)
	case !utf8.ValidString(name) || strings.ContainsFunc(name, func(r rune) bool {
		return r == ',' || r == '?' || unicode.IsSpace(r) || unicode.IsControl(r)
	}):
		return fmt.Errorf("namespace %q holds a comma, a question mark, space, a control character or what is not UTF-8", name)
	}
	return nil
}

// Program is what the program does in a namespace; nil where Namespace was not given the name. It is for package server.
func (io *IO) Program(namespace string) protocol.Program {
	if ns := io.namespaces[namespace]; ns != nil {
		return program{ns}
	}
	return nil
}

// Match is Program for names that a NamespaceFunc has; nil if there is none. It is for package server.
func (io *IO) Match() func(namespace string) protocol.Program {
	if len(io.patterns) == 0 {
		return nil
	}
	return func(namespace string) protocol.Program {
		if ns := io.find(namespace); ns != nil {
			return program{ns}
		}
		return nil
	}
}

// Attach ends the time of registering: the sockets are in r, and where nothing else is said in the app that app returns.
// It is for package server; only one server can have an IO.
func (io *IO) Attach(r *protocol.Room, app func() *hub.App) error {
	if !io.served.CompareAndSwap(nil, &served{r, app}) {
		return errors.New("socketio: the namespaces were given to another server already")
	}
	return nil
}

// Namespace is what a program does in a namespace. An [IO] makes it.
type Namespace struct {
	io    *IO
	name  string                 // empty for NamespaceFunc's
	match func(name string) bool // NamespaceFunc's

	connect    func(context.Context, *Socket) error
	disconnect func(context.Context, *Socket, string)
	events     map[string]handler
	other      func(ctx context.Context, s *Socket, event string, args Args) (Args, error)
}

// handler takes an event and returns what to answer, for those who asked.
type handler func(ctx context.Context, s *Socket, args Args) (reply []any, err error)

// OnConnect registers what happens before a client is told that it is in. An error keeps it out: an [*Error] or an
// auth.Refusal tells it why. What f sends and joins takes effect behind the client's admission. A socket that came back
// and was recovered is asked about like any other; [Socket.Recovered] tells them apart.
func (ns *Namespace) OnConnect(f func(ctx context.Context, s *Socket) error) {
	ns.registering("OnConnect", f == nil, ns.connect != nil)
	ns.connect = f
}

// OnDisconnect registers what happens behind the last event of a socket that OnConnect let in. The socket is gone: it can
// be asked, and told nothing. reason is for reading.
func (ns *Namespace) OnDisconnect(f func(ctx context.Context, s *Socket, reason string)) {
	ns.registering("OnDisconnect", f == nil, ns.disconnect != nil)
	ns.disconnect = f
}

// OnAny registers what happens to events that have no handler of their own, and are none of the channels'. Without it a
// client that asked is told that there is none.
func (ns *Namespace) OnAny(f func(ctx context.Context, s *Socket, event string, args Args) (Args, error)) {
	ns.registering("OnAny", f == nil, ns.other != nil)
	ns.other = f
}

// On registers what happens to an event. An event has one handler: a second one panics, as do the names that Socket.IO
// keeps for itself, and a T that nothing a client sends could become, such as a func for the acknowledgement.
//
// The first argument of the event becomes arg, as encoding/json reads it; more arguments are left alone. An argument
// that is missing or does not fit is the client's error, of which f does not hear. Three types of T say more: struct{}
// takes any arguments, a pointer is nil when there is no argument (or null), and [Args] are all arguments.
//
// The reply is the one argument of the acknowledgement, if the client asked for one. A reply that is a nil any, or of type
// struct{}, is an acknowledgement without arguments, and Args are all of them.
//
// In every namespace the channels have events of their own, such as "subscribe" and "publish"; a handler of such a name
// takes the event away from them.
func On[T, R any](ns *Namespace, event string, f func(ctx context.Context, s *Socket, arg T) (R, error)) {
	what := fmt.Sprintf("On(%q)", event)
	ns.registering(what, f == nil, ns.events[event] != nil)
	if err := protocol.CheckEvent(event); err != nil {
		panic("socketio: " + err.Error())
	}
	if why := unfit(reflect.TypeFor[T]()); why != "" {
		panic("socketio: " + what + " of " + ns.called() + ": " + why)
	}
	ns.events[event] = func(ctx context.Context, s *Socket, args Args) ([]any, error) {
		arg, err := first[T](args)
		if err != nil {
			return nil, misfit(event, err)
		}
		r, err := f(ctx, s, arg)
		if err != nil {
			return nil, err
		}
		switch any(r).(type) {
		case nil, struct{}:
			return nil, nil
		}
		return []any{r}, nil
	}
}

func (ns *Namespace) registering(what string, isNil, twice bool) {
	ns.io.registering(what)
	switch {
	case isNil:
		panic("socketio: " + what + " of " + ns.called() + ": the function is nil")
	case twice:
		panic("socketio: " + what + " of " + ns.called() + " was called twice")
	}
}

// called is the namespace in messages.
func (ns *Namespace) called() string { return cmp.Or(ns.name, "a NamespaceFunc") }

// unfit is why no argument of a client ever fits t; empty if one may. Clients alone would learn of it.
func unfit(t reflect.Type) string {
	of := t
	for ; ; of = of.Elem() {
		if p := reflect.PointerTo(of); p.Implements(reflect.TypeFor[json.Unmarshaler]()) || p.Implements(reflect.TypeFor[encoding.TextUnmarshaler]()) {
			return ""
		}
		if of.Kind() != reflect.Pointer {
			break
		}
	}
	switch k := of.Kind(); {
	case of == reflect.TypeFor[Args]() && of != t:
		return "all arguments are an Args, and no " + t.String()
	case k == reflect.Func, k == reflect.Chan, k == reflect.Complex64, k == reflect.Complex128, k == reflect.UnsafePointer, k == reflect.Interface && of.NumMethod() > 0:
		return "no argument of a client fits " + t.String()
	}
	return ""
}

// first decodes the first argument.
func first[T any](args Args) (arg T, err error) {
	switch p := any(&arg).(type) {
	case *struct{}:
		return arg, nil
	case *Args:
		*p = args
		return arg, nil
	}
	if args.Len() == 0 {
		if reflect.TypeFor[T]().Kind() == reflect.Pointer {
			return arg, nil
		}
		return arg, errMissing
	}
	err = args.Decode(0, &arg)
	return arg, err
}

// All selects all sockets of the namespace.
func (ns *Namespace) All() Target {
	t := Target{io: ns.io, t: protocol.Target{Namespace: ns.name}}
	if ns.name == "" {
		t.err = errors.New("a NamespaceFunc has many names: IO.Of selects one")
	}
	return t
}

// To selects the sockets that are in any of the rooms, each once. A socket's id is a room.
func (ns *Namespace) To(rooms ...string) Target { return ns.All().To(rooms...) }

// Except selects all sockets of the namespace but those in any of the rooms.
func (ns *Namespace) Except(rooms ...string) Target { return ns.All().Except(rooms...) }

// Emit sends an event to all sockets of the namespace; see [Target.Emit].
func (ns *Namespace) Emit(ctx context.Context, event string, args ...any) error {
	return ns.All().Emit(ctx, event, args...)
}

// program is a namespace as the protocol's room sees it.
type program struct{ ns *Namespace }

func (p program) Connect(ctx context.Context, s *protocol.Socket) (err error) {
	if p.ns.connect == nil {
		return nil
	}
	defer func() { err = p.ns.io.refusal(err) }()
	defer recovered(&err)
	return p.ns.connect(ctx, (*Socket)(s))
}

func (p program) Handles(event string) bool { return p.ns.events[event] != nil }

func (p program) Event(ctx context.Context, s *protocol.Socket, name string, in protocol.Args, answer func(protocol.Args)) {
	reply, err := p.ns.handle(ctx, (*Socket)(s), name, newArgs(in))
	var out protocol.Args
	if err == nil && answer != nil {
		out, err = encode(reply)
	}
	told := toldOf(err)
	switch {
	case err != nil && told == nil:
		p.ns.io.log.Warn("the program's handler of a Socket.IO event failed", "namespace", s.Namespace(), "event", fmt.Sprintf("%.100s", name), "socket", s.ID(), "error", err)
		told = &Error{Message: "internal error"}
	case err != nil:
		p.ns.io.log.Debug("a Socket.IO event was refused", "namespace", s.Namespace(), "event", fmt.Sprintf("%.100s", name), "socket", s.ID(), "error", err)
	}
	if answer == nil {
		return
	}
	if told != nil {
		if out, err = told.answer(); err != nil {
			p.ns.io.log.Warn("the data of an error cannot be told", "namespace", s.Namespace(), "event", name, "error", err)
		}
	}
	answer(out)
}

func (p program) Disconnect(ctx context.Context, s *protocol.Socket, reason string) {
	if p.ns.disconnect == nil {
		return
	}
	var err error
	func() {
		defer recovered(&err)
		p.ns.disconnect(ctx, (*Socket)(s), reason)
	}()
	if err != nil {
		p.ns.io.log.Warn("the program's OnDisconnect failed", "namespace", s.Namespace(), "socket", s.ID(), "error", err)
	}
}

// handle runs the handler of an event.
func (ns *Namespace) handle(ctx context.Context, s *Socket, name string, args Args) (reply []any, err error) {
	defer recovered(&err)
	if h := ns.events[name]; h != nil {
		return h(ctx, s, args)
	}
	if ns.other == nil {
		return nil, &Error{Message: fmt.Sprintf("there is no handler for the event %.100q", name)}
	}
	out, err := ns.other(ctx, s, name, args)
	return []any{out}, err
}

// recovered makes an error of a panic.
func recovered(err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
	}
}
