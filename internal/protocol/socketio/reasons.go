package socketio

import "github.com/stacksjs/realtime-go/internal/hub"

// reason is a hub.Code in this protocol's numbers and words.
type reason struct {
	code   int // as plain WebSocket clients are told
	status int // as an HTTP server would answer: what laravel-echo hands to error()
	word   string
}

// reasons is the one place where the hub's reasons become this protocol's.
var reasons = map[hub.Code]reason{
	hub.BadRequest:       {4300, 400, "invalid"},
	hub.Unauthorized:     {4009, 401, "unauthorized"},
	hub.Forbidden:        {4009, 403, "forbidden"},
	hub.NotSubscribed:    {4301, 409, "not_subscribed"},
	hub.TooManyChannels:  {4100, 429, "capacity"},
	hub.TooManyMembers:   {4100, 429, "capacity"},
	hub.TooManyListeners: {4100, 429, "capacity"},
	hub.MemberTooLarge:   {4301, 413, "too_large"},
	hub.TooLarge:         {4301, 413, "too_large"},
	hub.RateLimited:      {4301, 429, "rate_limited"},
	hub.Busy:             {4100, 503, "busy"},
	hub.Failed:           {4300, 500, "failed"},
	hub.Expired:          {4009, 401, "expired"},
	hub.Revoked:          {4009, 403, "revoked"},
	hub.Overloaded:       {4100, 503, "overloaded"},
	hub.SlowConsumer:     {4100, 429, "slow"},
	hub.Idle:             {4201, 408, "idle"},
	hub.Shutdown:         {4200, 503, "shutdown"},
	hub.Unknown:          {4300, 404, "unknown"},
	hub.TooManyConns:     {4100, 503, "capacity"},
	hub.Violation:        {4300, 400, "violation"},
	hub.UnknownApp:       {4001, 404, "unknown_app"},
	hub.OriginRefused:    {4009, 403, "origin"},

	hub.NoVersion:          {4008, 400, "version"},
	hub.BadVersion:         {4006, 400, "version"},
	hub.UnsupportedVersion: {4007, 400, "version"},
}
