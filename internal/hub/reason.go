package hub

import "fmt"

// Code is a neutral reason; each protocol's room maps it to its own numbers and words.
type Code uint8

const (
	BadRequest         Code = iota + 1 // malformed: a name, a field
	Unauthorized                       // no grant
	Forbidden                          // never allowed here, grant or not
	NotSubscribed                      // needs a subscription first
	TooManyChannels                    // this connection
	TooManyMembers                     // this presence channel
	TooManyListeners                   // this channel
	MemberTooLarge                     // id and info of a member
	TooLarge                           // payload
	RateLimited                        // try later
	Busy                               // the server is saturated; try later
	Failed                             // user code failed or took too long
	Expired                            // the grant or token has lapsed
	Revoked                            // taken back by the application
	Overloaded                         // publishing too fast for the server
	SlowConsumer                       // reads too slowly
	Idle                               // shows no life
	Shutdown                           // the server goes away
	Unknown                            // unknown command
	TooManyConns                       // no more connections
	Violation                          // broke the protocol
	UnknownApp                         // no app has this key
	OriginRefused                      // the page's origin is not allowed
	NoVersion                          // of the protocol, where it must be named
	BadVersion                         // it is no number
	UnsupportedVersion                 // it is another
)

// Codes lists every code, so that a room's table can be checked against it.
func Codes() []Code {
	cs := make([]Code, 0, UnsupportedVersion)
	for c := BadRequest; c <= UnsupportedVersion; c++ {
		cs = append(cs, c)
	}
	return cs
}

// Error is a reason a client is told.
type Error struct {
	Code    Code
	Message string
	// RetryAfter is in milliseconds; 0 when waiting does not help.
	RetryAfter int64
}

func (e *Error) Error() string { return e.Message }

func errf(c Code, format string, args ...any) *Error {
	return &Error{Code: c, Message: fmt.Sprintf(format, args...)}
}
