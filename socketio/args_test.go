package socketio

import (
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"

	protocol "github.com/stacksjs/realtime-go/internal/protocol/socketio"
)

type upload struct {
	Name  string            `json:"name"`
	Body  Binary            `json:"body"`
	Small []byte            `json:"small,omitempty"`
	Parts map[string]Binary `json:"parts,omitempty"`
	Any   any               `json:"any,omitempty"`
}

func ph(n int) string { return fmt.Sprintf(`{"_placeholder":true,"num":%d}`, n) }

func TestValuesAreJSONAndAttachments(t *testing.T) {
	inner, err := MakeArgs("x", Binary("in"), 1)
	if err != nil {
		t.Fatal(err)
	}
	leaked, _ := json.Marshal(upload{Body: Binary("leak")})
	for name, tc := range map[string]struct {
		values []any
		json   string
		blobs  []string
	}{
		"nothing":       {nil, `[]`, nil},
		"plain":         {[]any{"a", 1, nil, true, []int{2}, map[string]string{"b": "<&>"}}, `["a",1,null,true,[2],{"b":"<&>"}]`, nil},
		"raw":           {[]any{json.RawMessage(`{"a": [1]}`)}, `[{"a":[1]}]`, nil},
		"top level":     {[]any{[]byte("one"), Binary("two"), []byte{}}, `[` + ph(0) + `,` + ph(1) + `,` + ph(2) + `]`, []string{"one", "two", ""}},
		"nil bytes":     {[]any{[]byte(nil), Binary(nil), upload{}}, `[null,null,{"name":"","body":null}]`, nil},
		"depth first":   {[]any{upload{Name: "n", Body: Binary("b"), Small: []byte("s"), Parts: map[string]Binary{"y": Binary("Y"), "x": Binary("X")}, Any: []any{Binary("\x00\xff")}}, Binary("last")}, `[{"name":"n","body":` + ph(0) + `,"small":"cw==","parts":{"x":` + ph(1) + `,"y":` + ph(2) + `},"any":[` + ph(3) + `]},` + ph(4) + `]`, []string{"b", "X", "Y", "\x00\xff", "last"}},
		"pointer":       {[]any{&upload{Body: Binary("p")}}, `[{"name":"","body":` + ph(0) + `}]`, []string{"p"}},
		"args alone":    {[]any{inner}, `["x",` + ph(0) + `,1]`, []string{"in"}},
		"args among":    {[]any{Binary("a"), inner, Args{}, inner, "z"}, `[` + ph(0) + `,"x",` + ph(1) + `,1,"x",` + ph(2) + `,1,"z"]`, []string{"a", "in", "in"}},
		"no args":       {[]any{Args{}}, `[]`, nil},
		"args within":   {[]any{map[string]any{"all": inner, "none": &Args{}}}, `[{"all":["x","aW4=",1],"none":[]}]`, nil},
		"look-alike":    {[]any{map[string]any{"_placeholder": true, "num": 0}}, `[` + ph(0) + `]`, nil},
		"mark in text":  {[]any{string(leaked), "x " + mark}, string(must(json.Marshal([]string{string(leaked), "x " + mark}))), nil},
		"ten of them":   {[]any{slices.Repeat([]Binary{Binary("t")}, 10)}, `[[` + strings.Join([]string{ph(0), ph(1), ph(2), ph(3), ph(4), ph(5), ph(6), ph(7), ph(8), ph(9)}, ",") + `]]`, slices.Repeat([]string{"t"}, 10)},
		"from anywhere": {[]any{text("t"), fmt.Stringer(nil)}, `["text t",null]`, nil},
	} {
		got, err := encode(tc.values)
		if err != nil || got.JSON != tc.json || !slices.EqualFunc(got.Blobs, tc.blobs, func(b []byte, s string) bool { return string(b) == s }) {
			t.Errorf("%s: %s with %q, %v\nnot %s with %q", name, got.JSON, got.Blobs, err, tc.json, tc.blobs)
		}
	}
}

type text string

func (t text) MarshalText() ([]byte, error) { return []byte("text " + string(t)), nil }

func must(b []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return b
}

func TestValuesThatCannotBeSent(t *testing.T) {
	for want, values := range map[string][]any{
		`args[1]: json: unsupported type: chan int`:    {1, make(chan int)},
		`args[0]: json: unsupported value: NaN`:        {math.NaN()},
		`11 attachments, and clients take 10`:          {slices.Repeat([]Binary{Binary("t")}, 11)},
		`beside the attachments there is an object`:    {Binary("a"), map[string]any{"_placeholder": true, "num": 0}},
		`would take for one: placeholder 7, but there`: {map[string]any{"_placeholder": true, "num": 7}, Binary("a")},
		`would take for one: a placeholder is not of`:  {json.RawMessage(`{"\u005fplaceholder":true,"num":0}`), Binary("a")},
	} {
		if got, err := encode(values); err == nil || !strings.Contains(err.Error(), want) || got.JSON != "" {
			t.Errorf("%s: %v, not %s", got.JSON, err, want)
		}
		if a, err := MakeArgs(values...); err == nil || !strings.HasPrefix(err.Error(), "socketio: ") || a.Len() != 0 {
			t.Errorf("%v, %v", a, err)
		}
	}
}

