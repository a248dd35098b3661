package realtime_test

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/stacksjs/realtime-go"
)

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

type OrderShipped struct {
	OrderID         string    `json:"orderId"`
	UserID          string    `json:"userId"`
	Products        []Product `json:"products"`
	TotalAmount     float64   `json:"totalAmount"`
	ShippingAddress Address   `json:"shippingAddress"`
	ShippedAt       string    `json:"shippedAt,omitempty"`
}

func (OrderShipped) EventName() string { return "OrderShipped" }

func (e OrderShipped) Handle(ctx context.Context) error {
	return realtime.Channel("orders."+e.OrderID).Private(ctx, e.EventName(), e)
}

// All is the application's table of events.
func All() *realtime.Events {
	e := realtime.NewEvents()
	realtime.Register[OrderShipped](e)
	return e
}

// printer is a driver that prints what it is given.
var printer = realtime.DriverFunc(func(_ context.Context, m *realtime.Message) error {
	fmt.Print(m.Event, " ", m.Channels, " ", string(m.Data))
	if len(m.ExceptSockets) > 0 {
		fmt.Print(" except sockets ", m.ExceptSockets)
	}
	if len(m.ExceptUsers) > 0 {
		fmt.Print(" except users ", m.ExceptUsers)
	}
	fmt.Println()
	return nil
})

// printing is a context whose Broadcaster prints; programs call SetDefault at start instead.
func printing(events *realtime.Events) context.Context {
	b, err := realtime.New(printer, events)
	if err != nil {
		panic(err)
	}
	return realtime.WithBroadcaster(context.Background(), b)
}

// An order is shipped, and whoever may listen to its channel hears of it.
func Example() {
	ctx := printing(All())
	err := realtime.Broadcast(ctx, "OrderShipped", OrderShipped{
		OrderID: "12345",
		UserID:  "user_123",
		Products: []Product{
			{ID: "prod_1", Name: "Widget", Quantity: 2},
			{ID: "prod_2", Name: "Gadget", Quantity: 1},
		},
		TotalAmount:     99.99,
		ShippingAddress: Address{Street: "123 Main St", City: "Anytown", Country: "USA", PostalCode: "12345"},
	})
	if err != nil {
		fmt.Println(err)
	}
	// Output:
	// OrderShipped [private-orders.12345] {"orderId":"12345","userId":"user_123","products":[{"id":"prod_1","name":"Widget","quantity":2},{"id":"prod_2","name":"Gadget","quantity":1}],"totalAmount":99.99,"shippingAddress":{"street":"123 Main St","city":"Anytown","country":"USA","postalCode":"12345"}}
}

// Raw JSON, from a request or a queue, must fit the payload; all that does not is in one error.
func ExampleBroadcast_rawJSON() {
	ctx := printing(All())
	fmt.Println(realtime.Broadcast(ctx, "OrderShipped", json.RawMessage(`{
		"orderId": "12345",
		"userId": "user_123",
		"colour": "red",
		"products": [
			{"id": "prod_1", "name": "Widget", "quantity": 2},
			{"id": "prod_2", "quantity": 1}
		],
		"totalAmount": "99.99",
		"shippingAddress": {"street": "123 Main St", "city": "Anytown", "country": "USA"}
	}`)))
	// Output:
	// realtime: data of event "OrderShipped" does not fit realtime_test.OrderShipped: missing products[1].name, shippingAddress.postalCode; unknown colour; totalAmount wants a number, got "99.99"
}

func ExampleBroadcast_unknownName() {
	ctx := printing(All())
	fmt.Println(realtime.Broadcast(ctx, "Shipped", nil))
	// Output:
	// realtime: event "Shipped" is unknown: nearest of 1 registered: "OrderShipped"
}

func ExampleDispatch() {
	ctx := printing(nil)
	if err := realtime.Dispatch(ctx, OrderShipped{OrderID: "7"}); err != nil {
		fmt.Println(err)
	}
	// Output:
	// OrderShipped [private-orders.7] {"orderId":"7","userId":"","products":null,"totalAmount":0,"shippingAddress":{"street":"","city":"","country":"","postalCode":""}}
}
