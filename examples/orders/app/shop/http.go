package shop

import (
	_ "embed"
	"encoding/json"
	"net/http"

	realtime "github.com/stacksjs/realtime-go"
	"github.com/stacksjs/realtime-go/examples/orders/app/broadcasts"
)

//go:embed page.html
var page []byte

// Routes adds the shop's pages to mux.
func (s *Shop) Routes(mux *http.ServeMux) {
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Write(page)
	})
	mux.HandleFunc("POST /sign-in", s.postSignIn)
	mux.HandleFunc("POST /orders", s.signedIn(s.postOrder))
	mux.HandleFunc("POST /orders/{orderId}/ship", s.signedIn(s.postShip))
	mux.HandleFunc("POST /messages", s.signedIn(s.postMessage))
}

// signedIn hands the user on, or refuses.
func (s *Shop) signedIn(next func(w http.ResponseWriter, r *http.Request, userID string)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		u, err := s.User(r)
		if err != nil || u.ID == "" {
			http.Error(w, "sign in first", http.StatusUnauthorized)
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, 64<<10)
		next(w, r, u.ID)
	}
}

// postSignIn believes everybody, since passwords are not what this example is about.
func (s *Shop) postSignIn(w http.ResponseWriter, r *http.Request) {
	user := r.PostFormValue("user")
	if user == "" {
		http.Error(w, "who are you?", http.StatusBadRequest)
		return
	}
	http.SetCookie(w, &http.Cookie{Name: "session", Value: s.signIn(user), Path: "/", HttpOnly: true, SameSite: http.SameSiteLaxMode})
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

func (s *Shop) postOrder(w http.ResponseWriter, r *http.Request, userID string) {
	var o Order
	if err := json.NewDecoder(r.Body).Decode(&o); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.WriteHeader(http.StatusCreated)
	json.NewEncoder(w).Encode(map[string]string{"orderId": s.place(userID, o)})
}

// postShip sends a typed event: the compiler checks it.
func (s *Shop) postShip(w http.ResponseWriter, r *http.Request, userID string) {
	event, err := s.shipped(userID, r.PathValue("orderId"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusNotFound)
		return
	}
	if err := realtime.Dispatch(r.Context(), event); err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// postMessage sends an event by its name.
func (s *Shop) postMessage(w http.ResponseWriter, r *http.Request, userID string) {
	m := broadcasts.NewMessage{Content: r.PostFormValue("content"), Sender: userID, Timestamp: s.now().UTC()}
	if err := realtime.Broadcast(r.Context(), "NewMessage", m); err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}
