package realtime

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"reflect"
	"strings"
	"testing"
	"time"
)

type inner struct {
	Code string `json:"code"`
}

type Base struct {
	ID      int    `json:"id"`
	Shadow  string `json:"shadow"`
	Dropped string `json:"-"`
}

type hiddenBase struct {
	FromHidden int
	secret     int //lint:ignore U1000 decoding must pass over it
}

type Optional struct{ Extra string }

type payload struct {
	Base
	hiddenBase
	*Optional
	Shadow  int              `json:"shadow"`
	Name    string           `json:"name"`
	Small   uint8            `json:"small"`
	Price   float64          `json:"price"`
	OK      bool             `json:"ok"`
	Inner   inner            `json:"inner"`
	List    []inner          `json:"list"`
	Map     map[string]inner `json:"map"`
	Pair    [2]int           `json:"pair"`
	Bytes   []byte           `json:"bytes"`
	When    time.Time        `json:"when"`
	Any     any              `json:"any"`
	Raw     json.RawMessage  `json:"raw"`
	Quoted  int64            `json:"quoted,string"`
	Pointer *inner           `json:"pointer"`
	Empty   string           `json:"empty,omitempty"`
	Zero    inner            `json:"zero,omitzero"`
	//lint:ignore SA5008 encoding/json reads it as a field named "-"
	Dash int `json:"-,"`
}

const fits = `{"id":1,"FromHidden":2,"shadow":3,"name":"n","small":255,"price":1.5,"ok":true,"inner":{"code":"c"},
"list":[{"code":"a"},{"code":"b"}],"map":{"k":{"code":"m"}},"pair":[1,2],"bytes":"aGk=","when":"2026-01-02T03:04:05Z",
"any":null,"raw":null,"quoted":"9007199254740993","-":4}`

func decodeInto[T any](data string) (T, error) {
	var v T
	err := decode("E", []byte(data), reflect.ValueOf(&v))
	return v, err
}

func TestDecodeFits(t *testing.T) {
	got, err := decodeInto[payload](fits)
	if err != nil {
		t.Fatal(err)
	}
	if got.ID != 1 || got.FromHidden != 2 || got.Shadow != 3 || got.Base.Shadow != "" || got.Small != 255 || got.List[1].Code != "b" ||
		got.Map["k"].Code != "m" || string(got.Bytes) != "hi" || got.When.Year() != 2026 || got.Quoted != 9007199254740993 || got.Dash != 4 {
		t.Errorf("decoded %+v", got)
	}
	// Whatever may be left out may be there, and be null.
	for _, more := range []string{
		`"Extra":"x","pointer":{"code":"p"},"empty":"e","zero":{"code":"z"}`,
		`"Extra":null,"pointer":null,"empty":null,"zero":null`,
	} {
		if _, err := decodeInto[payload](strings.TrimSuffix(fits, "}") + "," + more + "}"); err != nil {
			t.Errorf("with %s: %v", more, err)
		}
	}
}

