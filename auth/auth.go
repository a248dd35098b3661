package auth

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/stacksjs/realtime-go/internal/channelname"
)

// MaxMemberID is the longest id of a presence member, in bytes.
const MaxMemberID = 128

// User is a verified identity: what [Auth.Identify], a JWT or pusher:signin says about whoever holds a connection.
// It is not changed after it was made, so it may be shared.
type User struct {
	// ID is the application's own id of the user, without control characters and at most 184 bytes, so that
	// "#server-to-user-" and it make a channel name. Empty only for the holder of a token that names nobody:
	// such a token opens the channels it lists and is anonymous everywhere else.
	ID string
	// Info is what the other members of presence channels see: any JSON, which with the ID must fit into the server's
	// Limits.MemberBytes (1 KiB) there. Nil: nothing.
	Info json.RawMessage
	// Channels are patterns of channels the user may listen to without being asked about by any function.
	// They have the syntax of [Auth.Channel], and the last segment may also be "*": one or more segments.
	Channels []string
	// Publish are patterns of channels, public ones included, the user may publish to.
	Publish []string
	// ExpiresAt is when the identity ends. Zero: never.
	ExpiresAt time.Time
}

// Grant is a yes. What it does not allow stays refused.
type Grant struct {
	// MemberID is who the member is in this presence channel; it counts nowhere else. Empty: the user's ID.
	MemberID string
	// MemberInfo is what the other members of this presence channel see: any JSON. Nil: the user's Info if the member
	// is the user, otherwise nothing. The JSON value null: nothing.
	MemberInfo json.RawMessage
	// Publish says that events may be published to the channel, not only whispers.
	Publish bool
	// ExpiresAt is when the grant ends. Zero: with the connection.
	ExpiresAt time.Time
}

// Refusal is a no with a reason that the client may see.
type Refusal struct{ Reason string }

func (r *Refusal) Error() string { return r.Reason }

// Refuse returns a [*Refusal]. Any other error from an application's function is shown to clients only as
// "authorization failed".
func Refuse(reason string) error { return &Refusal{Reason: reason} }

func refusef(format string, args ...any) error { return &Refusal{Reason: fmt.Sprintf(format, args...)} }

// Reason returns what a client may be told about err: the reason of a Refusal, and "authorization failed" for
// everything else, which the caller should log.
func Reason(err error) string {
	if r, ok := errors.AsType[*Refusal](err); ok {
		return r.Reason
	}
	return "authorization failed"
}

// Params are the values of a pattern's parameters by name, e.g. {"orderId": "5"}. None is empty.
type Params map[string]string

// ChannelFunc decides whether u may listen to a channel of its pattern. u is nil when nobody is identified. It
// should honour ctx, which has a deadline, and may be called from many goroutines.
type ChannelFunc func(ctx context.Context, u *User, p Params) (Grant, error)

// Auth holds what an application registered. Register first, serve then: the methods that register must not run
// together with any other; the others may be called from many goroutines.
type Auth struct {
	routes    tree
	identify  func(*http.Request) (User, error)
	tokens    *tokens // nil: JWT was not called
	anonymous bool
	errs      []error // from registering, for Check
	now       func() time.Time
}

// New returns an Auth that identifies nobody and refuses every channel that needs a grant, except to holders of
// Pusher signatures.
func New() *Auth { return &Auth{now: time.Now} }

// Channel registers fn for the private, presence and encrypted channels that match pattern; the package's
// documentation has the syntax. Public channels are never asked about. Mistakes are reported by Check.
func (a *Auth) Channel(pattern string, fn func(ctx context.Context, u *User, p Params) (Grant, error)) {
	if fn == nil {
		a.errs = append(a.errs, fmt.Errorf("channel pattern %q: its function is nil", pattern))
		return
	}
	if err := a.routes.add(pattern, fn); err != nil {
		a.errs = append(a.errs, err)
	}
}

// Identify registers how a request's user is found, e.g. by a session cookie. It is asked at every upgrade and by
// [Auth.Handler], unless the request came with a token that JWT verifies. An error refuses the request; a [Refusal]
// tells the client why. A zero User means nobody, which is refused too unless AllowAnonymous was called.
//
// fn runs on the goroutine of the request, with its context.
func (a *Auth) Identify(fn func(*http.Request) (User, error)) {
	switch {
	case fn == nil:
		a.errs = append(a.errs, errors.New("Identify was called with a nil function"))
	case a.identify != nil:
		a.errs = append(a.errs, errors.New("Identify was called twice: a request has one user"))
	default:
		a.identify = fn
	}
}

// AllowAnonymous lets requests in that bring no identity although Identify or JWT was called: their user is nil. A
// token that is present must still be valid. Without Identify and JWT everybody is anonymous anyway.
func (a *Auth) AllowAnonymous() { a.anonymous = true }

// Check returns everything that is wrong with what was registered, joined; nil if nothing is.
func (a *Auth) Check() error { return errors.Join(a.errs...) }

