// A Socket.IO server, on Node's engine or on Bun's, with the application that the load generator expects.
//
//   node socketio.js --port 9001
//   bun socketio.js --port 9001
import { parseArgs } from "node:util"
import { Server } from "socket.io"

const { values: flags } = parseArgs({ options: { port: { type: "string", default: "0" } } })
const port = Number(flags.port)
const hostname = "127.0.0.1"

const io = new Server()
io.on("connection", (socket) => {
	socket.on("subscribe", (channel, answer) => {
		socket.join(channel)
		answer({ ok: true, channel })
	})
	socket.on("unsubscribe", (channel, answer) => {
		socket.leave(channel)
		answer({ ok: true, channel })
	})
	socket.on("publish", ({ channel, event, data, except }, answer) => {
		const to = except ? io.to(channel).except(except) : io.to(channel)
		to.emit(event, { event, channel, data })
		answer?.({ ok: true })
	})
})

if (process.versions.bun) {
	const { Server: Engine } = await import("@socket.io/bun-engine")
	const engine = new Engine({ path: "/socket.io/" })
	io.bind(engine)
	Bun.serve({ hostname, port, ...engine.handler() })
} else {
	const { createServer } = await import("node:http")
	const server = createServer()
	io.attach(server)
	server.listen(port, hostname)
}
