package socketio

// Room is where the socket and all others are.
func (s *Socket) Room() *Room { panic("not yet") }