func TestArgumentsAreDecoded(t *testing.T) {
	a := newArgs(protocol.Args{
		JSON:  `["a", ` + ph(1) + `,{"name":"n","body":` + ph(0) + `,"small":` + ph(2) + `,"parts":{"x":` + ph(1) + `,"y":null},"any":` + ph(0) + `},null,"cGxhaW4="]`,
		Blobs: [][]byte{[]byte("zero"), []byte("one and more")[:3], {}},
	})
	if a.Len() != 5 {
		t.Fatalf("%d arguments", a.Len())
	}
	check := func(i int, to any, want any) {
		t.Helper()
		if err := a.Decode(i, to); err != nil {
			t.Errorf("argument %d: %v", i, err)
		} else if got := reflect.ValueOf(to).Elem().Interface(); !reflect.DeepEqual(got, want) {
			t.Errorf("argument %d is %#v, not %#v", i, got, want)
		}
	}
	check(0, new(string), "a")
	check(1, new([]byte), []byte("one"))
	check(1, new(Binary), Binary("one"))
	check(1, new(string), "b25l")
	check(1, new(any), any("b25l"))
	check(2, new(upload), upload{Name: "n", Body: Binary("zero"), Small: []byte{}, Parts: map[string]Binary{"x": Binary("one"), "y": nil}, Any: "emVybw=="})
	check(3, new(*int), (*int)(nil))
	check(3, &Binary{1}, Binary(nil))
	check(4, new([]byte), []byte("plain"))
	check(4, new(Binary), Binary("plain"))
	for i, want := range []string{`"a"`, `"b25l"`, `{"name":"n","body":"emVybw==","small":"","parts":{"x":"b25l","y":null},"any":"emVybw=="}`, `null`, `"cGxhaW4="`} {
		if got := string(a.Raw(i)); got != want {
			t.Errorf("argument %d is %s, not %s", i, got, want)
		}
	}
	for i, want := range map[int]string{
		-1: "args[-1] is missing: there are 5 arguments",
		5:  "args[5] is missing: there are 5 arguments",
		0:  "json: cannot unmarshal string into Go value of type int",
	} {
		if err := a.Decode(i, new(int)); err == nil || err.Error() != want {
			t.Errorf("argument %d: %v", i, err)
		}
	}
	if err := a.Decode(0, new(Binary)); err == nil {
		t.Error(`"a" is bytes`)
	}
	if err := (Args{}).Decode(0, new(int)); err == nil || err.Error() != "args[0] is missing: there are 0 arguments" {
		t.Error(err)
	}
	// Bytes that are an argument are not copied, and appending to them changes no other's.
	var b []byte
	if err := a.Decode(1, &b); err != nil || &b[0] != &a.p.Blobs[1][0] || cap(b) != len(b) {
		t.Errorf("a copy, or room behind it: %v", err)
	}
}

// TestValuesComeBack sends values of random shape through the encoding and back.
func FuzzBinary(f *testing.F) {
	f.Add("name", []byte("body"), []byte(nil), "key")
	f.Add("\"\\\u2028"+mark, []byte{0, 0xff}, []byte{}, "_placeholder")
	f.Fuzz(func(t *testing.T, name string, body, part []byte, key string) {
		if body == nil {
			body = []byte{}
		}
		in := upload{Name: name, Body: body, Parts: map[string]Binary{key: part}}
		p, err := encode([]any{in, name, body})
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Check(); err != nil {
			t.Fatalf("%s with %q: %v", p.JSON, p.Blobs, err)
		}
		a := newArgs(p)
		var out upload
		var outBody []byte
		var outName string
		for i, to := range []any{&out, &outName, &outBody} {
			if err := a.Decode(i, to); err != nil {
				t.Fatalf("%s with %q: %v", p.JSON, p.Blobs, err)
			}
		}
		if out.Name != outName || string(out.Body) != string(body) || string(outBody) != string(body) || len(out.Parts) != 1 {
			t.Fatalf("%+v became %+v", in, out)
		}
		for _, b := range out.Parts {
			if string(b) != string(part) || (b == nil) != (part == nil) {
				t.Fatalf("%+v became %+v", in, out)
			}
		}
	})
}

func TestBinaryByItselfIsReadByThisProcess(t *testing.T) {
	b, err := json.Marshal(upload{Body: Binary("x")})
	var out upload
	if err != nil || json.Unmarshal(b, &out) != nil || string(out.Body) != "x" {
		t.Errorf("%s became %+v, %v", b, out, err)
	}
}
