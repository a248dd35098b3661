package demo

import (
	"context"
	"errors"

	realtime "github.com/stacksjs/realtime-go"
)

// OrderShipped is what the page's form broadcasts.
type OrderShipped struct {
	OrderID         string    `json:"orderId"`
	UserID          string    `json:"userId"`
	Products        []Product `json:"products"`
	TotalAmount     float64   `json:"totalAmount"`
	ShippingAddress Address   `json:"shippingAddress"`
}

type Product struct {
	ID       string `json:"id"`
	Name     string `json:"name"`
	Quantity int    `json:"quantity"`
}

type Address struct {
	Street     string `json:"street"`
	City       string `json:"city"`
	Country    string `json:"country"`
	PostalCode string `json:"postalCode"`
}

// Notice is what everybody may know of an order.
type Notice struct {
	OrderID string `json:"orderId"`
	City    string `json:"city"`
}

func (OrderShipped) EventName() string { return "OrderShipped" }

func (e OrderShipped) Validate() error {
	if e.OrderID == "" || len(e.Products) == 0 {
		return errors.New("an order needs an orderId and at least one product")
	}
	return nil
}

// Handle sends the order to its customer, and a notice of it to everybody else.
func (e OrderShipped) Handle(ctx context.Context) error {
	if err := realtime.Channel("orders."+e.OrderID).Private(ctx, e.EventName(), e); err != nil {
		return err
	}
	notice := Notice{OrderID: e.OrderID, City: e.ShippingAddress.City}
	if err := realtime.Channel("notifications").Public(ctx, e.EventName(), notice); err != nil {
		return err
	}
	return realtime.Channel("chat-room").Presence(ctx, e.EventName(), notice)
}
