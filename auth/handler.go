package auth

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"path"
	"regexp"
	"strings"

	"github.com/stacksjs/realtime-go/internal/channelname"
)

// Limits of one request to [Auth.Handler].
const (
	maxAuthBody     = 64 << 10
	maxAuthChannels = 100
)

// HandlerOptions are what [Auth.Handler] may be told. The zero value is good.
type HandlerOptions struct {
	// SharedSecret returns the key of an encrypted channel, 32 bytes, given its wire name. Nil: encrypted channels are
	// refused.
	SharedSecret func(channel string) []byte
	// JSONP also answers "GET ?callback=…", for pages that cannot make cross-origin requests. It lets every web site
	// obtain signatures in the name of its visitors if they are known by cookies that browsers send across sites.
	JSONP bool
	// Logger gets the errors of the application's functions that clients are not shown. Nil: slog.Default().
	Logger *slog.Logger
}

// Handler returns the endpoint that browsers ask before they subscribe or sign in (Pusher Channels protocol,
// "Authorizing users"; pusher-js channelAuthorization and userAuthentication, Laravel Echo authEndpoint). The last
// element of the path decides what it does, so it may be mounted as /pusher/ and as /broadcasting/: "auth" signs for a
// channel, "user-auth" for signing in.
//
// Who asks is found as in [Auth.User]; whether they may is decided by the user's Channels and the functions registered
// with Channel. The answer is signed with the app's first key. A signature carries neither Publish nor ExpiresAt of
// the Grant: it opens the channel to the socket id for as long as the connection lives. Nor can it make the holder of
// an identified connection another member than that identity.
//
// Requests are POST with a form or JSON: socket_id, channel_name. channel_name may be repeated as channel_name[], or
// be a JSON array, up to 100 times; the answer is then an object with one entry for each channel, {"error": …} where
// refused. A refusal is 403 {"error": reason}. The handler sets no CORS headers.
func (a *Auth) Handler(app AppKeys, o HandlerOptions) http.Handler {
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	return &endpoint{auth: a, app: app, HandlerOptions: o}
}

type endpoint struct {
	auth *Auth
	app  AppKeys
	HandlerOptions
}

// answer is the body of a response. Its fields stand in the order of the protocol's documentation.
type answer struct {
	Auth         string `json:"auth,omitempty"`
	ChannelData  string `json:"channel_data,omitempty"`
	SharedSecret string `json:"shared_secret,omitempty"`
	UserData     string `json:"user_data,omitempty"`
	Error        string `json:"error,omitempty"`
}

func (e *endpoint) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	kind := path.Base(r.URL.Path)
	if kind != "auth" && kind != "user-auth" {
		e.reply(w, http.StatusNotFound, "", answer{Error: "the path must end in /auth or /user-auth"})
		return
	}
	callback := ""
	if r.Method == http.MethodGet && e.JSONP {
		callback = r.URL.Query().Get("callback")
		if len(callback) > 100 || !callbackName.MatchString(callback) {
			e.reply(w, http.StatusBadRequest, "", answer{Error: "callback is not the name of a JavaScript function"})
			return
		}
	} else if r.Method != http.MethodPost {
		h.Set("Allow", http.MethodPost)
		e.reply(w, http.StatusMethodNotAllowed, "", answer{Error: "use POST"})
		return
	}
	in, status, err := readAuthRequest(w, r)
	if err != nil {
		e.reply(w, status, "", answer{Error: err.Error()})
		return
	}
	u, err := e.auth.User(r.Context(), r, "")
	if err != nil {
		status, out := e.refused(r, err)
		e.reply(w, status, "", out)
		return
	}
	if kind == "user-auth" {
		status, out := e.user(r, u, in.socketID)
		e.reply(w, status, callback, out)
		return
	}
	switch {
	case len(in.channels) == 0:
		e.reply(w, http.StatusBadRequest, "", answer{Error: "channel_name is missing"})
	case len(in.channels) > maxAuthChannels:
		e.reply(w, http.StatusBadRequest, "", answer{Error: fmt.Sprintf("more than %d channels in one request", maxAuthChannels)})
	case !in.several:
		status, out := e.channel(r, u, in.socketID, in.channels[0])
		e.reply(w, status, callback, out)
	default:
		all := make(map[string]answer, len(in.channels))
		for _, name := range in.channels {
			_, all[name] = e.channel(r, u, in.socketID, name)
		}
		e.reply(w, http.StatusOK, callback, all)
	}
}

// channel signs for one channel.
func (e *endpoint) channel(r *http.Request, u *User, socketID, name string) (int, answer) {
	if err := channelname.Validate(name); err != nil {
		return http.StatusBadRequest, answer{Error: err.Error()}
	}
	kind, _ := channelname.Split(name)
	switch kind {
	case channelname.Public:
		return e.refused(r, refusef("channel %q is public and needs no signature; private channels begin with private-, presence- or private-encrypted-", name))
	case channelname.User:
		return e.refused(r, refusef("channel %q needs no signature: sign in as that user", name))
	case channelname.Encrypted:
		if e.SharedSecret == nil {
			return e.refused(r, refusef("channel %q is encrypted, and this endpoint has no encryption key", name))
		}
	}
	key, err := e.app.signing()
	if err != nil {
		return e.refused(r, err)
	}
	g, err := e.auth.Authorize(r.Context(), Request{App: e.app, Channel: name, SocketID: socketID, User: u})
	if err != nil {
		return e.refused(r, err)
	}
	var out answer
	switch kind {
	case channelname.Presence:
		if out.ChannelData, err = identityJSON("user_id", g.MemberID, g.MemberInfo); err != nil {
			return e.refused(r, err)
		}
	case channelname.Encrypted:
		secret := e.SharedSecret(name)
		if len(secret) == 0 {
			return e.refused(r, fmt.Errorf("SharedSecret returned nothing for channel %q", name))
		}
		out.SharedSecret = base64.StdEncoding.EncodeToString(secret)
	}
	out.Auth = SignChannel(key.Key, key.Secret, socketID, name, out.ChannelData)
	return http.StatusOK, out
}

