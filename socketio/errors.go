package socketio

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/stacksjs/realtime-go/auth"
	protocol "github.com/stacksjs/realtime-go/internal/protocol/socketio"
)

// Error is an error that the client is told. Any other is told as "internal error", and logged. It may be wrapped: the
// client is told the Error, and the log has all.
type Error struct {
	Message string
	Data    any // further JSON for the client; nil: none
}

func (e *Error) Error() string { return e.Message }

var (
	// ErrTimeout is wrapped by the errors of acknowledgements that did not come while ctx lasted.
	ErrTimeout = errors.New("not acknowledged in time")
	// ErrDisconnected is wrapped by the errors of calls on a socket that has ended.
	ErrDisconnected = protocol.ErrDisconnected
	// ErrConnecting is wrapped by the errors of EmitWithAck before OnConnect has returned: the client cannot answer yet.
	ErrConnecting = protocol.ErrConnecting
	// ErrTooManyAcks is wrapped by the errors of EmitWithAck while 4,096 acknowledgements of the socket are outstanding.
	ErrTooManyAcks = protocol.ErrTooManyAcks
)

var errMissing = errors.New("is missing")

// misfit is what a client is told of an event whose first argument is not what the program takes.
func misfit(event string, err error) error {
	told := &Error{Message: fmt.Sprintf("event %q: args[0] is not what the server takes", event)}
	if t, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		what := fmt.Sprintf("args[0] is a JSON %s", t.Value)
		if t.Field != "" {
			what = fmt.Sprintf("args[0] has a JSON %s as %q", t.Value, t.Field)
		}
		told.Message = fmt.Sprintf("event %q: %s, which the server does not take", event, what)
	} else if err == errMissing {
		told.Message = fmt.Sprintf("event %q: args[0] is missing", event)
		return told
	}
	return fmt.Errorf("%w (%w)", told, err)
}

// toldOf is what a client may be told of an error; nil: nothing.
func toldOf(err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	if r, ok := errors.AsType[*auth.Refusal](err); ok {
		return &Error{Message: r.Reason}
	}
	return nil
}

// body is an Error on the wire.
type body struct {
	Message string `json:"message"`
	Data    any    `json:"data,omitempty"`
}

// answer is the acknowledgement that tells e; without its data, and an error, if that is no JSON.
func (e *Error) answer() (protocol.Args, error) {
	type answer struct {
		Error body `json:"error"`
	}
	out, err := encode([]any{answer{body{e.Message, e.Data}}})
	if err != nil {
		out, _ = encode([]any{answer{body{Message: e.Message}}})
	}
	return out, err
}

// refusal is an error of OnConnect for the protocol's room.
func (io *IO) refusal(err error) error {
	e := toldOf(err)
	if e == nil {
		return err
	}
	r := &protocol.Refusal{Message: e.Message}
	if e.Data != nil {
		data, err := encode([]any{e.Data})
		if err == nil && len(data.Blobs) > 0 {
			err = errors.New("a refusal has no attachments")
		}
		if err != nil {
			io.log.Warn("the data of a refusal cannot be told", "error", err)
			return r
		}
		r.Data = data.JSON[1 : len(data.JSON)-1]
	}
	return r
}

// failed is the error of a call.
func failed(what, name string, err error) error {
	if err == nil {
		return nil
	}
	if name != "" {
		what = fmt.Sprintf("%s %q", what, name)
	}
	return fmt.Errorf("socketio: %s: %w", what, err)
}

// late is err, of a call that waited for acknowledgements, as an ErrTimeout if ctx's deadline was the reason.
func late(err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%w (%w)", ErrTimeout, err)
	}
	return err
}
