package pusher

import "github.com/stacksjs/realtime-go/internal/hub"

// reason is how this protocol puts one of the hub's codes. Codes of 43xx stand in events only: a client that is closed
// with one never comes back. (Pusher Channels protocol, "Error codes".)
type reason struct {
	code   int    // in pusher:error
	kind   string // in pusher:subscription_error, as self-hosted servers have established it
	status int    // beside it, as HTTP would say
	close  int    // of the close frame: below 4100 the client stays away, up to 4199 it comes back after a while, then at once
}

// reasons is the one place where the hub's reasons become this protocol's.
var reasons = map[hub.Code]reason{
	hub.BadRequest:       {4301, "ValidationError", 400, 4100},
	hub.Unauthorized:     {4009, "AuthError", 401, 4009},
	hub.Forbidden:        {4301, "AuthError", 403, 4009},
	hub.NotSubscribed:    {4301, "ValidationError", 409, 4100},
	hub.TooManyChannels:  {4301, "LimitReached", 4100, 4100},
	hub.TooManyMembers:   {4301, "LimitReached", 4100, 4100},
	hub.TooManyListeners: {4301, "LimitReached", 4100, 4100},
	hub.MemberTooLarge:   {4301, "LimitReached", 4301, 4100},
	hub.TooLarge:         {4301, "LimitReached", 413, 4100},
	hub.RateLimited:      {4301, "LimitReached", 429, 4100},
	hub.Busy:             {4100, "ServerError", 503, 4100},
	hub.Failed:           {4301, "ServerError", 500, 4100},
	hub.Expired:          {4009, "AuthError", 401, 4009},
	hub.Revoked:          {4009, "AuthError", 403, 4009},
	hub.Overloaded:       {4100, "ServerError", 503, 4100},
	hub.SlowConsumer:     {4100, "ServerError", 429, 4100},
	hub.Idle:             {4201, "ServerError", 408, 4201},
	hub.Shutdown:         {4200, "ServerError", 503, 4200},
	hub.Unknown:          {4200, "ValidationError", 404, 4100},
	hub.TooManyConns:     {4100, "LimitReached", 503, 4100},
	hub.Violation:        {4200, "ValidationError", 400, 4100},
	hub.UnknownApp:       {4001, "AuthError", 404, 4001},
	hub.OriginRefused:    {4009, "AuthError", 403, 4009},

	hub.NoVersion:          {4008, "ValidationError", 400, 4008},
	hub.BadVersion:         {4006, "ValidationError", 400, 4006},
	hub.UnsupportedVersion: {4007, "ValidationError", 400, 4007},
}
