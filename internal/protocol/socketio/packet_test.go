package socketio

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestPacketsAreReadAsTheyAreWritten(t *testing.T) {
	for _, tc := range []struct {
		text string
		want packet
	}{
		{`0`, packet{kind: connect, nsp: "/"}},
		{`0{"token":"123"}`, packet{kind: connect, nsp: "/", data: `{"token":"123"}`}},
		{`0/admin,`, packet{kind: connect, nsp: "/admin"}},
		{`0/admin,{"sid":"oSO0"}`, packet{kind: connect, nsp: "/admin", data: `{"sid":"oSO0"}`}},
		{`1`, packet{kind: disconnect, nsp: "/"}},
		{`1/admin,`, packet{kind: disconnect, nsp: "/admin"}},
		{`2["foo"]`, packet{kind: event, nsp: "/", data: `["foo"]`, name: `"foo"`}},
		{`2/admin,["bar"]`, packet{kind: event, nsp: "/admin", data: `["bar"]`, name: `"bar"`}},
		{`212["foo"]`, packet{kind: event, nsp: "/", id: 12, hasID: true, data: `["foo"]`, name: `"foo"`}},
		{`20["foo"]`, packet{kind: event, nsp: "/", hasID: true, data: `["foo"]`, name: `"foo"`}},
		{`29007199254740991["foo"]`, packet{kind: event, nsp: "/", id: 1<<53 - 1, hasID: true, data: `["foo"]`, name: `"foo"`}},
		{`3/admin,13["bar"]`, packet{kind: ack, nsp: "/admin", id: 13, hasID: true, data: `["bar"]`}},
		{`30[]`, packet{kind: ack, nsp: "/", hasID: true, data: `[]`}},
		{`4{"message":"Not authorized"}`, packet{kind: connectError, nsp: "/", data: `{"message":"Not authorized"}`}},
		{`51-["baz",{"_placeholder":true,"num":0}]`, packet{kind: binaryEvent, nsp: "/", blobs: 1, data: `["baz",{"_placeholder":true,"num":0}]`, name: `"baz"`, arg: `{"_placeholder":true,"num":0}`}},
		{`52-/admin,["baz",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]`, packet{kind: binaryEvent, nsp: "/admin", blobs: 2, data: `["baz",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]`, name: `"baz"`, arg: `{"_placeholder":true,"num":0}`}},
		{`61-15["bar",{"_placeholder":true,"num":0}]`, packet{kind: binaryAck, nsp: "/", blobs: 1, id: 15, hasID: true, data: `["bar",{"_placeholder":true,"num":0}]`}},
		{`50-["empty"]`, packet{kind: binaryEvent, nsp: "/", data: `["empty"]`, name: `"empty"`}},
		{`510-["ten"]`, packet{kind: binaryEvent, nsp: "/", blobs: 10, data: `["ten"]`, name: `"ten"`}},
		{`2[1,"a number as name"]`, packet{kind: event, nsp: "/", data: `[1,"a number as name"]`, name: `1`, arg: `"a number as name"`}},
		{`2[-1.5e3]`, packet{kind: event, nsp: "/", data: `[-1.5e3]`, name: `-1.5e3`}},
		// A namespace may be no path, and "?" belongs to its name.
		{`0/a b?c=d,`, packet{kind: connect, nsp: "/a b?c=d"}},
		{`2/,["written all the same"]`, packet{kind: event, nsp: "/", data: `["written all the same"]`, name: `"written all the same"`}},
	} {
		got, err := parse(tc.text, 10, false)
		if err != nil || got != tc.want {
			t.Errorf("%s\n got %+v, %v\nwant %+v", tc.text, got, err, tc.want)
		}
		if tc.want.nsp == "/" && strings.Contains(tc.text, "/,") {
			continue
		}
		p := tc.want
		if b := appendHead([]byte("4"), p.kind, p.blobs, p.nsp, p.id, p.hasID); string(b)+p.data != "4"+tc.text {
			t.Errorf("4%s is written as %s%s", tc.text, b, p.data)
		}
	}
}