// Request asks whether one connection may listen to one channel.
type Request struct {
	App         AppKeys
	Channel     string // the wire name, prefix included
	SocketID    string // of the connection
	Auth        string // "KEY:SIGNATURE", a JWT, or empty
	ChannelData string // presence: exactly as received, because it is signed
	User        *User  // who holds the connection; nil: nobody is identified
}

// Authorize decides a request, running the application's function if it comes to that. In this order:
//
//   - Public channels need nothing, and Auth is ignored.
//   - "#server-to-user-{id}" is for connections of that user only, whatever Auth says.
//   - If Auth is not empty, it must be a valid Pusher signature or token for this channel; the function of the
//     channel's pattern is not asked then. A Pusher signature never allows publishing.
//   - The user's own Channels.
//   - The function of the most specific pattern.
//   - No.
//
// The member id in a signature, or a token's subject, must be the user's ID if there is a user; a function in this
// process may choose any. In the Grant for a presence channel MemberID is never empty and MemberInfo is final (nil:
// nothing to see). Publish is also true if the user's own Publish patterns cover the channel; that ends when the
// identity does, which is for the caller to watch.
//
// The error is a [*Refusal] or comes from the application's function.
func (a *Auth) Authorize(ctx context.Context, r Request) (Grant, error) {
	if g, decided, err := a.Decide(r); decided {
		return g, err
	}
	if r.Auth != "" {
		g, err := a.tokenGrant(r)
		if err != nil {
			return Grant{}, err
		}
		return a.complete(g, r)
	}
	kind, bare := channelname.Split(r.Channel)
	rt := a.routes.find(kind, bare)
	u := r.User
	if u != nil && u.ID == "" {
		u = nil // a function that sees a user may rely on its ID
	}
	g, err := rt.fn(ctx, u, rt.params(bare))
	if err != nil {
		return Grant{}, err
	}
	if !g.ExpiresAt.IsZero() && !a.now().Before(g.ExpiresAt) {
		return Grant{}, refusef("the grant for channel %q has already expired", r.Channel)
	}
	return a.complete(g, r)
}

// Decide is Authorize for callers that must not wait: if decided, the answer is that of Authorize. It is not when a
// token's signature has to be verified or the application's function has to run. Neither does Decide wait for
// anything else; a Pusher signature costs it a few microseconds.
func (a *Auth) Decide(r Request) (g Grant, decided bool, err error) {
	if err := channelname.Validate(r.Channel); err != nil {
		return Grant{}, true, Refuse(err.Error())
	}
	kind, bare := channelname.Split(r.Channel)
	switch kind {
	case channelname.Public:
		return Grant{Publish: a.mayPublish(r.User, r.Channel)}, true, nil
	case channelname.User:
		if err := a.userChannel(r.User, bare); err != nil {
			return Grant{}, true, err
		}
		return Grant{}, true, nil
	}
	if r.Auth != "" {
		if !strings.Contains(r.Auth, ":") && strings.Count(r.Auth, ".") == 2 {
			if a.tokens == nil {
				return Grant{}, true, refusef("auth for channel %q is a token, but this server accepts no tokens", r.Channel)
			}
			return Grant{}, false, nil
		}
		g, err = signedGrant(kind, r)
	} else if r.User.mayListen(r.Channel) {
		if err = a.expired(r.User); err == nil {
			g = Grant{ExpiresAt: r.User.ExpiresAt}
		}
	} else if a.routes.find(kind, bare) != nil {
		if err = a.expired(r.User); err == nil {
			return Grant{}, false, nil
		}
	} else {
		err = refusef("no authorizer is registered for channel %q, and the subscription brought neither signature nor token", r.Channel)
	}
	if err != nil {
		return Grant{}, true, err
	}
	g, err = a.complete(g, r)
	return g, true, err
}

func (a *Auth) userChannel(u *User, id string) error {
	switch {
	case u == nil || u.ID == "":
		return refusef("channel %q is for the connections of one user, and this connection has no identity", channelname.UserPrefix+id)
	case u.ID != id:
		return refusef("channel %q is for the connections of that user only, not of %q", channelname.UserPrefix+id, u.ID)
	}
	return a.expired(u)
}

func (a *Auth) expired(u *User) error {
	if u == nil || u.ExpiresAt.IsZero() || a.now().Before(u.ExpiresAt) {
		return nil
	}
	return refusef("the identity of this connection expired at %s: renew it", u.ExpiresAt.UTC().Format(time.RFC3339))
}

