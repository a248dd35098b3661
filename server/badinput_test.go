package server

import (
	"context"
	"encoding/binary"
	"fmt"
	"strings"
	"testing"

	"github.com/stacksjs/realtime-go/auth"
	"github.com/stacksjs/realtime-go/internal/ws"
)

// part is a frame whose message goes on.
func part(op ws.Op, payload string) []byte {
	b := masked(op, payload)
	b[0] &^= 0x80
	return b
}

// compressed is a message as permessage-deflate has it.
func compressed(payload string) string {
	f := ws.AppendDeflated(nil, ws.OpText, []byte(payload))
	return string(f[len(ws.AppendHeader(nil, ws.OpText, true, 0))+lengthBytes(f[1]):])
}

func lengthBytes(b byte) int {
	switch b & 0x7f {
	case 126:
		return 2
	case 127:
		return 8
	}
	return 0
}

// rsv1 marks a frame as compressed.
func rsv1(frame []byte) []byte {
	frame[0] |= 0x40
	return frame
}

// closing is a client's close frame.
func closing(code int, reason string) []byte {
	return masked(ws.OpClose, string(binary.BigEndian.AppendUint16(nil, uint16(code)))+reason)
}

func join(frames ...[]byte) []byte {
	var b []byte
	for _, f := range frames {
		b = append(b, f...)
	}
	return b
}

// brokenFrames are what a client may send behind a good message, and the close frame it gets.
func brokenFrames() map[string]broken {
	const (
		limit    = "message longer than the limit of 4096 bytes"
		shortest = "length not in its shortest form"
		badText  = "text is not valid UTF-8"
	)
	late := masked(ws.OpText, subscribe("late"))
	all := map[string]broken{
		"unmasked":                    {[]byte{0x81, 1, 'x'}, 1002, "unmasked frame from the client"},
		"unmasked and empty":          {[]byte{0x82, 0}, 1002, "unmasked frame from the client"},
		"unmasked close":              {[]byte{0x88, 0}, 1002, "unmasked frame from the client"},
		"RSV1 without an extension":   {rsv1(masked(ws.OpText, "x")), 1002, "RSV1 set, but permessage-deflate was not negotiated"},
		"RSV2":                        {[]byte{0xa1}, 1002, "RSV2 or RSV3 set without an extension that defines it"},
		"RSV3":                        {[]byte{0x91}, 1002, "RSV2 or RSV3 set without an extension that defines it"},
		"a continuation of nothing":   {masked(ws.OpContinuation, "x"), 1002, "continuation frame without a message to continue"},
		"text inside a text":          {join(part(ws.OpText, "a"), masked(ws.OpText, "b")), 1002, "new text message inside a fragmented one"},
		"binary inside a text":        {join(part(ws.OpText, "a"), masked(ws.OpBinary, "b")), 1002, "new binary message inside a fragmented one"},
		"a continuation after an end": {join(part(ws.OpText, "__stacks"), masked(ws.OpContinuation, "_pong__"), masked(ws.OpContinuation, "c")), 1002, "continuation frame without a message to continue"},
		"16 bits for 125 bytes":       {[]byte{0x81, 0xfe, 0, 125}, 1002, shortest},
		"64 bits for 65535 bytes":     {[]byte{0x81, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff}, 1002, shortest},
		"the top bit of 64":           {[]byte{0x81, 0xff, 0x80}, 1002, "length with the most significant bit set"},

		"not UTF-8":                          {masked(ws.OpText, "abc\xff"), 1007, badText},
		"a surrogate":                        {masked(ws.OpText, "\xed\xa0\x80"), 1007, badText},
		"an overlong form":                   {masked(ws.OpText, "\xc0\xaf"), 1007, badText},
		"a rune beyond the last":             {masked(ws.OpText, "\xf4\x90\x80\x80"), 1007, badText},
		"half a rune":                        {masked(ws.OpText, "\xe2\x82"), 1007, badText},
		"a bad byte, with more announced":    {[]byte{0x81, 0xfe, 0x0f, 0xff, 0, 0, 0, 0, 'a', 0xff}, 1007, badText},
		"a bad byte in a first fragment":     {part(ws.OpText, "\x80"), 1007, badText},
		"a rune broken between fragments":    {join(part(ws.OpText, "a\xe2\x82"), []byte{0x00, 0xfe, 0x0f, 0x00, 0, 0, 0, 0, 'x'}), 1007, badText},
		"half a rune at the end of a second": {join(part(ws.OpText, "a\xe2"), masked(ws.OpContinuation, "\x82")), 1007, badText},

		"a byte too long":                 {[]byte{0x81, 0xfe, 0x10, 0x01}, 1009, limit},
		"a byte too long, in binary":      {[]byte{0x82, 0xfe, 0x10, 0x01}, 1009, limit},
		"2^62 bytes":                      {[]byte{0x81, 0xff, 0x40, 0, 0, 0, 0, 0, 0, 0}, 1009, limit},
		"too long by a fragment":          {join(part(ws.OpText, strings.Repeat("x", 4000)), part(ws.OpContinuation, strings.Repeat("x", 96)), []byte{0x00, 0x81}), 1009, limit},
		"too long, and all of it is sent": {masked(ws.OpText, strings.Repeat("x", 512<<10)), 1009, limit},

		"a close of one byte":          {masked(ws.OpClose, "\x03"), 1002, "close frame with half a status code"},
		"a reason that is not UTF-8":   {closing(1000, "\xff"), 1007, "reason of the close frame is not valid UTF-8"},
		"a text after a close":         {join(closing(1000, "bye"), late), 1000, ""},
		"a text after an empty close":  {join(masked(ws.OpClose, ""), late), 1005, ""},
		"a broken frame after a close": {join(closing(4321, "bye"), []byte{0xff, 0xff}), 4321, ""},
	}
	for _, op := range []byte{3, 4, 5, 6, 7, 11, 12, 13, 14, 15} {
		all[fmt.Sprint("opcode ", op)] = broken{[]byte{0x80 | op, 0x80, 0, 0, 0, 0}, 1002, fmt.Sprint("reserved opcode ", op)}
	}
	for _, op := range []ws.Op{ws.OpPing, ws.OpPong, ws.OpClose} {
		all["a fragmented "+op.String()] = broken{part(op, ""), 1002, "fragmented " + op.String() + " frame"}
		all["a "+op.String()+" of 126 bytes"] = broken{masked(op, strings.Repeat("x", 126)), 1002, op.String() + " frame longer than 125 bytes"}
	}
	for _, code := range []int{0, 999, 1004, 1005, 1006, 1015, 2999, 5000, 65535} {
		all[fmt.Sprint("a close with ", code)] = broken{closing(code, ""), 1002, fmt.Sprint("close frame with status code ", code)}
	}
	return all
}