func TestSpaceAroundTheDataIsNotKept(t *testing.T) {
	p, err := parse("2/admin,7 \t[\"a\"]\r\n", 0, false)
	if want := (packet{kind: event, nsp: "/admin", id: 7, hasID: true, data: `["a"]`, name: `"a"`}); err != nil || p != want {
		t.Errorf("got %+v, %v", p, err)
	}
}

func TestPacketsOfProtocol4(t *testing.T) {
	for _, tc := range []struct {
		text string
		want packet
	}{
		{`0`, packet{kind: connect, nsp: "/"}},
		{`0/admin?token=x&y=/,`, packet{kind: connect, nsp: "/admin", query: "token=x&y=/"}},
		{`0/?token=x,`, packet{kind: connect, nsp: "/", query: "token=x"}},
		{`0/admin?token=x`, packet{kind: connect, nsp: "/admin", query: "token=x"}},
		{`1/admin`, packet{kind: disconnect, nsp: "/admin"}},
		{`2/admin,7["a",1]`, packet{kind: event, nsp: "/admin", id: 7, hasID: true, data: `["a",1]`, name: `"a"`, arg: `1`}},
		{`4"Not authorized"`, packet{kind: connectError, nsp: "/", data: `"Not authorized"`}},
		{`4/admin,{"code":1}`, packet{kind: connectError, nsp: "/admin", data: `{"code":1}`}},
	} {
		if got, err := parse(tc.text, 10, true); err != nil || got != tc.want {
			t.Errorf("%s\n got %+v, %v\nwant %+v", tc.text, got, err, tc.want)
		}
	}
}

func TestWhatIsWrongWithAPacket(t *testing.T) {
	for text, want := range map[string]string{
		``:                            `a packet without a type`,
		`7`:                           `unknown packet type '7'`,
		`abc`:                         `unknown packet type 'a'`,
		`/`:                           `unknown packet type '/'`,
		`5-["a"]`:                     `attachments of a BINARY_EVENT: digits are missing`,
		`5["a"]`:                      `attachments of a BINARY_EVENT: digits are missing`,
		`51["a"]`:                     `no '-' behind the number of attachments of a BINARY_EVENT`,
		`61`:                          `no '-' behind the number of attachments of a BINARY_ACK`,
		`53-["a"]`:                    `attachments of a BINARY_EVENT: more than 2`,
		`599999999999999999999-["a"]`: `attachments of a BINARY_EVENT: more than 2`,
		`29007199254740992["a"]`:      `id of a EVENT: more than 9007199254740991`,
		`2-1["a"]`:                    `EVENT: '-' at byte 0, where '[' should be`,
		`2abc["a"]`:                   `EVENT: 'a' at byte 0, where '[' should be`,
		`2`:                           `EVENT: the frame ends where '[' should be`,
		`2{}`:                         `EVENT: '{' at byte 0, where '[' should be`,
		`2[]`:                         `EVENT: no event name`,
		`2[{}]`:                       `EVENT: the event name is neither a string nor a number: {}`,
		`2[null,"a"]`:                 `EVENT: the event name is neither a string nor a number: null`,
		`2["a"`:                       `EVENT: the frame ends where ',' or ']' should be`,
		`2["a"]]`:                     `EVENT: ']' at byte 5, where the end should be`,
		`2["a",]`:                     `EVENT: ']' at byte 5, where a value should be`,
		`2["connect"]`:                `EVENT: the event name "connect" is reserved`,
		`51-["connect_error"]`:        `BINARY_EVENT: the event name "connect_error" is reserved`,
		`2["disconnect"]`:             `EVENT: the event name "disconnect" is reserved`,
		`2["disconnecting",1]`:        `EVENT: the event name "disconnecting" is reserved`,
		`2["newListener"]`:            `EVENT: the event name "newListener" is reserved`,
		`2["remove\u004cistener"]`:    `EVENT: the event name "removeListener" is reserved`,
		`3["a"]`:                      `ACK without an id`,
		`60-["a"]`:                    `BINARY_ACK without an id`,
		`31{}`:                        `ACK: '{' at byte 0, where '[' should be`,
		`31`:                          `ACK: the frame ends where '[' should be`,
		`31["a" "b"]`:                 `ACK: '"' at byte 5, where ',' or ']' should be`,
		`0[]`:                         `CONNECT: '[' at byte 0, where '{' should be`,
		`0"token"`:                    `CONNECT: '"' at byte 0, where '{' should be`,
		`0null`:                       `CONNECT: 'n' at byte 0, where '{' should be`,
		`0{"a":1`:                     `CONNECT: the frame ends where ',' or '}' should be`,
		`01{}`:                        `CONNECT with an id`,
		`11`:                          `DISCONNECT with an id`,
		`1{}`:                         `DISCONNECT: it has data`,
		`1/admin,""`:                  `DISCONNECT: it has data`,
		`4`:                           `CONNECT_ERROR: the frame ends where '{' should be`,
		`4"no"`:                       `CONNECT_ERROR: '"' at byte 0, where '{' should be`,
		`41{}`:                        `CONNECT_ERROR with an id`,
	} {
		if p, err := parse(text, 2, false); err == nil || err.Error() != want || p != (packet{}) {
			t.Errorf("%s: %+v, %v, and not: %s", text, p, err, want)
		}
	}
	for text, want := range map[string]string{
		`4"no`:    `CONNECT_ERROR: its data is not JSON`,
		`4[1]`:    `CONNECT_ERROR: '[' at byte 0, where '{' should be`,
		`2/admin`: `EVENT: the frame ends where '[' should be`,
		`00`:      `CONNECT with an id`,
	} {
		if p, err := parse(text, 2, true); err == nil || err.Error() != want || p != (packet{}) {
			t.Errorf("%s: %+v, %v, and not: %s", text, p, err, want)
		}
	}
}

