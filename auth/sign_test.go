package auth

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"
)

const eventsBody = `{"name":"foo","channels":["project-3"],"data":"{\"some\":\"data\"}"}`

// The vectors are those of the Pusher documentation, "HTTP API: worked authentication example".
func TestRequestVectors(t *testing.T) {
	at := time.Unix(1353088179, 0)
	got := SignRequest("post", "/apps/3/events", nil, []byte(eventsBody), testKey, testSecret, at)
	want := "auth_key=278d425bdf160c739803&auth_timestamp=1353088179&auth_version=1.0&body_md5=ec365a775a4cd0599faeb73354201b6f" +
		"&auth_signature=da454824c97ba181a32ccc17a72625ba02771f50b50e1e7430e47a1f3f457e6c"
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	r := httptest.NewRequest("POST", "/apps/3/events?"+want, nil)
	if err := VerifyRequest(r, []byte(eventsBody), testApp, at, ""); err != nil {
		t.Error(err)
	}

	at = time.Unix(1427034994, 0)
	app := AppKeys{ID: "102015", Keys: []Key{{"d41a439c438a100756f5", "4bf35003e819bb138249"}}}
	got = SignRequest("GET", "/apps/102015/channels", map[string]string{"filter_by_prefix": "presence-", "info": "user_count"}, nil, app.Keys[0].Key, app.Keys[0].Secret, at)
	want = "auth_key=d41a439c438a100756f5&auth_timestamp=1427034994&auth_version=1.0&filter_by_prefix=presence-&info=user_count" +
		"&auth_signature=4d8a02edcc8a758b0162cd6da690a9a45fb8ae326a276dca1e06a0bc42796c11"
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if err := VerifyRequest(httptest.NewRequest("GET", "/apps/102015/channels?"+want, nil), nil, app, at, ""); err != nil {
		t.Error(err)
	}
}

// The query alone says whether its body is worth waiting for; whether it is the body that was signed, only the body does.
func TestVerifyQuery(t *testing.T) {
	query := SignRequest("POST", "/apps/3/events", nil, []byte(eventsBody), testKey, testSecret, testTime)
	for _, tc := range []struct{ query, body, wantQuery, wantRequest string }{
		{query, eventsBody, "", ""},
		{query, "another", "", "body_md5 is "},
		{query + "0", eventsBody, "auth_signature is not", "auth_signature is not"},
		{strings.Replace(query, "body_md5=", "body_md5=0", 1), eventsBody, "auth_signature is not", "body_md5 is "},
		{"auth_key=" + testKey, eventsBody, "auth_timestamp is missing", "auth_timestamp is missing"},
	} {
		r := httptest.NewRequest("POST", "/apps/3/events?"+tc.query, nil)
		for _, check := range []struct {
			err  error
			want string
		}{{VerifyQuery(r, testApp, testTime, ""), tc.wantQuery}, {VerifyRequest(r, []byte(tc.body), testApp, testTime, ""), tc.wantRequest}} {
			if check.want == "" && check.err != nil || check.want != "" && (check.err == nil || !strings.Contains(check.err.Error(), check.want)) {
				t.Errorf("%s with body %q: %v, and should be %q", tc.query, tc.body, check.err, check.want)
			}
		}
	}
}