// TestDecodeComplains changes one member at a time.
func TestDecodeComplains(t *testing.T) {
	for _, tt := range []struct{ from, to, want string }{
		{`"name":"n",`, ``, `missing name`},
		{`"name":"n"`, `"name":null`, `missing name`},
		{`"name":"n"`, `"name":5`, `name wants a string, got 5`},
		{`"name":"n"`, `"Name":"n"`, `missing name; unknown Name`},
		{`"name":"n"`, `"name":"n","name":"m"`, `name is given twice`},
		{`"id":1,`, ``, `missing id`},
		{`"FromHidden":2,`, ``, `missing FromHidden`},
		{`"shadow":3`, `"shadow":"x"`, `shadow wants an integer (int), got "x"`},
		{`"id":1`, `"id":1,"secret":1,"Dropped":"x"`, `unknown secret, Dropped`},
		{`"small":255`, `"small":256`, `small wants an integer (uint8), got 256`},
		{`"small":255`, `"small":1.5`, `small wants an integer (uint8), got 1.5`},
		{`"price":1.5`, `"price":"1.5"`, `price wants a number, got "1.5"`},
		{`"price":1.5`, `"price":1e999`, `price wants a number, got 1e999`},
		{`"ok":true`, `"ok":1`, `ok wants true or false, got 1`},
		{`"inner":{"code":"c"}`, `"inner":{}`, `missing inner.code`},
		{`"inner":{"code":"c"}`, `"inner":[{"a":[1]},2]`, `inner wants an object, got a list`},
		{`"inner":{"code":"c"}`, `"inner":"c"`, `inner wants an object, got "c"`},
		{`"inner":{"code":"c"}`, `"inner":{"code":{"x":1}}`, `inner.code wants a string, got an object`},
		{`"inner":{"code":"c"}`, `"inner":{"code":"c","x":{"y":[1]},"a.b":1}`, `unknown inner.x, inner["a.b"]`},
		{`{"code":"b"}`, `null`, `missing list[1]`},
		{`{"code":"b"}`, `{"cod":"b"}`, `missing list[1].code; unknown list[1].cod`},
		{`"list":[{"code":"a"},{"code":"b"}]`, `"list":{}`, `list wants a list, got an object`},
		{`"list":[{"code":"a"},{"code":"b"}]`, `"list":null`, `missing list`},
		{`"k":{"code":"m"}`, `"k":{},"with space":{}`, `missing map.k.code, map["with space"].code`},
		{`[1,2]`, `[1]`, `pair wants 2 elements, got 1`},
		{`[1,2]`, `[1,2,3]`, `pair wants 2 elements, got 3`},
		{`"aGk="`, `"?"`, `bytes wants a string in base64, got "?" (illegal base64 data at input byte 0)`},
		{`"2026-01-02T03:04:05Z"`, `"soon"`, `when wants time.Time, got "soon" (parsing time "soon" as "2006-01-02T15:04:05Z07:00": cannot parse "soon" as "2006")`},
		{`"2026-01-02T03:04:05Z"`, `null`, `missing when`},
		{`"any":null,`, ``, `missing any`},
		{`"quoted":"9007199254740993"`, `"quoted":1`, `quoted wants an integer (int64) in a string, got 1`},
		{`"quoted":"9007199254740993"`, `"quoted":"x"`, `quoted wants an integer (int64) in a string, got "x"`},
		{`"quoted":"9007199254740993"`, `"quoted":null`, `missing quoted`},
		{`"id":1`, `"id":1,"pointer":{}`, `missing pointer.code`},
		{`"id":1`, `"id":1,"zero":{}`, `missing zero.code`},
		{`"name":"n"`, `"name":[` + strings.Repeat("1,", 50) + `1]`, `name wants a string, got a list`},
		{`"ok":true`, `"ok":"` + strings.Repeat("ü", 30) + `"`, `ok wants true or false, got "` + strings.Repeat("ü", 19) + `…`},
	} {
		data := strings.Replace(fits, tt.from, tt.to, 1)
		if data == fits {
			t.Fatalf("%s is not in the data", tt.from)
		}
		_, err := decodeInto[payload](data)
		if want := `realtime: data of event "E" does not fit realtime.payload: ` + tt.want; fmt.Sprint(err) != want {
			t.Errorf("%s for %s: %v\nwant %s", tt.to, tt.from, err, want)
		}
	}
}