// complete makes a grant final: who the member is, what the others see, and what the user may do anyway.
func (a *Auth) complete(g Grant, r Request) (Grant, error) {
	g.Publish = g.Publish || a.mayPublish(r.User, r.Channel)
	if kind, _ := channelname.Split(r.Channel); kind != channelname.Presence {
		g.MemberID, g.MemberInfo = "", nil
		return g, nil
	}
	if u := r.User; u != nil && (g.MemberID == "" || g.MemberID == u.ID) {
		if err := a.expired(u); err != nil {
			return Grant{}, err
		}
		g.MemberID = u.ID
		if g.MemberInfo == nil {
			g.MemberInfo = u.Info
		}
	}
	if g.MemberID == "" {
		return Grant{}, refusef("presence channel %q shows its members, and nothing says who this one is: identify the connection, or send channel_data with a user_id", r.Channel)
	}
	if len(g.MemberID) > MaxMemberID {
		return Grant{}, refusef("member id of %d bytes is longer than %d in channel %q", len(g.MemberID), MaxMemberID, r.Channel)
	}
	info, err := compactJSON(g.MemberInfo)
	if err != nil {
		return Grant{}, fmt.Errorf("member info of %q in channel %q: %w", g.MemberID, r.Channel, err)
	}
	if len(info) > MaxChannelData {
		return Grant{}, refusef("member info of %d bytes is longer than %d in channel %q", len(info), MaxChannelData, r.Channel)
	}
	g.MemberInfo = info
	return g, nil
}

// compactJSON checks what is about to be put into other people's frames and takes line breaks out of it. null is nil.
func compactJSON(raw json.RawMessage) (json.RawMessage, error) {
	if raw == nil {
		return nil, nil
	}
	var b bytes.Buffer
	b.Grow(len(raw))
	if err := json.Compact(&b, raw); err != nil {
		return nil, err
	}
	if b.String() == "null" {
		return nil, nil
	}
	return b.Bytes(), nil
}

// User finds out who makes a request: by token if it is not empty, else by an "Authorization: Bearer" header, else by
// what Identify says. A token that does not verify refuses the request, whatever Identify would say. If JWT was not
// called, tokens in the header are left to Identify. A nil User means that nobody is identified and that this is
// allowed.
//
// The error is a [*Refusal] or comes from the function given to Identify.
func (a *Auth) User(ctx context.Context, r *http.Request, token string) (*User, error) {
	if token == "" {
		token = bearer(r)
		if a.tokens == nil {
			token = ""
		}
	} else if a.tokens == nil && a.identify == nil {
		return nil, Refuse("this server accepts no tokens")
	}
	if token != "" && a.tokens != nil {
		return a.Token(ctx, token)
	}
	var u User
	if a.identify != nil {
		var err error
		if u, err = a.identify(r.WithContext(ctx)); err != nil {
			return nil, err
		}
	}
	if u.ID == "" && len(u.Channels) == 0 && len(u.Publish) == 0 {
		if (a.identify != nil || a.tokens != nil) && !a.anonymous {
			return nil, Refuse("this server wants to know who connects, and the request brought no identity")
		}
		return nil, nil
	}
	if err := u.check(); err != nil {
		return nil, fmt.Errorf("user from Identify: %w", err)
	}
	if err := a.expired(&u); err != nil {
		return nil, err
	}
	return &u, nil
}

// MustWait reports whether User, given the same, runs the application's code or verifies a token; otherwise its answer
// costs nothing and the caller may ask where waiting is not allowed.
func (a *Auth) MustWait(r *http.Request, token string) bool {
	return a.identify != nil || a.tokens != nil && (token != "" || bearer(r) != "")
}

// TakesTokens reports whether JWT was called.
func (a *Auth) TakesTokens() bool { return a.tokens != nil }

// Token returns the user that a JWT speaks of: how a connection gets an identity after it was opened, or renews it.
// The error is a [*Refusal].
func (a *Auth) Token(ctx context.Context, token string) (*User, error) {
	if a.tokens == nil {
		return nil, Refuse("this server accepts no tokens")
	}
	return a.tokens.verify(token, a.now)
}

func bearer(r *http.Request) string {
	if r == nil {
		return ""
	}
	scheme, token, ok := strings.Cut(r.Header.Get("Authorization"), " ")
	if !ok || !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimSpace(token)
}

// check reports what an application or a token says about a user that cannot be.
func (u *User) check() error {
	if u.ID != "" {
		if err := channelname.Validate(channelname.UserPrefix + u.ID); err != nil {
			return fmt.Errorf("user id: %w", err)
		}
	}
	info, err := compactJSON(u.Info)
	if err != nil {
		return fmt.Errorf("info of user %q: %w", u.ID, err)
	}
	u.Info = info
	for _, list := range [][]string{u.Channels, u.Publish} {
		for _, p := range list {
			if _, err := parsePattern(p, true); err != nil {
				return err
			}
		}
	}
	return nil
}

func (u *User) mayListen(channel string) bool { return u != nil && anyCovers(u.Channels, channel) }

// MayPublish reports whether the user's Publish patterns cover a channel, a wire name. It does not look at ExpiresAt.
func (u *User) MayPublish(channel string) bool { return u != nil && anyCovers(u.Publish, channel) }

func (a *Auth) mayPublish(u *User, channel string) bool {
	return u != nil && anyCovers(u.Publish, channel) && a.expired(u) == nil
}
