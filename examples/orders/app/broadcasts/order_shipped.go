package broadcasts

import (
	"context"
	"time"

	realtime "github.com/stacksjs/realtime-go"
)

// OrderShipped tells a customer that an order is on its way. It is an event that handles itself.
type OrderShipped struct {
	OrderID         string     `json:"orderId"`
	UserID          string     `json:"userId"`
	Products        []Product  `json:"products"`
	TotalAmount     float64    `json:"totalAmount"`
	ShippingAddress Address    `json:"shippingAddress"`
	ShippedAt       *time.Time `json:"shippedAt,omitempty"`
}

// Product is a line of an order.
type Product struct {
	ID       string `json:"id"`
	Name     string `json:"name"`
	Quantity int    `json:"quantity"`
}

// Address is where an order goes.
type Address struct {
	Street     string `json:"street"`
	City       string `json:"city"`
	Country    string `json:"country"`
	PostalCode string `json:"postalCode"`
}

// EventName implements realtime.Event.
func (OrderShipped) EventName() string { return "OrderShipped" }

// Handle implements realtime.Event.
func (e OrderShipped) Handle(ctx context.Context) error {
	return realtime.Channel("orders."+e.OrderID).Private(ctx, e.EventName(), e)
}
