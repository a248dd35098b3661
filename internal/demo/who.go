package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"github.com/stacksjs/realtime-go/auth"
)

// The customers and their orders. An order that is not here is new, and open to whoever tries the demo.
var owners = map[string]string{"12345": "ann", "54321": "bob"}

const (
	cookieName = "realtime_demo_user"
	nobody     = "the demo needs a user: open its page, or connect to /ws?user=ann"
)

// userName is who a request says it comes from: ?user=, else the cookie that the page sets, else nobody. Believing
// that is for development only; an application looks its session up instead.
func userName(r *http.Request) (string, error) {
	name := r.URL.Query().Get("user")
	if name == "" {
		c, err := r.Cookie(cookieName)
		if err != nil {
			return "", nil
		}
		name = c.Value
	}
	if len(name) > 32 || strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789_-") != "" {
		return "", auth.Refuse(fmt.Sprintf("user %.40q is not a name the demo takes: up to 32 of a-z, 0-9, _ and -", name))
	}
	return name, nil
}

// who is identity and access of the demo.
func who() *auth.Auth {
	a := auth.New()
	a.Identify(func(r *http.Request) (auth.User, error) {
		name, err := userName(r)
		if err != nil {
			return auth.User{}, err
		}
		if name == "" {
			return auth.User{}, auth.Refuse(nobody)
		}
		info, err := json.Marshal(map[string]string{"name": title(name)})
		return auth.User{ID: name, Info: info}, err
	})
	a.Channel("orders.{orderId}", func(_ context.Context, u *auth.User, p auth.Params) (auth.Grant, error) {
		if owner, ok := owners[p["orderId"]]; ok && owner != u.ID {
			return auth.Grant{}, auth.Refuse(fmt.Sprintf("order %s belongs to %s, and you are %s", p["orderId"], title(owner), title(u.ID)))
		}
		return auth.Grant{}, nil
	})
	a.Channel("presence-chat-room", func(context.Context, *auth.User, auth.Params) (auth.Grant, error) {
		return auth.Grant{}, nil
	})
	return a
}

func title(name string) string { return strings.ToUpper(name[:1]) + name[1:] }
