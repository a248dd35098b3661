package realtime_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/stacksjs/realtime-go"
)

// Bid is an event that is not always broadcast.
type Bid struct {
	Lot    string `json:"lot"`
	Amount int    `json:"amount"`
	Silent bool   `json:"silent,omitempty"`
}

func (Bid) EventName() string { return "Bid" }

func (b Bid) Handle(ctx context.Context) error {
	return realtime.Channel("lots."+b.Lot).Public(ctx, b.EventName(), b)
}

// Validate runs first; its error is that of Broadcast.
func (b Bid) Validate() error {
	if b.Amount <= 0 {
		return errors.New("amount must be more than 0")
	}
	return nil
}

// BroadcastWhen runs then; false sends nothing, and is no error.
func (b Bid) BroadcastWhen() bool { return !b.Silent }

// Both ways of registering: a payload that handles itself, and a function for one that does not.
func ExampleEvents() {
	type Sold struct {
		Lot   string `json:"lot"`
		Buyer string `json:"buyer"`
	}
	events := realtime.NewEvents()
	realtime.Register[Bid](events)
	realtime.HandleFunc(events, "Sold", func(ctx context.Context, s Sold) error {
		return realtime.User(s.Buyer).Send(ctx, "Sold", s)
	})

	ctx := printing(events) // its New would return what is wrong with the table
	err := realtime.Broadcast(ctx, "Sold", map[string]any{"lot": "7", "buyer": "ada"})
	if err != nil {
		fmt.Println(err)
	}
	fmt.Println(realtime.Broadcast(ctx, "Sould", nil))
	// Output:
	// Sold [#server-to-user-ada] {"lot":"7","buyer":"ada"}
	// realtime: event "Sould" is unknown: nearest of 2 registered: "Sold", "Bid"
}

// Mistakes are found when the program starts.
func ExampleEvents_Err() {
	events := realtime.NewEvents()
	realtime.Register[Bid](events)
	realtime.HandleFunc(events, "Bid", func(context.Context, map[string]any) error { return nil })
	fmt.Println(events.Err())
	// Output:
	// realtime: event "Bid" is registered twice: for realtime_test.Bid and for map[string]interface {}
}

// What an event's payload may say about itself beside its name and its handler.
func ExampleEvent() {
	ctx := printing(nil)
	for _, bid := range []Bid{{Lot: "7", Amount: 100}, {Lot: "7", Amount: 120, Silent: true}, {Lot: "7"}} {
		if err := realtime.Dispatch(ctx, bid); err != nil {
			fmt.Println(err)
		}
	}
	// Output:
	// Bid [lots.7] {"lot":"7","amount":100}
	// realtime: event "Bid" is not valid: amount must be more than 0
}

// The differences between the data and its payload, for programs.
func ExampleDataError() {
	events := realtime.NewEvents()
	realtime.Register[Bid](events)
	err := realtime.Broadcast(printing(events), "Bid", map[string]any{"lot": 7, "ammount": 100})
	if data, ok := errors.AsType[*realtime.DataError](err); ok {
		fmt.Println("missing:", data.Missing)
		fmt.Println("unknown:", data.Unknown)
		fmt.Println("wrong:  ", data.Wrong)
	}
	// Output:
	// missing: [amount]
	// unknown: [ammount]
	// wrong:   [lot wants a string, got 7]
}