func TestVerifyRequest(t *testing.T) {
	// signed makes a query whose signature covers exactly the text given, in the order given.
	signed := func(method, path, text string) string {
		return "&auth_signature=" + signature(testSecret, method+"\n"+path+"\n"+text)
	}
	const auth = "auth_key=" + testKey + "&auth_timestamp=1772366400&auth_version=1.0"
	get := func(params map[string]string) string {
		return SignRequest("GET", "/apps/3/channels", params, nil, testKey, testSecret, testTime)
	}
	post := func(body string) string {
		return SignRequest("POST", "/apps/3/events", nil, []byte(body), testKey, testSecret, testTime)
	}
	late := func(d time.Duration) string {
		return SignRequest("GET", "/apps/3/channels", nil, nil, testKey, testSecret, testTime.Add(d))
	}
	const list = "/apps/3/channels"
	for _, tc := range []struct {
		name, method, path, query, body, prefix string
		want                                    string // part of the reason; empty: accepted
	}{
		{"plain", "GET", list, get(nil), "", "", ""},
		{"semicolons and commas", "GET", list, auth + "&filter_by_prefix=a;b,c" + signed("GET", list, auth+"&filter_by_prefix=a;b,c"), "", "", ""},
		{"escaped", "GET", list, get(map[string]string{"filter_by_prefix": "a;b,c=@ é&%+"}), "", "", ""},
		{"any order", "GET", list, "info=x&auth_version=1.0&auth_timestamp=1772366400&auth_key=" + testKey + signed("GET", list, auth+"&info=x"), "", "", ""},
		{"keys in upper case", "GET", list, strings.ToUpper("auth_key") + auth[8:] + "&INFO=X" + signed("GET", list, auth+"&info=X"), "", "", ""},
		{"array", "GET", list, auth + "&channels[]=b&channels[]=a" + signed("GET", list, auth+"&channels=b,a"), "", "", ""},
		{"array with indexes, escaped", "GET", list, auth + "&channels%5B0%5D=b&channels%5B1%5D=a" + signed("GET", list, auth+"&channels=b,a"), "", "", ""},
		{"repeated", "GET", list, auth + "&info=b&info=a" + signed("GET", list, auth+"&info=b,a"), "", "", ""},
		{"empty value and no value", "GET", list, auth + "&x=&y" + signed("GET", list, auth+"&x=&y="), "", "", ""},
		{"body", "POST", "/apps/3/events", post(eventsBody), eventsBody, "", ""},
		{"empty body without MD5", "POST", "/apps/3/events", post(""), "", "", ""},
		{"empty body with MD5", "POST", list, auth + "&body_md5=d41d8cd98f00b204e9800998ecf8427e" + signed("POST", list, auth+"&body_md5=d41d8cd98f00b204e9800998ecf8427e"), "", "", ""},
		{"path as received", "GET", "/apps/3/channels/a%2Cb;c", auth + signed("GET", "/apps/3/channels/a%2Cb;c", auth), "", "", ""},
		{"path decoded", "GET", "/apps/3/channels/a%2Cb;c", auth + signed("GET", "/apps/3/channels/a,b;c", auth), "", "", ""},
		{"prefix signed", "GET", "/rt" + list, auth + signed("GET", "/rt"+list, auth), "", "/rt/", ""},
		{"prefix not signed", "GET", "/rt" + list, get(nil), "", "/rt", ""},
		{"prefix not signed, decoded", "GET", "/rt/apps/3/channels/a%2Cb", auth + signed("GET", "/apps/3/channels/a,b", auth), "", "/rt", ""},
		{"600 s early", "GET", list, late(600 * time.Second), "", "", ""},
		{"600 s late", "GET", list, late(-600 * time.Second), "", "", ""},

		{"prefix not configured", "GET", "/rt" + list, get(nil), "", "", `of "GET\n/rt/apps/3/channels\nauth_key=`},
		{"half a prefix", "GET", "/rtx" + list, get(nil), "", "/rt", "auth_signature is not"},
		{"601 s early", "GET", list, late(601 * time.Second), "", "", "auth_timestamp is 1772367001, and the server's time 1772366400"},
		{"601 s late", "GET", list, late(-601 * time.Second), "", "", "auth_timestamp is 1772365799"},
		{"timestamp huge", "GET", list, strings.Replace(get(nil), "1772366400", "-9223372036854775808", 1), "", "", "auth_timestamp is -9223372036854775808"},
		{"timestamp not a number", "GET", list, strings.Replace(get(nil), "1772366400", "now", 1), "", "", `auth_timestamp is "now"`},
		{"nothing", "GET", list, "", "", "", "auth_key is missing"},
		{"no timestamp", "GET", list, "auth_key=" + testKey, "", "", "auth_timestamp is missing"},
		{"no version", "GET", list, strings.Replace(get(nil), "&auth_version=1.0", "", 1), "", "", "auth_version is missing"},
		{"no signature", "GET", list, auth, "", "", "auth_signature is missing"},
		{"two keys", "GET", list, get(nil) + "&auth_key=x", "", "", "auth_key is there 2 times"},
		{"two keys, one as an array", "GET", list, get(nil) + "&auth_key[]=x", "", "", "auth_key is there 2 times"},
		{"unknown key", "GET", list, strings.Replace(get(nil), testKey, "k", 1), "", "", `auth_key "k" is not a key of app "3"`},
		{"version 2", "GET", list, strings.Replace(get(nil), "=1.0", "=2.0", 1), "", "", `auth_version is "2.0"`},
		{"body without MD5", "POST", list, get(nil), "{}", "", "body_md5 is missing: the body has 2 bytes, and its MD5 is 99914b932bd37a50b983c5e7c90ae93b"},
		{"other body", "POST", "/apps/3/events", post("{}"), "[]", "", "body_md5 is \"99914b932bd37a50b983c5e7c90ae93b\", and the MD5 of the 2 bytes received is d751713988987e9331980363e24189ce"},
		{"body lost", "POST", "/apps/3/events", post("{}"), "", "", "MD5 of the 0 bytes received is d41d8cd98f00b204e9800998ecf8427e"},
		{"two MD5s", "POST", "/apps/3/events", post("{}") + "&body_md5=x", "{}", "", "body_md5 is there 2 times"},
		{"other method", "PUT", list, get(nil), "", "", `of "PUT\n/apps/3/channels\nauth_key=278d425bdf160c739803&auth_timestamp=1772366400&auth_version=1.0" with the secret of key "278d425bdf160c739803"`},
		{"other path", "GET", "/apps/4/channels", get(nil), "", "", "/apps/4/channels"},
		{"parameter added", "GET", list, get(nil) + "&info=user_count", "", "", "auth_version=1.0&info=user_count"},
		{"parameter changed", "GET", list, strings.Replace(get(map[string]string{"info": "a"}), "info=a", "info=b", 1), "", "", "info=b"},
		{"bad escape", "GET", list, get(nil) + "&x=%zz", "", "", `"%zz"`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := &http.Request{Method: tc.method, URL: &url.URL{RawQuery: tc.query}, RequestURI: tc.path + "?" + tc.query}
			err := VerifyRequest(r, []byte(tc.body), testApp, testTime, tc.prefix)
			if tc.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			wantRefusal(t, err, tc.want)
			if err != nil && strings.Contains(err.Error(), testSecret) {
				t.Errorf("the secret is in %q", err)
			}
		})
	}

	noKeys := AppKeys{ID: "3", Keys: []Key{{testKey, ""}}}
	r := httptest.NewRequest("GET", list+"?"+SignRequest("GET", list, nil, nil, testKey, "", testTime), nil)
	wantRefusal(t, VerifyRequest(r, nil, noKeys, testTime, ""), "is not a key")

	client, err := http.NewRequest("GET", "http://example.com/apps/3/channels?"+get(nil), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := VerifyRequest(client, nil, testApp, testTime, ""); err != nil {
		t.Errorf("a request without RequestURI: %v", err)
	}
	proxied := httptest.NewRequest("GET", "http://example.com/apps/3/channels?"+get(nil), nil)
	if proxied.RequestURI[0] == '/' {
		t.Fatal("RequestURI is not absolute")
	}
	if err := VerifyRequest(proxied, nil, testApp, testTime, ""); err != nil {
		t.Errorf("a request with an absolute URI: %v", err)
	}
}

