package bench

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/stacksjs/realtime-go/auth"
)

// post queues a request to the HTTP API, signed (Pusher Channels protocol, "HTTP API: authentication").
func (l *load) post(c *conn, what string, body []byte) {
	path := "/apps/" + l.cfg.App.ID + "/" + what
	query := auth.SignRequest("POST", path, nil, body, l.cfg.App.Key, l.cfg.App.Secret, time.Now())
	c.out = append(c.out, "POST "+path+"?"+query+" HTTP/1.1\r\nHost: "+l.url.Host+"\r\nContent-Type: application/json\r\nContent-Length: "...)
	c.out = strconv.AppendInt(c.out, int64(len(body)), 10)
	c.out = append(append(c.out, "\r\n\r\n"...), body...)
	c.await++
}

// answers reads the whole HTTP responses in b and returns the rest.
func (l *load) answers(c *conn, b []byte) ([]byte, error) {
	for {
		head, rest, whole := bytes.Cut(b, []byte("\r\n\r\n"))
		if !whole {
			if len(b) > 16<<10 {
				return nil, errors.New("the server's answer has no end within 16 KiB")
			}
			return b, nil
		}
		_, length, found := strings.Cut(strings.ToLower(string(head)), "\r\ncontent-length: ")
		length, _, _ = strings.Cut(length, "\r\n")
		n, err := strconv.Atoi(length)
		if !found || err != nil {
			return nil, fmt.Errorf("the server's answer has no Content-Length: %.300s", head)
		}
		if len(rest) < n {
			return b, nil
		}
		if !bytes.HasPrefix(head, []byte("HTTP/1.1 200 ")) {
			return nil, fmt.Errorf("the server refused an event: %.60s: %.300s", head, rest[:n])
		}
		b = rest[n:]
		c.await--
		if c.phase == joining {
			l.ready(c)
		}
	}
}