func TestDecodeWholes(t *testing.T) {
	check := func(err error, want string) {
		t.Helper()
		if fmt.Sprint(err) != want {
			t.Errorf("error %v\nwant  %s", err, want)
		}
	}
	_, err := decodeInto[inner](`null`)
	check(err, `realtime: data of event "E" does not fit realtime.inner: missing code`)
	_, err = decodeInto[inner](`[]`)
	check(err, `realtime: data of event "E" does not fit realtime.inner: data wants an object, got a list`)
	_, err = decodeInto[inner](``)
	check(err, `realtime: data of event "E" is not JSON: unexpected end of JSON input at byte 0 of 0`)
	_, err = decodeInto[inner](`{"code":}`)
	check(err, `realtime: data of event "E" is not JSON: invalid character '}' looking for beginning of value at byte 9 of 9`)
	_, err = decodeInto[inner](`{"code":"a"} x`)
	check(err, `realtime: data of event "E" is not JSON: invalid character 'x' after top-level value at byte 14 of 14`)
	_, err = decodeInto[struct{}](`null`)
	check(err, `<nil>`)
	_, err = decodeInto[[]inner](`[{"code":"a"},{}]`)
	check(err, `realtime: data of event "E" does not fit []realtime.inner: missing [1].code`)
	_, err = decodeInto[[]int](`null`)
	check(err, `realtime: data of event "E" does not fit []int: missing data`)
	_, err = decodeInto[time.Time](`null`)
	check(err, `realtime: data of event "E" does not fit time.Time: missing data`)
	_, err = decodeInto[map[int]string](`{"1":"a","x":"b"}`)
	check(err, `realtime: data of event "E" does not fit map[int]string: json: cannot unmarshal number x into Go value of type int`)
	n, err := decodeInto[big.Int](`123456789012345678901234567890`)
	check(err, `<nil>`)
	if n.String() != "123456789012345678901234567890" {
		t.Errorf("big.Int %v", &n)
	}
	_, err = decodeInto[any](`1e999`)
	check(err, `realtime: data of event "E" does not fit interface {}: json: cannot unmarshal number 1e999 into Go value of type float64`)
}

func TestDataErrorHoldsThePaths(t *testing.T) {
	_, err := decodeInto[payload](`{"list":[{"x":1}]}`)
	var e *DataError
	if !errors.As(err, &e) || e.Event != "E" || e.Payload != reflect.TypeFor[payload]() || len(e.Missing) != 17 || fmt.Sprint(e.Unknown) != "[list[0].x]" {
		t.Errorf("error %#v", e)
	}
}

type loop struct {
	*loop        //lint:ignore U1000 a type that embeds itself must not hang the decoder
	Next  *loop  `json:"next"`
	Kids  []loop `json:"kids,omitempty"`
	V     int    `json:"v"`
}

type left struct{ A, Tagged int }
type right struct {
	A int
	B int `json:"Tagged"`
}
type both struct {
	left
	right
}

func TestFieldRules(t *testing.T) {
	if _, err := decodeInto[loop](`{"v":1,"next":{"v":2},"kids":[{"v":3,"kids":[{}]}]}`); fmt.Sprint(err) != `realtime: data of event "E" does not fit realtime.loop: missing kids[0].kids[0].v` {
		t.Errorf("a type in itself: %v", err)
	}
	// Both embed an A, so neither counts; of two Tagged the one with the tag does.
	v, err := decodeInto[both](`{"Tagged":1}`)
	if err != nil || v.B != 1 || v.left.Tagged != 0 {
		t.Errorf("clashing fields: %+v, %v", v, err)
	}
	if _, err := decodeInto[both](`{"A":1,"Tagged":1}`); fmt.Sprint(err) != `realtime: data of event "E" does not fit realtime.both: unknown A` {
		t.Errorf("clashing fields: %v", err)
	}
}

// FuzzDecode checks that nothing panics, that what fits is what encoding/json takes without unknown fields,
// and that what was decoded fits again.
func FuzzDecode(f *testing.F) {
	f.Add([]byte(fits))
	f.Add([]byte(`{"list":[{"x":[[{}]]},null,3],"pair":[],"quoted":"","inner":[[[]]]}`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var got payload
		if err := decode("E", data, reflect.ValueOf(&got)); err != nil {
			_ = err.Error()
			return
		}
		dec := json.NewDecoder(strings.NewReader(string(data)))
		dec.DisallowUnknownFields()
		var plain payload
		if err := dec.Decode(&plain); err != nil || !reflect.DeepEqual(plain, got) {
			t.Fatalf("%s\nstrict %+v\nplain  %+v, %v", data, got, plain, err)
		}
		again, err := json.Marshal(got)
		if err != nil {
			t.Skip("a value that JSON has no word for")
		}
		if err := decode("E", again, reflect.ValueOf(new(payload))); err != nil {
			t.Fatalf("%s\nwas decoded, and encoded to\n%s\nwhich does not fit: %v", data, again, err)
		}
	})
}