func FuzzRawQuery(f *testing.F) {
	for _, s := range []string{"a=1&b=2", "channels[]=a&channels[]=b", "x=a;b,c", "A=%41&a=+", "&&=&", "a[1]b=2", "[]=1", "a[x]=1", "%", SignRequest("GET", "/", nil, nil, testKey, testSecret, testTime)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		query, err := ParseQuery(raw)
		if err != nil {
			return
		}
		for name, values := range query {
			if name != strings.ToLower(name) || len(values) == 0 {
				t.Errorf("%q: %q", name, values)
			}
		}
		// Whatever it is, nobody without the secret gets in.
		r := &http.Request{Method: "GET", URL: &url.URL{RawQuery: raw}, RequestURI: "/apps/3/channels"}
		app := AppKeys{Keys: []Key{{testKey, "another secret"}}}
		if err := VerifyRequest(r, nil, app, testTime, ""); err == nil {
			t.Errorf("accepted %q", raw)
		}
		// What SignRequest makes of it is read as the same and accepted.
		params := map[string]string{}
		for name, values := range query {
			if !strings.Contains(name, "[") && !strings.HasPrefix(name, "auth_") && name != "body_md5" {
				params[name] = values[0]
			}
		}
		r.URL.RawQuery = SignRequest("GET", "/apps/3/channels", params, nil, testKey, testSecret, testTime)
		if err := VerifyRequest(r, nil, testApp, testTime, ""); err != nil {
			t.Errorf("%q: %v", r.URL.RawQuery, err)
		}
	})
}
