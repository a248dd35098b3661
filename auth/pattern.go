package auth

import (
	"fmt"
	"strings"

	"github.com/stacksjs/realtime-go/internal/channelname"
)

// A pattern is what Channel and the lists of a token are given, taken apart.
type pattern struct {
	text string
	kind channelname.Kind // Public: the pattern has no prefix and is for every kind
	segs []segment
}

type segment struct {
	sort segmentSort
	text string // the literal, or the parameter's name
}

type segmentSort uint8

const (
	literal segmentSort = iota
	one                 // {name}: exactly one segment
	rest                // {name...}, or * in a claim: one or more segments, at the end
)

// parsePattern takes a pattern apart. A claim is a pattern in a token: it may end in "*".
func parsePattern(text string, claim bool) (pattern, error) {
	p := pattern{text: text}
	bad := func(format string, args ...any) (pattern, error) {
		return pattern{}, fmt.Errorf("channel pattern %q: %s", text, fmt.Sprintf(format, args...))
	}
	if text == "" {
		return bad("it is empty")
	}
	kind, bare := channelname.Split(text)
	if kind == channelname.User {
		return bad("channels of users need no pattern: they are for the connections of that user")
	}
	if again, _ := channelname.Split(bare); again != channelname.Public {
		return bad("it has two prefixes; write %q for every kind, or one prefix", bare)
	}
	p.kind = kind
	sample := make([]byte, 0, len(text)) // a name it matches
	parts := splitPattern(bare)
	for i, part := range parts {
		last := i == len(parts)-1
		s := segment{sort: literal, text: part}
		name, opens := strings.CutPrefix(part, "{")
		name, closes := strings.CutSuffix(name, "}")
		switch {
		case part == "*":
			if !claim {
				return bad("write {name...} for the rest of a name, not *")
			}
			s = segment{sort: rest}
		case opens && closes:
			s = segment{sort: one, text: name}
			if name, ok := strings.CutSuffix(name, "..."); ok {
				s = segment{sort: rest, text: name}
			}
			if !isParameterName(s.text) {
				return bad("parameter name %q: use letters, digits and _, beginning with a letter", s.text)
			}
			for _, other := range p.segs {
				if other.sort != literal && other.text == s.text {
					return bad("parameter %q is there twice", s.text)
				}
			}
		case strings.Contains(bare, "...}."):
			return bad("a parameter that takes the rest of the name must be the last segment")
		case strings.ContainsAny(part, "{}*"):
			return bad("segment %q: a parameter is a whole segment between dots", part)
		case part == "":
			return bad("segment %d is empty", i+1)
		}
		if s.sort == rest && !last {
			return bad("segment %q takes the rest of the name, so it must be the last", part)
		}
		p.segs = append(p.segs, s)
		if i > 0 {
			sample = append(sample, '.')
		}
		if s.sort == literal {
			sample = append(sample, part...)
		} else {
			sample = append(sample, 'x')
		}
	}
	if err := channelname.Validate(text[:len(text)-len(bare)] + string(sample)); err != nil {
		return bad("no channel can match: %v", err)
	}
	return p, nil
}

// splitPattern is strings.Split at dots, but for those of a {name...} at the end.
func splitPattern(bare string) []string {
	if before, ok := strings.CutSuffix(bare, "...}"); ok {
		i := strings.LastIndexByte(before, '{')
		if i == 0 {
			return []string{bare}
		}
		if i > 0 && bare[i-1] == '.' {
			return append(strings.Split(bare[:i-1], "."), bare[i:])
		}
	}
	return strings.Split(bare, ".")
}

func isParameterName(s string) bool {
	for i := range len(s) {
		c := s[i]
		letter := c == '_' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return s != ""
}

// A tree holds patterns by their segments. A name goes down it once, at every node first to the child with the
// segment's text, then to the child for any segment, then to the patterns that take the rest; a dead end goes back
// up. The first pattern found is the most specific one, because that order is the order of specificity.
type tree struct{ root node }

type node struct {
	literal map[string]*node
	one     *node
	end     leaf // the name ends after this node's segment
	rest    leaf // the name goes on in any way
}

// A leaf is patterns of one shape, at most one for each kind. That of channelname.Public has no prefix.
type leaf [channelname.User]*route

func (l *leaf) get(kind channelname.Kind) *route {
	if r := l[kind]; r != nil {
		return r
	}
	return l[channelname.Public]
}

type route struct {
	pattern pattern
	fn      ChannelFunc
}

func (t *tree) add(text string, fn ChannelFunc) error {
	p, err := parsePattern(text, false)
	if err != nil {
		return err
	}
	n := &t.root
	at := &n.end
	for _, s := range p.segs {
		switch s.sort {
		case literal:
			if n.literal == nil {
				n.literal = make(map[string]*node)
			}
			if n.literal[s.text] == nil {
				n.literal[s.text] = new(node)
			}
			n = n.literal[s.text]
			at = &n.end
		case one:
			if n.one == nil {
				n.one = new(node)
			}
			n = n.one
			at = &n.end
		case rest:
			at = &n.rest
		}
	}
	if other := at[p.kind]; other != nil {
		if other.pattern.text == text {
			return fmt.Errorf("channel pattern %q is registered twice", text)
		}
		return fmt.Errorf("channel patterns %q and %q match the same channels, so neither is more specific: keep one", other.pattern.text, text)
	}
	at[p.kind] = &route{pattern: p, fn: fn}
	return nil
}

// find returns the most specific route for a channel, or nil. kind is Private, Presence or Encrypted.
func (t *tree) find(kind channelname.Kind, bare string) *route {
	if hasEmptySegment(bare) {
		return nil
	}
	return t.root.find(kind, bare)
}

func (n *node) find(kind channelname.Kind, name string) *route {
	head, tail, more := strings.Cut(name, ".")
	for _, child := range [...]*node{n.literal[head], n.one} {
		if child == nil {
			continue
		}
		var r *route
		if more {
			r = child.find(kind, tail)
		} else {
			r = child.end.get(kind)
		}
		if r != nil {
			return r
		}
	}
	return n.rest.get(kind)
}

// params returns the parameters of a name that the route matches.
func (r *route) params(bare string) Params {
	p := make(Params)
	for _, s := range r.pattern.segs {
		head, tail, _ := strings.Cut(bare, ".")
		switch s.sort {
		case one:
			p[s.text] = head
		case rest:
			p[s.text] = bare
		}
		bare = tail
	}
	return p
}

func hasEmptySegment(name string) bool {
	return name == "" || name[0] == '.' || name[len(name)-1] == '.' || strings.Contains(name, "..")
}

// anyCovers reports whether one of the patterns covers a channel. They are few and were parsed when they arrived, so
// they are compared as text: keeping them compiled would cost memory for every connection.
func anyCovers(patterns []string, channel string) bool {
	kind, bare := channelname.Split(channel)
	if len(patterns) == 0 || kind == channelname.User || hasEmptySegment(bare) {
		return false
	}
	for _, p := range patterns {
		if k, want := channelname.Split(p); (k == channelname.Public || k == kind) && covers(want, bare) {
			return true
		}
	}
	return false
}

func covers(pattern, name string) bool {
	for {
		want, wants, wantMore := strings.Cut(pattern, ".")
		got, gots, gotMore := strings.Cut(name, ".")
		switch {
		case want == "*" || want[0] == '{' && want[len(want)-1] != '}': // cut within {name...}
			return true
		case want[0] != '{' && want != got, wantMore != gotMore:
			return false
		case !wantMore:
			return true
		}
		pattern, name = wants, gots
	}
}
