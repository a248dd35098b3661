// The reference for server/conformance_test.go: Socket.IO's own server with the application that the tests expect.
//
//   node conformance.mjs 3000 &
//   REALTIME_CONFORMANCE_URL=http://127.0.0.1:3000 go test ../../server -run Conformance
import http from 'node:http'
import { createRequire } from 'node:module'
import { Server } from 'socket.io'

// Engine.IO is a dependency of socket.io; this is the very version that it uses.
const { Server: Engine } = createRequire(createRequire(import.meta.url).resolve('socket.io'))('engine.io')

const options = { pingInterval: 300, pingTimeout: 200, maxHttpBufferSize: 1e6, cors: { origin: '*' } }
const web = http.createServer((_, response) => { response.statusCode = 404; response.end() })

const io = new Server(web, { ...options, connectTimeout: 1000, destroyUpgrade: false })
for (const namespace of ['/', '/custom']) {
  io.of(namespace).on('connection', (socket) => {
    socket.emit('auth', socket.handshake.auth)
    socket.on('message', (...args) => socket.emit('message-back', ...args))
    socket.on('message-with-ack', (...args) => args.pop()(...args))
  })
}

const engine = new Engine(options)
engine.attach(web, { path: '/engine.io', destroyUpgrade: false })
engine.on('connection', (socket) => socket.on('data', (data) => socket.send(data)))

web.listen(Number(process.argv[2] ?? 0), '127.0.0.1', () => console.log(`listening on 127.0.0.1:${web.address().port}`))