// brokenDeflate is the same for connections with compression.
func brokenDeflate() map[string]broken {
	const limit = "message longer than the limit of 4096 bytes"
	bomb := compressed(strings.Repeat("x", 2<<20)) // some 2 KiB
	return map[string]broken{
		"a bomb":              {rsv1(masked(ws.OpText, bomb)), 1009, limit},
		"a bomb in fragments": {join(rsv1(part(ws.OpText, bomb[:500])), part(ws.OpContinuation, bomb[500:1000]), masked(ws.OpContinuation, bomb[1000:])), 1009, limit},
		"a binary bomb":       {rsv1(masked(ws.OpBinary, bomb)), 1009, limit},
		// What cannot be shrunk gets longer by some bytes, which are allowed for.
		"too long as it is":            {rsv1([]byte{0x81, 0xfe, 0x10, 0xc1}), 1009, limit},
		"too long as it is, plain":     {[]byte{0x81, 0xfe, 0x10, 0x01}, 1009, limit},
		"no deflate data":              {rsv1(masked(ws.OpText, "\xff\xff\xff")), 1007, "compressed message is not valid DEFLATE data"},
		"deflate data that ends early": {rsv1(masked(ws.OpText, compressed(strings.Repeat("abc", 100))[:6])), 1007, "compressed message is not valid DEFLATE data"},
		"not UTF-8":                    {rsv1(masked(ws.OpText, compressed("abc\xff"))), 1007, "text is not valid UTF-8"},
		"half a rune":                  {rsv1(masked(ws.OpText, compressed("\xe2\x82"))), 1007, "text is not valid UTF-8"},
		"too many final blocks":        {rsv1(masked(ws.OpText, strings.Repeat("\x03\x00", 100))), 1002, "compressed message with too many final blocks"},
		"RSV1 on a continuation":       {join(rsv1(part(ws.OpText, "")), rsv1(masked(ws.OpContinuation, ""))), 1002, "RSV1 set on a continuation frame"},
		"RSV1 on a ping":               {rsv1(masked(ws.OpPing, "")), 1002, "RSV1 set on a ping frame"},
		"RSV2":                         {[]byte{0xe1}, 1002, "RSV2 or RSV3 set without an extension that defines it"},
	}
}

