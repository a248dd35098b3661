// Package mount proves that the realtime server works as an http.Handler inside other people's routers: net/http, chi,
// gin and echo, with the middleware that usually stands in front, and under a prefix. docs/mounting.md says how, and
// shows functions of routers_test.go.
package mount
