package bench

import (
	"bytes"
	"strconv"
)

// stream is what one publisher sends to one channel.
type stream struct {
	head, sent []byte // the publish command before n and behind g
	rest       []byte // what a delivery has behind g
	published  uint32
	received   uint32   // by every subscriber; a multiple of the block size
	passed     [8]int32 // by block: how many subscribers are past it; at most five blocks are under way
}

// streamID numbers streams: the channels of publisher 0, then those of publisher 1, and so on.
type streamID = int

// sequences knows which message every connection must receive next.
type sequences struct {
	words                                      *dialect
	channels, subscribers, perConn, publishers int
	except                                     bool
	shift                                      uint // a block is 1<<shift messages
	windowed                                   bool // otherwise blocks are not counted

	streams   []stream
	next      []uint32 // by connection, then slot: the n expected
	lastG     []int64  // by connection, then publisher: the last g, or -1
	delivered int64    // in order
	missing   map[missing]struct{}
	Faults
}

// missing is a message that was skipped and may still come.
type missing struct {
	next int // index into sequences.next
	n    uint32
}

// maxMissing bounds the memory for messages that may still come; those beyond are doubled if they do come.
const maxMissing = 1 << 18

func newSequences(c Config) *sequences {
	connections := c.subscribing()
	s := &sequences{
		words: c.dialect(), channels: c.Channels, subscribers: c.Subscribers, perConn: c.PerConn, publishers: c.Publishers,
		except: c.Except, windowed: c.Rate == 0,
		streams: make([]stream, c.Channels*c.Publishers),
		next:    make([]uint32, connections*c.PerConn*c.Publishers),
		lastG:   make([]int64, connections*c.Publishers),
		missing: map[missing]struct{}{},
	}
	for s.shift = 0; 4<<(s.shift+1) <= c.Window; s.shift++ {
	}
	for i := range s.lastG {
		s.lastG[i] = -1
	}
	publish := c.publishDialect()
	for p := range c.Publishers {
		for ch := range c.Channels {
			rest, st := string(restOfData(p, ch, c.Size)), &s.streams[p*c.Channels+ch]
			st.head = []byte(publish.head(channelPrefix + strconv.Itoa(ch)))
			st.sent = []byte(publish.escape(rest) + publish.afterData)
			st.rest = []byte(s.words.escape(rest))
		}
	}
	if s.except { // the first subscriber of each channel does not get message 0
		for conn := range connections {
			for p := range c.Publishers {
				s.advance(conn, p*c.Channels+conn%c.Channels, conn*c.Publishers+p, 0)
			}
		}
	}
	return s
}

// firstChannel is the first of the perConn channels a connection takes; the others follow it, around the end.
func (s *sequences) firstChannel(conn int) int { return conn * s.perConn % s.channels }

// leftOut is the connection that message n of a channel is not for.
func (s *sequences) leftOut(channel int, n uint32) int {
	return channel + int(n%uint32(s.subscribers))*s.channels
}

// open reports whether the window of a stream admits another message.
func (s *sequences) open(id streamID) bool {
	st := &s.streams[id]
	return st.published-st.received < s.window()
}

// window is how many messages of a stream may be under way.
func (s *sequences) window() uint32 { return 4 << s.shift }

// expected is how many deliveries everything published so far makes.
func (s *sequences) expected() int64 {
	var sum int64
	for i := range s.streams {
		sum += int64(s.streams[i].published)
	}
	if s.except {
		return sum * int64(s.subscribers-1)
	}
	return sum * int64(s.subscribers)
}

// receive checks a delivery to a connection that has only one stream, or finds the one it belongs to.
func (s *sequences) receive(conn int, d *delivery) {
	id, slot := s.onlyChannel(conn), conn
	if s.publishers|s.perConn != 1 {
		if !d.stream(s.words) || d.publisher >= s.publishers || d.channel >= s.channels {
			s.Altered++
			return
		}
		place := d.channel - s.firstChannel(conn)
		if place < 0 {
			place += s.channels
		}
		if place >= s.perConn {
			s.Altered++
			return
		}
		id = d.publisher*s.channels + d.channel
		slot = (conn*s.perConn+place)*s.publishers + d.publisher
	}
	if !bytes.HasPrefix(d.rest, s.streams[id].rest) {
		s.Altered++
		return
	}
	g := &s.lastG[conn*s.publishers+id/s.channels]
	if d.n == s.next[slot] && int64(d.g) > *g {
		*g = int64(d.g)
		s.delivered++
		s.advance(conn, id, slot, d.n+1)
		return
	}
	s.disorder(conn, id, slot, d, g)
}

// onlyChannel is firstChannel for perConn 1, without the division in the most common case.
func (s *sequences) onlyChannel(conn int) int {
	if s.channels == 1 {
		return 0
	}
	return conn % s.channels
}

// advance makes n the next message expected, or the one after it if n is not for this connection.
func (s *sequences) advance(conn int, id streamID, slot int, n uint32) {
	if s.except && s.leftOut(id%s.channels, n) == conn {
		n++
	}
	before := s.next[slot]
	s.next[slot] = n
	if !s.windowed || before>>s.shift == n>>s.shift {
		return
	}
	st := &s.streams[id]
	for block := before >> s.shift; block < n>>s.shift; block++ {
		count := &st.passed[block%8]
		if *count++; int(*count) == s.subscribers {
			*count = 0
			st.received += 1 << s.shift
		}
	}
}

// disorder counts what is wrong with a delivery that is not the next one.
func (s *sequences) disorder(conn int, id streamID, slot int, d *delivery, g *int64) {
	switch next := s.next[slot]; {
	case d.n >= s.streams[id].published:
		s.Altered++ // never published
	case s.except && s.leftOut(id%s.channels, d.n) == conn:
		s.NotExcepted++
	case d.n > next:
		for n := next; n < d.n; n++ {
			if s.except && s.leftOut(id%s.channels, n) == conn {
				continue
			}
			s.Lost++
			if len(s.missing) < maxMissing {
				s.missing[missing{slot, n}] = struct{}{}
			}
		}
		if int64(d.g) < *g {
			s.OutOfOrder++
		}
		*g = max(*g, int64(d.g))
		s.delivered++
		s.advance(conn, id, slot, d.n+1)
	case d.n == next: // in order within its channel, but not among all messages of its publisher
		s.OutOfOrder++
		s.delivered++
		s.advance(conn, id, slot, d.n+1)
	default:
		if _, late := s.missing[missing{slot, d.n}]; late {
			delete(s.missing, missing{slot, d.n})
			s.Lost--
			s.OutOfOrder++
			s.delivered++
		} else {
			s.Doubled++
		}
	}
}

// abandon counts everything not received yet as lost.
func (s *sequences) abandon() { s.Lost = s.expected() - s.delivered }