type broken struct {
	frames []byte
	code   int
	reason string
}

func TestABrokenFrameIsAnsweredAndEndsItsConnectionOnly(t *testing.T) {
	onEach(t, func(t *testing.T, tr transport) {
		s := startOn(t, tr, Config{Limits: Limits{MessageBytes: 4096}})
		bystander := s.dial("")
		bystander.say(subscribe("news"))
		bystander.want(succeeded("news"))
		n := 0
		for _, table := range []struct {
			header string
			cases  map[string]broken
		}{{"", brokenFrames()}, {"Sec-WebSocket-Extensions: permessage-deflate\r\n", brokenDeflate()}} {
			for name, c := range table.cases {
				t.Run(name, func(t *testing.T) {
					for _, early := range []bool{false, true} { // with the handshake, or after it
						first := []byte("GET /ws HTTP/1.1\r\nHost: x\r\n" + table.header + upgradeHeaders)
						frames := join(masked(ws.OpText, `{"event":"ping","id":1}`), c.frames)
						p := s.connect()
						p.t, bystander.t = t, t
						if early {
							first = append(first, frames...)
						}
						p.write(first)
						if status, _, body := p.response(); status != 101 {
							t.Fatalf("the handshake is answered with %d %s", status, body)
						}
						p.greeted()
						if !early {
							p.write(frames)
						}
						p.want(ws.OpText, `{"event":"pong","id":1}`) // what came before counts
						p.wantClose(c.code, c.reason)
						p.Close()
						n++
						s.send(event("news", fmt.Sprint(n)))
						bystander.want(fmt.Sprintf(`{"event":"E","channel":"news","data":%d}`, n))
						eventually(t, "it has given its place back", func() bool { return s.entered() == 1 })
					}
				})
			}
		}
		if n := s.Subscriptions("", "late"); n != 0 {
			t.Errorf("%d subscriptions came after a close frame", n)
		}
		bystander.t = t
		bystander.quiet()
	})
}

// what is said, and what is answered.
type said struct {
	say  string
	want []string
}