func TestKindsHaveNames(t *testing.T) {
	for k, want := range map[kind]string{
		'0': "CONNECT", '1': "DISCONNECT", '2': "EVENT", '3': "ACK", '4': "CONNECT_ERROR", '5': "BINARY_EVENT", '6': "BINARY_ACK",
		'/': "packet type '/'", '7': "packet type '7'",
	} {
		if got := k.String(); got != want {
			t.Errorf("%q is %s, not %s", byte(k), got, want)
		}
	}
}

func TestAnEventIsItsNameAndItsArguments(t *testing.T) {
	for data, want := range map[string][2]string{
		`["foo"]`:                 {"foo", `[]`},
		`["foo",1,{"a":[2]}]`:     {"foo", `[1,{"a":[2]}]`},
		`[ "foo" , 1 ]`:           {"foo", `[1 ]`},
		`["a\"],b",[]]`:           {`a"],b`, `[[]]`},
		`["\u00e9\\"]`:            {`é\`, `[]`},
		`[12,"a"]`:                {"12", `["a"]`},
		`[-1.5e3]`:                {"-1.5e3", `[]`},
		"[1\n,2]":                 {"1", `[2]`},
		`["",""]`:                 {"", `[""]`},
		`["message",null]`:        {"message", `[null]`},
		`["x",{"y":"]"},"[","]"]`: {"x", `[{"y":"]"},"[","]"]`},
	} {
		if name, args := splitEvent(data); name != want[0] || args != want[1] {
			t.Errorf("%s: %q and %s, not %q", data, name, args, want)
		}
	}
}

func TestEveryAttachmentHasOnePlaceholder(t *testing.T) {
	ph := func(n int) string { return fmt.Sprintf(`{"_placeholder":true,"num":%d}`, n) }
	many := make([]string, 100)
	for i := range many {
		many[i] = ph(len(many) - 1 - i)
	}
	for _, tc := range []struct {
		data string
		n    int
		want string
	}{
		{`["baz"]`, 0, ""},
		{`["baz",` + ph(0) + `]`, 1, ""},
		{`["baz",` + ph(1) + `,{"a":[{"b":` + ph(0) + `}]}]`, 2, ""},
		{`["baz",{ "num" : 0 , "_placeholder" : true }]`, 1, ""},
		{`["a",` + strings.Join(many, ",") + `]`, 100, ""},
		// What only looks like one.
		{`["a",{"_placeholder":false,"num":0},"{\"_placeholder\":true,\"num\":0}","_placeholder",{"num":0},{"num":0,"num":0},{}]`, 0, ""},
		{`["a",{"x":"\"{","y":` + ph(0) + `}]`, 1, ""},

		{`["baz"]`, 1, "1 attachments, but 0 placeholders"},
		{`["baz",` + ph(0) + `]`, 2, "2 attachments, but 1 placeholders"},
		{`["baz",` + ph(0) + `]`, 0, "placeholder 0, but there are 0 attachments"},
		{`["baz",` + ph(1) + `]`, 1, "placeholder 1, but there are 1 attachments"},
		{`["baz",` + ph(0) + `,` + ph(0) + `]`, 2, "placeholder 0 stands twice"},
		{`["a",{"_placeholder":true}]`, 1, `a placeholder is not of the form {"_placeholder":true,"num":0}`},
		{`["a",{"_placeholder":true,"num":"0"}]`, 1, `a placeholder is not of the form {"_placeholder":true,"num":0}`},
		{`["a",{"_placeholder":true,"num":-1}]`, 1, `a placeholder is not of the form {"_placeholder":true,"num":0}`},
		{`["a",{"_placeholder":true,"num":0.5}]`, 1, `a placeholder is not of the form {"_placeholder":true,"num":0}`},
		{`["a",{"_placeholder":true,"num":99999999999999999999}]`, 1, `a placeholder is not of the form {"_placeholder":true,"num":0}`},
		{`["a",{"_placeholder":true,"num":0,"x":1}]`, 1, `a placeholder is not of the form {"_placeholder":true,"num":0}`},
		{`["a",{"x":1,"_placeholder" : true,"num":0}]`, 1, `a placeholder is not of the form {"_placeholder":true,"num":0}`},
		{`["a",{"\u005fplaceholder":true,"num":0}]`, 1, `a placeholder is not of the form {"_placeholder":true,"num":0}`},
		{`["a",{"_placeholder":true,"_placeholder":true}]`, 1, `a placeholder is not of the form {"_placeholder":true,"num":0}`},
	} {
		err := placeholders(tc.data, tc.n)
		if got := fmt.Sprint(err); err == nil && tc.want != "" || err != nil && got != tc.want {
			t.Errorf("%.100s with %d attachments: %v, not %q", tc.data, tc.n, err, tc.want)
		}
	}
}

// FuzzParse: a packet that is let through has the form that encoding/json sees too, and written again it is read as the
// same packet.
func FuzzParse(f *testing.F) {
	for _, s := range []string{
		`0`, `0{"token":"123"}`, `0/admin,`, `0/admin?a=b,`, `1`, `1/admin,`, `2["foo"]`, `212["foo",{"a":1}]`, `2[1]`, `3/admin,13["bar"]`, `30[]`,
		`4{"message":"no"}`, `4"no"`, `51-["baz",{"_placeholder":true,"num":0}]`, `61-15["bar",{"num":0,"_placeholder":true}]`, `2["connect"]`,
		`2/admin,7 [ "a" , 1 ]`, `52-/a,1["\u0061",{"_placeholder":true,"num":1},[{"_placeholder":true,"num":0}]]`, ``, `9`, `abc`,
	} {
		f.Add(s, false)
		f.Add(s, true)
	}
	const maxBlobs = 10
	f.Fuzz(func(t *testing.T, text string, v4 bool) {
		if !utf8.ValidString(text) {
			return // refused before
		}
		p, err := parse(text, maxBlobs, v4)
		if err != nil {
			if p != (packet{}) {
				t.Fatalf("%q: %v, and yet %+v", text, err, p)
			}
			return
		}
		if p.blobs > maxBlobs || p.blobs > 0 && !p.kind.binary() || p.id >= idLimit || p.id > 0 && !p.hasID || p.nsp[0] != '/' || strings.Contains(p.nsp, ",") {
			t.Fatalf("%q: %+v", text, p)
		}
		p.query = ""
		again, err := parse(string(appendHead(nil, p.kind, p.blobs, p.nsp, p.id, p.hasID))+p.data, maxBlobs, v4)
		if err != nil || again != p {
			t.Fatalf("%q is %+v; written again it is %+v, %v", text, p, again, err)
		}
		switch p.kind {
		case event, binaryEvent:
			var want []json.RawMessage
			if err := json.Unmarshal([]byte(p.data), &want); err != nil || len(want) == 0 {
				t.Fatalf("%q: data is %s: %v", text, p.data, err)
			}
			name, args := splitEvent(p.data)
			wantName := string(want[0])
			if wantName[0] == '"' {
				if err := json.Unmarshal(want[0], &wantName); err != nil {
					t.Fatal(err)
				}
			}
			var got []json.RawMessage
			if err := json.Unmarshal([]byte(args), &got); err != nil || name != wantName || fmt.Sprintf("%s", got) != fmt.Sprintf("%s", want[1:]) || reserved(name) {
				t.Fatalf("%q is event %q with %s, not %q with %s: %v", text, name, args, wantName, want[1:], err)
			}
		case ack, binaryAck:
			var list []json.RawMessage
			if err := json.Unmarshal([]byte(p.data), &list); err != nil || list == nil || !p.hasID {
				t.Fatalf("%q: %+v: %v", text, p, err)
			}
		case disconnect:
			if p.data != "" {
				t.Fatalf("%q: %+v", text, p)
			}
		default:
			var object map[string]json.RawMessage
			var s string
			ok := p.kind == connect && p.data == "" || json.Unmarshal([]byte(p.data), &object) == nil && object != nil
			if !ok && !(v4 && p.kind == connectError && json.Unmarshal([]byte(p.data), &s) == nil) {
				t.Fatalf("%q: %+v", text, p)
			}
		}
		if p.kind.binary() {
			checkPlaceholders(t, p.data, p.blobs)
		}
	})
}

// checkPlaceholders compares placeholders with a walk over the decoded tree, which is what a client looks at. Of fields
// given twice it sees one only, so that there it may find less.
func checkPlaceholders(t *testing.T, data string, n int) {
	if placeholders(data, n) != nil {
		return
	}
	var tree any
	if err := json.Unmarshal([]byte(data), &tree); err != nil {
		t.Fatal(err)
	}
	seen := map[float64]int{}
	var walk func(v any)
	walk = func(v any) {
		switch v := v.(type) {
		case []any:
			for _, x := range v {
				walk(x)
			}
		case map[string]any:
			if v["_placeholder"] == true {
				num, ok := v["num"].(float64)
				if !ok {
					num = -1
				}
				seen[num]++
			}
			for _, x := range v {
				walk(x)
			}
		}
	}
	walk(tree)
	for i := range n {
		if seen[float64(i)] > 1 {
			t.Fatalf("%s: placeholder %d stands %d times", data, i, seen[float64(i)])
		}
	}
	for num := range seen {
		if num < 0 || num >= float64(n) {
			t.Fatalf("%s: placeholder %v of %d", data, num, n)
		}
	}
}

func TestPacketsCostNoMemory(t *testing.T) {
	dst := make([]byte, 0, 100)
	for _, text := range []string{`0/admin,{"token":"123"}`, `2/admin,12["foo",{"a":[1,2,3]}]`, `52-["baz",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]`} {
		if n := testing.AllocsPerRun(100, func() {
			p, err := parse(text, 10, false)
			if err == nil && p.kind.binary() {
				err = placeholders(p.data, p.blobs)
			}
			if err != nil {
				t.Fatal(err)
			}
			dst = appendHead(dst[:0], p.kind, p.blobs, p.nsp, p.id, p.hasID)
		}); n != 0 {
			t.Errorf("%s: %v allocations", text, n)
		}
	}
}
