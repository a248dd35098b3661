package socketio

import (
	"fmt"
	"unicode/utf16"
)

// uid stands where a server has its own id: every server takes the message for somebody else's.
const uid = "emitter"

// target is whom a message is for: the sockets in any of the rooms, each once, or without rooms all of the namespace, but
// for those in one of except.
type target struct {
	namespace     string
	rooms, except []string
	flags         object
}

// request is something that servers shall do.
type request int

const (
	broadcast request = iota
	join
	leave
	disconnect
	serverSideEmit
)

// types are the requests' numbers on the wire: among themselves the classic adapter's and the others' have nothing in
// common.
var types = [...]struct{ classic, cluster int }{broadcast: {0, 3}, join: {2, 4}, leave: {3, 5}, disconnect: {4, 6}, serverSideEmit: {6, 9}}

// command is a message as Redis is given it.
type command struct {
	verb    string   // PUBLISH, SPUBLISH or XADD
	key     string   // the channel, or the stream
	payload string   // of the first two
	fields  []string // of the third: names and values
	// all says that every server of the cluster gets it.
	all bool
	// once names it among all messages of the last idWindow, of which Redis takes the first. Empty means that there is no
	// such name.
	once string
}

func (c *command) size() int {
	n := len(c.payload)
	for _, f := range c.fields {
		n += len(f)
	}
	return n
}

// emit makes an event's message: data is its name and arguments.
func (d *Driver) emit(to target, data []any) (command, error) {
	packet := object{{"type", 2}, {"data", data}, {"nsp", to.namespace}}
	if d.cfg.Adapter != Classic {
		return d.cluster(to, broadcast, object{{"packet", packet}, {"opts", to.options()}})
	}
	c := command{verb: "PUBLISH", key: d.cfg.Prefix + "#" + to.namespace + "#", all: true}
	if len(to.rooms) == 1 {
		c.key += to.rooms[0] + "#"
	}
	opts := object{{"rooms", list(to.rooms)}, {"flags", flags(to.flags)}, {"except", list(to.except)}}
	var err error
	c.payload, err = d.encode([]any{uid, packet, opts})
	return c, err
}

// ask makes a request's message. what is its own members.
func (d *Driver) ask(to target, r request, what object) (command, error) {
	if d.cfg.Adapter != Classic {
		data := what
		if r != serverSideEmit {
			data = append(object{{"opts", to.options()}}, what...)
		}
		return d.cluster(to, r, data)
	}
	c := command{verb: "PUBLISH", key: d.cfg.Prefix + "-request#" + to.namespace + "#", all: true}
	m := object{{"type", types[r].classic}}
	if r == serverSideEmit {
		m = object{{"uid", uid}, {"type", types[r].classic}, {"data", what[0].value}}
	} else {
		m = append(append(m, member{"opts", object{{"rooms", list(to.rooms)}, {"except", list(to.except)}}}), what...)
	}
	if !hasBinary(m) {
		c.payload = string(appendJSON(nil, m))
		return c, nil
	}
	var err error
	c.payload, err = d.encode(m)
	return c, err
}

// encode is the classic adapter's codec.
func (d *Driver) encode(v any) (string, error) {
	if d.cfg.Encode == nil {
		b, err := marshalMsgpack(v)
		return string(b), err
	}
	p, err := plain(v)
	if err != nil {
		return "", err
	}
	b, err := d.cfg.Encode(p)
	if err != nil {
		return "", fmt.Errorf("Config.Encode: %w", err)
	}
	return string(b), nil
}

// cluster makes the message of the two other adapters.
func (d *Driver) cluster(to target, r request, data object) (command, error) {
	if d.cfg.Adapter == Streams {
		s, err := text(data)
		return command{verb: "XADD", key: d.cfg.Stream, fields: []string{"uid", uid, "nsp", to.namespace, "type", fmt.Sprint(types[r].cluster), "data", s}}, err
	}
	c := command{verb: "SPUBLISH", key: d.cfg.Prefix + "#" + to.namespace + "#", all: true}
	if r == broadcast && len(to.rooms) == 1 && d.ownChannel(to.rooms[0]) {
		c.key += to.rooms[0] + "#"
		c.all = false
	}
	m := object{{"uid", uid}, {"nsp", to.namespace}, {"type", types[r].cluster}, {"data", data}}
	if !hasBinary(m) {
		c.payload = string(appendJSON(nil, m))
		return c, nil
	}
	b, err := marshalMsgpack(m)
	c.payload = string(b)
	return c, err
}

// ownChannel reports whether a room has a Redis channel of its own. What looks like a socket's id to the adapter, 20
// characters as JavaScript counts them, has none in mode dynamic.
func (d *Driver) ownChannel(room string) bool {
	switch d.cfg.Mode {
	case Dynamic:
		n := 0
		for _, r := range room {
			n += utf16.RuneLen(r)
		}
		return n != 20
	case DynamicPrivate:
		return true
	}
	return false
}

func (t target) options() object {
	return object{{"rooms", list(t.rooms)}, {"except", list(t.except)}, {"flags", flags(t.flags)}}
}

func flags(f object) object {
	if f == nil {
		return object{}
	}
	return f
}

func list(names []string) []any {
	out := make([]any, len(names))
	for i, s := range names {
		out[i] = s
	}
	return out
}
