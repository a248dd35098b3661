// Package shop is a small shop: it takes orders, and ships them.
package shop

import (
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/stacksjs/realtime-go/auth"
	"github.com/stacksjs/realtime-go/examples/orders/app/broadcasts"
)

// Order is what a customer orders.
type Order struct {
	Products        []broadcasts.Product `json:"products"`
	TotalAmount     float64              `json:"totalAmount"`
	ShippingAddress broadcasts.Address   `json:"shippingAddress"`
}

type placed struct {
	Order
	userID string
}

// Shop keeps everything in memory. Its methods may be called concurrently.
type Shop struct {
	now func() time.Time

	mu       sync.Mutex
	sessions map[string]string // cookie → user
	orders   map[string]placed
	messages []broadcasts.NewMessage
}

// New returns an empty shop whose clock is now.
func New(now func() time.Time) *Shop {
	return &Shop{now: now, sessions: map[string]string{}, orders: map[string]placed{}}
}

var errNoOrder = errors.New("you have no such order")

func (s *Shop) place(userID string, o Order) (orderID string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	orderID = strconv.Itoa(12345 + len(s.orders))
	s.orders[orderID] = placed{o, userID}
	return orderID
}

// shipped is what is broadcast about an order of the user's.
func (s *Shop) shipped(userID, orderID string) (broadcasts.OrderShipped, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o, ok := s.orders[orderID]
	if !ok || o.userID != userID {
		return broadcasts.OrderShipped{}, errNoOrder
	}
	at := s.now().UTC()
	return broadcasts.OrderShipped{
		OrderID: orderID, UserID: userID, Products: o.Products, TotalAmount: o.TotalAmount,
		ShippingAddress: o.ShippingAddress, ShippedAt: &at,
	}, nil
}

// Owner implements broadcasts.Orders.
func (s *Shop) Owner(_ context.Context, orderID string) (string, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o, ok := s.orders[orderID]
	return o.userID, ok
}

// Keep implements broadcasts.Messages.
func (s *Shop) Keep(_ context.Context, m broadcasts.NewMessage) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.messages = append(s.messages, m)
	return nil
}

func (s *Shop) signIn(userID string) (session string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	session = rand.Text()
	s.sessions[session] = userID
	return session
}

// User is who makes a request, by the session's cookie. The zero User is nobody. It serves the shop's own pages and
// the connections of browsers alike: auth.Identify(shop.User).
func (s *Shop) User(r *http.Request) (auth.User, error) {
	c, err := r.Cookie("session")
	if err != nil {
		return auth.User{}, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return auth.User{ID: s.sessions[c.Value]}, nil
}