// user signs for signing in.
func (e *endpoint) user(r *http.Request, u *User, socketID string) (int, answer) {
	if u == nil || u.ID == "" {
		return e.refused(r, Refuse("nobody is logged in: there is no user to sign in as"))
	}
	key, err := e.app.signing()
	if err != nil {
		return e.refused(r, err)
	}
	data, err := identityJSON("id", u.ID, u.Info)
	if err != nil {
		return e.refused(r, err)
	}
	return http.StatusOK, answer{Auth: SignUser(key.Key, key.Secret, socketID, data), UserData: data}
}

// identityJSON is {"<idName>":id,"user_info":info}, the text that is signed and sent.
func identityJSON(idName, id string, info json.RawMessage) (string, error) {
	text, err := marshal(id)
	if err != nil {
		return "", err
	}
	data := `{"` + idName + `":` + string(text)
	if info != nil {
		data += `,"user_info":` + string(info)
	}
	data += "}"
	if len(data) > MaxChannelData {
		return "", refusef("info of user %q is too long: it must fit into %d bytes", id, MaxChannelData)
	}
	return data, nil
}

func (e *endpoint) refused(r *http.Request, err error) (int, answer) {
	if _, ok := errors.AsType[*Refusal](err); ok {
		return http.StatusForbidden, answer{Error: Reason(err)}
	}
	e.Logger.ErrorContext(r.Context(), "authorization failed", "path", r.URL.Path, "error", err)
	return http.StatusInternalServerError, answer{Error: Reason(err)}
}

func (e *endpoint) reply(w http.ResponseWriter, status int, callback string, body any) {
	text, err := marshal(body)
	if err != nil {
		panic(err) // strings only
	}
	if callback != "" && status == http.StatusOK {
		w.Header().Set("Content-Type", "text/javascript; charset=utf-8")
		text = []byte(callback + "(" + string(text) + ");")
	} else {
		w.Header().Set("Content-Type", "application/json")
	}
	w.WriteHeader(status)
	w.Write(text)
}

// marshal is json.Marshal that leaves <, > and & alone: nothing here is read as HTML.
func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err := enc.Encode(v)
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), err
}

// A callback is a path of names and string or number keys: pusher-js sends Pusher.auth_callbacks['1'].
var callbackName = regexp.MustCompile(`^[A-Za-z_$][\w$]*(\.[A-Za-z_$][\w$]*|\[\d+\]|\['\w+'\]|\["\w+"\])*$`)

type authRequest struct {
	socketID string
	channels []string
	several  bool // they came as a list, so the answer is one too
}

// readAuthRequest returns what was asked, or an error and the status it deserves.
func readAuthRequest(w http.ResponseWriter, r *http.Request) (in authRequest, status int, err error) {
	status = http.StatusBadRequest
	if r.Method == http.MethodPost {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxAuthBody))
		if tooLarge, ok := errors.AsType[*http.MaxBytesError](err); ok {
			return in, http.StatusRequestEntityTooLarge, refusef("the body is longer than %d bytes", tooLarge.Limit)
		}
		if err != nil {
			return in, status, errors.New("the body could not be read")
		}
		contentType, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
		switch contentType {
		case "application/json":
			err = in.readJSON(body)
		case "application/x-www-form-urlencoded", "":
			err = in.readForm(string(body))
		default:
			return in, http.StatusUnsupportedMediaType, refusef("Content-Type is %.60q, and must be application/x-www-form-urlencoded or application/json", contentType)
		}
		if err != nil {
			return in, status, err
		}
	} else if err := in.readForm(r.URL.RawQuery); err != nil {
		return in, status, err
	}
	if !isSocketID(in.socketID) {
		return in, status, refusef(`socket_id is %.40q, and must be the connection's, like "123.456"`, in.socketID)
	}
	return in, 0, nil
}

func (in *authRequest) readForm(raw string) error {
	for pair := range strings.SplitSeq(raw, "&") {
		list, err := ParseQuery(pair)
		if err != nil {
			return err
		}
		if v, ok := list["socket_id"]; ok {
			in.socketID = v[0]
		}
		if v, ok := list["channel_name"]; ok {
			in.channels = append(in.channels, v...)
			name, _, _ := strings.Cut(pair, "=")
			in.several = name != "channel_name" || len(in.channels) > 1
		}
	}
	return nil
}

func (in *authRequest) readJSON(body []byte) error {
	fields, err := jsonObject(string(body))
	if err != nil {
		return refusef("the body: %v", err)
	}
	if raw, ok := fields["socket_id"]; ok {
		if err := json.Unmarshal(raw, &in.socketID); err != nil {
			return errors.New("socket_id must be a string")
		}
	}
	raw, ok := fields["channel_name"]
	if !ok {
		return nil
	}
	if raw[0] == '[' {
		in.several = true
		err = json.Unmarshal(raw, &in.channels)
	} else {
		in.channels = make([]string, 1)
		err = json.Unmarshal(raw, &in.channels[0])
	}
	if err != nil {
		return errors.New("channel_name must be a string or an array of strings")
	}
	return nil
}

// isSocketID reports whether s is digits, a point, digits.
func isSocketID(s string) bool {
	a, b, ok := strings.Cut(s, ".")
	return ok && a != "" && b != "" && len(s) <= 64 && strings.Trim(a, "0123456789") == "" && strings.Trim(b, "0123456789") == ""
}
