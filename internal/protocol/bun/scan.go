package bun

import "github.com/stacksjs/realtime-go/internal/jsontext"

type field = jsontext.Value

// command is a client's frame.
type command struct {
	event, typ                                                  field
	channel, channels, data, name, auth, channelData, dataByOne field
	id, messageID, ack                                          field
	since, epoch, rewind, token, except, mid                    field

	size int // of the frame
}

func (c *command) slot(key string) *field {
	switch key {
	case "event":
		return &c.event
	case "type":
		return &c.typ
	case "channel":
		return &c.channel
	case "channels":
		return &c.channels
	case "data":
		return &c.data
	case "name":
		return &c.name
	case "auth":
		return &c.auth
	case "channel_data":
		return &c.channelData
	case "channelData":
		return &c.dataByOne
	case "id":
		return &c.id
	case "messageId":
		return &c.messageID
	case "ack":
		return &c.ack
	case "since":
		return &c.since
	case "epoch":
		return &c.epoch
	case "rewind":
		return &c.rewind
	case "token":
		return &c.token
	case "except":
		return &c.except
	case "mid":
		return &c.mid
	}
	return nil
}

// decode reads a frame. Unknown fields are skipped; of a field given twice the last counts.
func decode(s string) (c command, err error) {
	c.size = len(s)
	err = jsontext.Object(s, func(key string, v field) {
		if f := c.slot(key); f != nil {
			*f = v
		}
	})
	return c, err
}