func TestBadCommandsAreAnsweredAndTheConnectionLives(t *testing.T) {
	onEach(t, func(t *testing.T, tr transport) {
		a := byQuery()
		a.Channel("write.{id}", func(context.Context, *auth.User, auth.Params) (auth.Grant, error) {
			return auth.Grant{Publish: true}, nil
		})
		a.Channel("read.{id}", func(context.Context, *auth.User, auth.Params) (auth.Grant, error) { return auth.Grant{}, nil })
		s := startOn(t, tr, Config{Auth: a, Apps: testApps, Limits: Limits{WhispersPerSecond: -1}})
		bystander, p := s.dial("?user=8"), s.dial("?user=7")
		for _, ch := range []string{"news", "private-write.1", "private-read.1"} {
			for _, c := range []*peer{bystander, p} {
				c.say(subscribe(ch))
				c.want(succeeded(ch))
			}
		}
		const kb100 = 100 << 10
		long := func(n int) string { return strings.Repeat("x", n) }
		invalid := func(extra, channel, text string) string {
			return trouble("error", extra, channel, 4300, "ValidationError", text, 400)
		}
		refused := func(extra, channel, text string) string {
			return trouble("subscription_error", extra, channel, 4300, "ValidationError", text, 400)
		}
		notJSON := func(text string) string { return invalid("", "", "the frame is not a JSON object: "+text) }
		const badID = "id and messageId are numbers or strings of at most 126 bytes"
		forge := func(socket, channel, signed, sent string) string {
			return fmt.Sprintf(`{"event":"subscribe","channel":"%s","auth":"%s","channel_data":%s}`, channel, auth.SignChannel("k1", "s1", socket, channel, signed), quote(sent))
		}
		wrongSignature := trouble("subscription_error", "", "presence-x", 4009, "AuthError",
			fmt.Sprintf("the signature in auth is not the HMAC-SHA256, in lower-case hex, of %q followed by channel_data exactly as sent with the secret of key %q", p.SocketID+":presence-x:", "k1"), 401)
		var fifty []string
		for i := range 50 {
			fifty = append(fifty, fmt.Sprintf(`"b%d"`, i))
		}
		all := strings.Join(fifty, ",")
		var batch []string
		for _, ch := range fifty {
			batch = append(batch, `{"event":"subscription_succeeded","channel":`+ch+`}`)
		}

		for _, c := range []said{
			{`7`, []string{notJSON(`'7' at byte 0, where '{' should be`)}},
			{`"text"`, []string{notJSON(`'"' at byte 0, where '{' should be`)}},
			{`null`, []string{notJSON(`'n' at byte 0, where '{' should be`)}},
			{`[{"event":"ping"}]`, []string{notJSON(`'[' at byte 0, where '{' should be`)}},
			{`{"event":"ping"}{"event":"ping"}`, []string{notJSON(`'{' at byte 16, where the end should be`)}},
			{`{'event':'ping'}`, []string{notJSON(`'\'' at byte 1, where a string should be`)}},
			{`{"event":"ping",}`, []string{notJSON(`'}' at byte 16, where a string should be`)}},
			{`{"event":"ping","id":01}`, []string{notJSON(`'1' at byte 22, where ',' or '}' should be`)}},
			{`{"event":"ping","id":NaN}`, []string{notJSON(`'N' at byte 21, where a value should be`)}},
			{"{\"event\":\"pi\nng\"}", []string{notJSON(`'\n' at byte 12, where no control character should be`)}},
			{`{"event":"\x70ing"}`, []string{notJSON(`'x' at byte 11, where an escape should be`)}},
			{`{"event":"ping","deep":` + strings.Repeat("[", 128) + strings.Repeat("]", 128) + `}`, []string{`{"event":"pong"}`}},
			{`{"event":"ping","deep":` + strings.Repeat("[", 129) + strings.Repeat("]", 129) + `}`, []string{notJSON(`nested deeper than 128 at byte 151`)}},
			{`{"deep":` + strings.Repeat(`{"a":`, 20_000), []string{notJSON(`nested deeper than 128 at byte 648`)}},

			// The last of a field counts; unknown fields do not.
			{`{"event":"subscribe","event":"ping","id":1,"id":2}`, []string{`{"event":"pong","id":2}`}},
			{`{"\u0065vent":"ping","__proto__":{"id":1},"constructor":[{}]}`, []string{`{"event":"pong"}`}},
			{`{"Event":"subscribe","event":"ping"}`, []string{`{"event":"pong"}`}},

			{`{"event":"ping","id":` + strings.Repeat("9", 128) + `}`, []string{`{"event":"pong","id":` + strings.Repeat("9", 128) + `}`}},
			{`{"event":"ping","id":` + strings.Repeat("9", 129) + `}`, []string{invalid("", "", badID)}},
			{`{"event":"ping","id":"` + long(126) + `"}`, []string{`{"event":"pong","id":"` + long(126) + `"}`}},
			{`{"event":"ping","messageId":true}`, []string{invalid("", "", badID)}},
			{`{"event":"ping","id":false}`, []string{invalid("", "", badID)}},
			{`{"event":"ping","id":` + strings.Repeat(" ", 1000) + `1}`, []string{`{"event":"pong","id":1}`}},

			{`{"event":"subscribe","channel":5,"id":1}`, []string{invalid(`"id":1`, "", "channel is 5; it must be a string")}},
			{`{"event":"subscribe","channel":["news"]}`, []string{invalid("", "", `channel is ["news"]; it must be a string`)}},
			{`{"event":"subscribe","channel":{"name":"` + long(1000) + `"}}`, []string{invalid("", "", `channel is {"name":"`+long(31)+`; it must be a string`)}},
			{`{"event":"subscribe","channel":null,"id":1}`, []string{refused(`"id":1`, "", "channel name is empty")}},
			{`{"event":"subscribe"}`, []string{refused("", "", "channel name is empty")}},
			{`{"event":"client-x"}`, []string{invalid("", "", "channel name is empty")}},
			{`{"event":"publish","name":"x"}`, []string{invalid("", "", "channel name is empty")}},
			{`{"event":"subscribe","channel":"a","since":-1}`, []string{refused("", "a", "since is -1; it must be the seq of the last message received")}},
			{`{"event":"subscribe","channel":"a","since":1.5}`, []string{refused("", "a", "since is 1.5; it must be the seq of the last message received")}},
			{`{"event":"subscribe","channel":"a","since":18446744073709551616}`, []string{refused("", "a", "since is 18446744073709551616; it must be the seq of the last message received")}},
			{`{"event":"subscribe","channel":"a","since":{"seq":1}}`, []string{refused("", "a", `since is {"seq":1}; it must be the seq of the last message received`)}},
			{`{"event":"subscribe","channel":"a","since":[` + strings.Repeat("1,", 999) + `1]}`, []string{refused("", "a", `since is [`+strings.Repeat("1,", 19)+`1; it must be the seq of the last message received`)}},
			{`{"event":"subscribe","channel":"a","rewind":1e3}`, []string{refused("", "a", "rewind is 1e3; it must be a number of messages")}},
			{`{"event":"subscribe","channel":"a","rewind":"2"}`, []string{refused("", "a", `rewind is "2"; it must be a number of messages`)}},
			{`{"event":"subscribe","channel":"a","rewind":99999999999999999999}`, []string{refused("", "a", "rewind is 99999999999999999999; it must be a number of messages")}},
			{`{"event":"publish","channel":"private-write.1","name":"x","except":[1]}`, []string{invalid("", "private-write.1", "except: item 0 of the list is not a string")}},
			{`{"event":"publish","channel":"private-write.1","name":"x","except":{"0":"1.1"}}`, []string{invalid("", "private-write.1", "except: a list of strings is missing")}},
			{`{"event":"publish","channel":"private-write.1","name":"x","except":["` + strings.Repeat(`1.1","`, 100) + `1.1"]}`, []string{invalid("", "private-write.1", "except: the list has more than 100 items")}},
			{`{"event":"publish","channel":"private-write.1","name":"x","mid":"` + long(129) + `"}`, []string{invalid("", "private-write.1", "mid is 129 bytes, more than 128")}},

			{`{"event":"subscribe","channel":"` + long(200) + `"}`, []string{succeeded(long(200))}},
			{`{"event":"subscribe","channel":"` + long(201) + `"}`, []string{refused("", long(201), `channel name of 201 bytes is longer than 200: "`+long(40)+`"…`)}},
			{`{"event":"subscribe","channel":"a b"}`, []string{refused("", "a b", `channel name "a b" has ' ' at byte 1; allowed are letters, digits and _ - = @ , . ;`)}},
			{`{"event":"subscribe","channel":"a/../b"}`, []string{refused("", "a/../b", `channel name "a/../b" has '/' at byte 1; allowed are letters, digits and _ - = @ , . ;`)}},
			{`{"event":"subscribe","channel":"a\u0000"}`, []string{refused("", `a\u0000`, `channel name "a\x00" has '\x00' at byte 1; allowed are letters, digits and _ - = @ , . ;`)}},
			{`{"event":"subscribe","channel":"#news"}`, []string{refused("", "#news", `channel name "#news" has '#' at byte 0; allowed are letters, digits and _ - = @ , . ;`)}},
			{`{"event":"subscribe","channel":"presence-"}`, []string{refused("", "presence-", `channel name "presence-" is only a prefix`)}},
			{`{"event":"subscribe","channel":"#server-to-user-8"}`, []string{trouble("subscription_error", "", "#server-to-user-8", 4009, "AuthError", `channel "#server-to-user-8" is only for connections of that user`, 401)}},
			{`{"event":"client-x","channel":"private-` + long(193) + `"}`, []string{invalid("", "private-"+long(193), `channel name of 201 bytes is longer than 200: "private-`+long(32)+`"…`)}},
			{`{"event":"publish","channel":"private-` + long(193) + `","name":"x"}`, []string{invalid("", "private-"+long(193), `channel name of 201 bytes is longer than 200: "private-`+long(32)+`"…`)}},

			{`{"event":"batch_subscribe","channels":[` + all + `],"id":50}`, append(batch, `{"event":"batch_subscribe_result","id":50,"data":{"succeeded":[`+all+`],"failed":{}}}`)},
			{`{"event":"batch_unsubscribe","channels":[` + all + `],"id":50}`, []string{`{"event":"batch_unsubscribe_result","id":50,"data":{"succeeded":[` + all + `],"failed":{}}}`}},
			{`{"event":"batch_unsubscribe","channels":[` + all + `,"one more"],"id":51}`, []string{trouble("error", `"id":51`, "", 4300, "BatchError", "channels: the list has more than 50 items", 400)}},
			{`{"event":"batch_subscribe","channels":"news"}`, []string{trouble("error", "", "", 4300, "BatchError", "channels: a list of strings is missing", 400)}},

			// What nobody allowed.
			{`{"event":"publish","channel":"news","name":"Forged","data":1,"id":1}`, []string{trouble("error", `"id":1`, "news", 4009, "AuthError", `this connection may not publish to "news": it needs a grant or token that allows it`, 401)}},
			{`{"event":"publish","channel":"#server-to-user-8","name":"Forged","data":1}`, []string{trouble("error", "", "#server-to-user-8", 4009, "AuthError", `this connection may not publish to "#server-to-user-8": it needs a grant or token that allows it`, 401)}},
			{`{"event":"publish","channel":"private-read.1","name":"client-x","data":1}`, []string{trouble("error", "", "private-read.1", 4009, "AuthError", `this connection may not publish to "private-read.1": it needs a grant or token that allows it`, 401)}},
			{`{"event":"E","channel":"news","data":1}`, nil},
			{forge(bystander.SocketID, "presence-x", `{"user_id":"7"}`, `{"user_id":"7"}`), []string{wrongSignature}},
			{forge(p.SocketID, "presence-x", `{"user_id":"7"}`, `{"user_id":"1"}`), []string{wrongSignature}},
			{forge(p.SocketID, "presence-x", `{"user_id":"8"}`, `{"user_id":"8"}`), []string{trouble("subscription_error", "", "presence-x", 4009, "AuthError", `channel_data names user "8", but this connection belongs to "7"`, 401)}},

			// Sizes, at the limit and behind it.
			{`{"event":"publish","channel":"private-write.1","name":"` + long(201) + `","data":1}`, []string{invalid("", "private-write.1", "the event name is 201 bytes, more than 200")}},
			{`{"event":"client-` + long(194) + `","channel":"private-read.1","data":1}`, []string{invalid("", "private-read.1", "the event name is 201 bytes, more than 200")}},
			{`{"event":"publish","channel":"private-write.1","name":"x","data":"` + long(kb100-1) + `","id":1}`, []string{trouble("error", `"id":1`, "private-write.1", 4301, "PayloadTooLarge", `the data is 102401 bytes, more than the 102400 allowed on channel "private-write.1"`, 413)}},
			{`{"event":"client-x","channel":"private-read.1","data":"` + long(kb100-1) + `"}`, []string{trouble("error", "", "private-read.1", 4301, "PayloadTooLarge", `the data is 102401 bytes, more than the 102400 allowed on channel "private-read.1"`, 413)}},
		} {
			t.Run(fmt.Sprintf("%.60s", c.say), func(t *testing.T) {
				p.t = t
				p.say(c.say)
				p.want(c.want...)
			})
		}
		p.t = t
		p.Write(context.Background(), ws.OpBinary, []byte(`{"event":"ping"}`))
		p.want(invalid("", "", "binary frames mean nothing here: send JSON in text frames"))
		if len(s.Members("", "presence-x")) != 0 || s.Subscriptions("", "presence-x") != 0 {
			t.Error("somebody got into presence-x")
		}
		bystander.quiet()

		// And what is just within the limits arrives.
		name, data := long(200), `"`+long(kb100-2)+`"`
		p.say(`{"event":"publish","channel":"private-write.1","name":"` + name + `","data":` + data + `,"mid":"` + long(128) + `"}`)
		for _, c := range []*peer{p, bystander} {
			c.want(`{"event":"` + name + `","channel":"private-write.1","data":` + data + `,"mid":"` + long(128) + `"}`)
		}
		name = "client-" + long(193)
		p.say(`{"event":"` + name + `","channel":"private-read.1","data":` + data + `}`)
		bystander.want(`{"event":"` + name + `","channel":"private-read.1","data":` + data + `}`)
		bystander.quiet()
		p.quiet()
	})
}
