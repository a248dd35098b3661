package bun

import "github.com/stacksjs/realtime-go/internal/hub"

// reason is how this protocol puts one of the hub's codes. Numbers follow Pusher's where one fits; 43xx stand in
// frames only, since a Pusher client that is closed with one never comes back.
type reason struct {
	code   int    // in error frames
	kind   string // the successor's words
	status int    // as HTTP would say
	close  int    // of the close frame, where the reason ends the connection
	word   string // of an unsubscription
}

// reasons is the one place where the hub's reasons become this protocol's.
var reasons = map[hub.Code]reason{
	hub.BadRequest:       {4300, "ValidationError", 400, 4000, "invalid"},
	hub.Unauthorized:     {4009, "AuthError", 401, 4009, "unauthorized"},
	hub.Forbidden:        {4009, "AuthError", 403, 4009, "forbidden"},
	hub.NotSubscribed:    {4301, "ValidationError", 409, 4000, "not_subscribed"},
	hub.TooManyChannels:  {4100, "CapacityError", 429, 4100, "capacity"},
	hub.TooManyMembers:   {4100, "CapacityError", 429, 4100, "capacity"},
	hub.TooManyListeners: {4100, "CapacityError", 429, 4100, "capacity"},
	hub.MemberTooLarge:   {4301, "PayloadTooLarge", 413, 4000, "too_large"},
	hub.TooLarge:         {4301, "PayloadTooLarge", 413, 4000, "too_large"},
	hub.RateLimited:      {4301, "RateLimitExceeded", 429, 4100, "rate_limited"},
	hub.Busy:             {4100, "ServerError", 503, 4100, "busy"},
	hub.Failed:           {4300, "ServerError", 500, 4100, "failed"},
	hub.Expired:          {4009, "Expired", 401, 4009, "expired"},
	hub.Revoked:          {4009, "AuthError", 403, 4009, "revoked"},
	hub.Overloaded:       {4100, "CapacityError", 503, 4100, "overloaded"},
	hub.SlowConsumer:     {4100, "CapacityError", 429, 4100, "slow"},
	hub.Idle:             {4201, "ServerError", 408, 4201, "idle"},
	hub.Shutdown:         {4200, "ServerError", 503, 4200, "shutdown"},
	hub.Unknown:          {4300, "UnknownCommand", 404, 4000, "unknown"},
	hub.TooManyConns:     {4100, "CapacityError", 503, 4100, "capacity"},
	hub.Violation:        {4300, "ValidationError", 400, 1008, "violation"},
	hub.UnknownApp:       {4001, "AuthError", 404, 4001, "unknown_app"},
	hub.OriginRefused:    {4009, "AuthError", 403, 4009, "origin"},

	hub.NoVersion:          {4008, "ValidationError", 400, 4008, "version"},
	hub.BadVersion:         {4006, "ValidationError", 400, 4006, "version"},
	hub.UnsupportedVersion: {4007, "ValidationError", 400, 4007, "version"},
}
