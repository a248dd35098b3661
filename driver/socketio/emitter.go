package socketio

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"unicode/utf8"

	"github.com/stacksjs/realtime-go"
)

// Emitter is a selection of a namespace's sockets: all of them, until To and Except say otherwise. It is a value: its
// methods return another one, and any number of goroutines may share it. What was wrong with a selection is told by what
// is done with it.
type Emitter struct {
	d   *Driver
	to  target
	err error
}

// Namespace selects all sockets of a namespace, such as "/admin"; "" is "/".
func (d *Driver) Namespace(name string) Emitter {
	e := Emitter{d: d, to: target{namespace: namespace(name)}}
	if err := checkNamespace(e.to.namespace); err != nil {
		e.err = fmt.Errorf("the namespace %w", err)
	}
	return e
}

// To selects the sockets that are in any of the rooms, and of the rooms said before; each socket counts once. A socket's id
// is the room of that socket alone. Without any room it is an error: it would be everybody.
func (e Emitter) To(rooms ...string) Emitter {
	if len(rooms) == 0 && e.err == nil {
		e.err = errors.New("To was given no room, and that would be everybody")
	}
	e.to.rooms = e.add(e.to.rooms, rooms)
	return e
}

// Except leaves out the sockets that are in any of the rooms, or have an id that is named.
func (e Emitter) Except(rooms ...string) Emitter {
	e.to.except = e.add(e.to.except, rooms)
	return e
}

// add returns have and those of rooms that it has not.
func (e *Emitter) add(have, rooms []string) []string {
	all := slices.Clone(have)
	for _, r := range rooms {
		if err := checkRoom(r); err != nil && e.err == nil {
			e.err = err
		}
		if !slices.Contains(all, r) {
			all = append(all, r)
		}
	}
	return all
}

// Volatile lets servers drop the event for clients that cannot take it at this moment.
func (e Emitter) Volatile() Emitter { return e.flag("volatile", true) }

// Compress says whether servers compress the event, where they have compression on. It is so without being said.
func (e Emitter) Compress(on bool) Emitter { return e.flag("compress", on) }

func (e Emitter) flag(name string, on bool) Emitter {
	e.to.flags = append(slices.DeleteFunc(slices.Clone(e.to.flags), func(m member) bool { return m.key == name }), member{name, on})
	return e
}

// Emit sends an event. An argument that is a []byte arrives as binary, also inside of []any and map[string]any; of all other
// values clients get what encoding/json makes of them, so bytes in a struct are text in base64. Numbers become JavaScript's:
// whole ones are exact up to 2^53.
//
// It returns nil once Redis has the message, whoever may hear it.
func (e Emitter) Emit(ctx context.Context, event string, args ...any) error {
	return e.do(ctx, fmt.Sprintf("event %.60q", event), func() (command, error) {
		if err := checkEvent(event); err != nil {
			return command{}, err
		}
		data, err := arguments(args)
		if err != nil {
			return command{}, err
		}
		return e.d.emit(e.to, append([]any{event}, data...))
	})
}

// Join has the selected sockets join rooms.
func (e Emitter) Join(ctx context.Context, rooms ...string) error { return e.move(ctx, join, rooms) }

// Leave has the selected sockets leave rooms.
func (e Emitter) Leave(ctx context.Context, rooms ...string) error { return e.move(ctx, leave, rooms) }

func (e Emitter) move(ctx context.Context, r request, rooms []string) error {
	name := map[request]string{join: "Join", leave: "Leave"}[r]
	return e.do(ctx, name, func() (command, error) {
		if len(rooms) == 0 {
			return command{}, errors.New("it was given no room")
		}
		for _, r := range rooms {
			if err := checkRoom(r); err != nil {
				return command{}, err
			}
		}
		return e.d.ask(e.to, r, object{{"rooms", list(rooms)}})
	})
}

// Disconnect disconnects the selected sockets from the namespace, and with close their connections with all that they
// carry. Clients do not come back by themselves.
func (e Emitter) Disconnect(ctx context.Context, close bool) error {
	return e.do(ctx, "Disconnect", func() (command, error) {
		return e.d.ask(e.to, disconnect, object{{"close", close}})
	})
}

// ServerSideEmit sends an event to the servers of the namespace, which hear it with io.of(namespace).on(event). It has no
// acknowledgement, and no selection of sockets. With the classic adapter a []byte needs servers whose adapter reads requests
// in MessagePack too: @socket.io/redis-adapter 8 does.
func (e Emitter) ServerSideEmit(ctx context.Context, event string, args ...any) error {
	return e.do(ctx, fmt.Sprintf("server-side event %.60q", event), func() (command, error) {
		if len(e.to.rooms)+len(e.to.except)+len(e.to.flags) > 0 {
			return command{}, errors.New("servers are no sockets: To, Except, Volatile and Compress do not go with ServerSideEmit")
		}
		if err := checkEvent(event); err != nil {
			return command{}, err
		}
		data, err := arguments(args)
		if err != nil {
			return command{}, err
		}
		return e.d.ask(e.to, serverSideEmit, object{{"packet", append([]any{event}, data...)}})
	})
}

func (e Emitter) do(ctx context.Context, what string, message func() (command, error)) error {
	if e.d == nil && e.err == nil {
		e.err = errors.New("the zero Emitter selects nothing: Driver.Namespace makes one")
	}
	if e.err != nil {
		return fmt.Errorf("socketio: %s: %w", what, e.err)
	}
	c, err := message()
	if err == nil {
		err = e.d.fits(&c)
	}
	if err == nil {
		_, err = e.d.send(ctx, []command{c})
	}
	if err != nil && err != realtime.ErrClosed {
		return fmt.Errorf("socketio: %s: %w", what, err)
	}
	return err
}

// fits says what keeps a command from being sent for its size.
func (d *Driver) fits(c *command) error {
	if limit := d.cfg.MaxPayload; limit > 0 && c.size() > limit {
		return fmt.Errorf("its message has %d bytes, more than the %d of MaxPayload", c.size(), limit)
	}
	return nil
}

func checkRoom(room string) error {
	if room == "" {
		return errors.New("a room has an empty name")
	}
	if !utf8.ValidString(room) {
		return fmt.Errorf("room %.60q is not valid UTF-8", room)
	}
	return nil
}

// reserved are the events that Socket.IO keeps for itself.
var reserved = []string{"connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"}

func checkEvent(name string) error {
	switch {
	case name == "":
		return errors.New("its name is empty")
	case !utf8.ValidString(name):
		return errors.New("its name is not valid UTF-8")
	case slices.Contains(reserved, name):
		return fmt.Errorf("Socket.IO keeps the name %s for itself", name)
	}
	return nil
}
