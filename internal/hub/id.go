package hub

import (
	"math/rand/v2"
	"strconv"
	"strings"
)

// ID is a socket id, "123.456" on every wire: Pusher's SDKs accept no other form, and "to others" must work from
// all of them. The first number is random; the second leads to the client's place without a map, behind a mask.
// Socket ids are public: they name a connection and prove nothing.
type ID struct{ rnd, place uint64 }

func (id ID) String() string {
	b := make([]byte, 0, 32)
	b = strconv.AppendUint(b, id.rnd, 10)
	b = append(b, '.')
	return string(strconv.AppendUint(b, id.place, 10))
}

// ParseID reads a socket id; ok is false for anything that is not two numbers.
func ParseID(s string) (id ID, ok bool) {
	a, b, found := strings.Cut(s, ".")
	if !found || !digits(a) || !digits(b) {
		return ID{}, false
	}
	// Numbers too large for us are nobody's id here, but well formed.
	id.rnd, _ = strconv.ParseUint(a, 10, 64)
	id.place, _ = strconv.ParseUint(b, 10, 64)
	return id, true
}

func digits(s string) bool {
	if s == "" || len(s) > 40 {
		return false
	}
	for i := 0; i < len(s); i++ {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}

func (h *Hub) newID(branch int, slot uint32) ID {
	// 52 bits survive every JSON parser.
	return ID{rnd: 1 + rand.Uint64N(1<<52-1), place: (uint64(slot)<<8 | uint64(branch)) ^ h.mask}
}

// branchOf tells which loop's client an id could be; out of range for foreign ids.
func (h *Hub) branchOf(id ID) (branch int, slot uint64) {
	p := id.place ^ h.mask
	return int(p & 0xff), p >> 8
}
