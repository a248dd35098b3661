// Package echo knows how laravel-echo names events.
package echo

import "strings"

// EventName is the name that laravel-echo listens for when a page calls listen(name) and its namespace, such as
// "App.Events", is set: with the namespace before it, and every dot a backslash. A leading "." or "\" means the rest as it
// is, and no namespace the whole.
func EventName(namespace, name string) string {
	if namespace == "" {
		return name
	}
	if strings.HasPrefix(name, ".") || strings.HasPrefix(name, `\`) {
		return name[1:]
	}
	return strings.ReplaceAll(strings.Trim(namespace, `.\`)+"."+name, ".", `\`)
}
