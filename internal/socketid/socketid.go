// Package socketid knows what the ids of connections look like.
package socketid

import "strings"

// Is reports whether s has the form that this module's server gives its connections' ids on all protocols, and Pusher too:
// digits, a dot, digits.
func Is(s string) bool {
	left, right, ok := strings.Cut(s, ".")
	return ok && digits(left) && digits(right)
}

func digits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}

// IsNode reports whether s has the form of the ids that Node's Socket.IO gives: 15 bytes in base64url. No connection of
// another server has one.
func IsNode(s string) bool {
	for i := range len(s) {
		c := s[i]
		if (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') && c != '-' && c != '_' {
			return false
		}
	}
	return len(s) == 20
}
