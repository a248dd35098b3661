// A plain JSON WebSocket server on Bun.serve: what the load generator measures ours against.
//
//   bun bun.js --port 9001 [--mode json|raw] [--cert cert.pem --key key.pem]
//
// json does the work a real server does: it parses every command and writes the envelope as JSON.
// raw is the least a server can do: it finds the channel and the data by searching the text, and knows no "except".
import { parseArgs } from "node:util"

const { values: flags } = parseArgs({
	options: {
		port: { type: "string", default: "0" },
		mode: { type: "string", default: "json" },
		cert: { type: "string" },
		key: { type: "string" },
	},
})
if (flags.mode !== "json" && flags.mode !== "raw") throw new Error(`--mode is ${flags.mode}: want json or raw`)

let last = 0
const sockets = new Map() // by socket id, for "except"

function command(ws, text) {
	const c = JSON.parse(text)
	switch (c.event) {
		case "publish": {
			const frame = JSON.stringify({ event: c.name, channel: c.channel, data: c.data })
			// Bun has no publish that leaves others out, so they leave the channel for a moment.
			const out = (c.except ?? []).map((id) => sockets.get(id)).filter((s) => s?.isSubscribed(c.channel))
			for (const s of out) s.unsubscribe(c.channel)
			server.publish(c.channel, frame)
			for (const s of out) s.subscribe(c.channel)
			if (c.id !== undefined) ws.send(JSON.stringify({ event: "ack", id: c.id }))
			break
		}
		case "ping":
			ws.send('{"event":"pong"}')
			break
		case "subscribe":
			ws.subscribe(c.channel)
			ws.send(JSON.stringify({ event: "subscription_succeeded", channel: c.channel, id: c.id }))
			break
		case "unsubscribe":
			ws.unsubscribe(c.channel)
			break
	}
}

// The load generator writes {"event":"publish","channel":"…","name":"m","data":{…}} and nothing after the data.
const publish = '{"event":"publish","channel":"'
const afterChannel = '","name":"m","data":'

function rawCommand(ws, text) {
	if (text.startsWith(publish)) {
		const end = text.indexOf('"', publish.length)
		if (text.startsWith(afterChannel, end)) {
			const channel = text.slice(publish.length, end)
			server.publish(channel, '{"event":"m","channel":"' + channel + '","data":' + text.slice(end + afterChannel.length))
			return
		}
	} else if (text === '{"event":"ping"}') {
		ws.send('{"event":"pong"}')
		return
	}
	command(ws, text)
}

const server = Bun.serve({
	hostname: "127.0.0.1",
	port: Number(flags.port),
	tls: flags.cert ? { cert: Bun.file(flags.cert), key: Bun.file(flags.key) } : undefined,
	fetch(request, server) {
		const id = `${++last}.${process.pid}`
		if (server.upgrade(request, { data: { id } })) return
		return new Response("this is a WebSocket endpoint\n", { status: 426 })
	},
	websocket: {
		idleTimeout: 960,
		sendPings: false,
		perMessageDeflate: false,
		backpressureLimit: 256 << 20,
		closeOnBackpressureLimit: false,
		open(ws) {
			sockets.set(ws.data.id, ws)
			ws.send(JSON.stringify({ event: "connection_established", data: { socket_id: ws.data.id, activity_timeout: 120 } }))
		},
		message: flags.mode === "raw" ? rawCommand : command,
		close(ws) {
			sockets.delete(ws.data.id)
		},
	},
})
console.log(`listening ${server.hostname}:${server.port}`)
