// Socket.IO's own server with the application of server/main.go, to try the tests themselves: what fails here is a mistake of
// the test. SOCKETIO_REFERENCE=1 go test runs them against it.
import http from 'node:http'
import { Server } from 'socket.io'

const reasons = new Map() // why sockets ended, by id
const waiting = new Map() // who waits for a key to be released
const lists = new Map() // what was noted, by key
const calls = new Map() // how often, by key

function application(io, name) {
  const namespace = io.of(name)
  namespace.use((socket, next) => {
    const why = socket.handshake.auth.refuse ?? socket.handshake.query.refuse
    next(why ? Object.assign(new Error('not today'), { data: { why } }) : undefined)
  })
  namespace.on('connection', (socket) => {
    socket.on('disconnect', (reason) => reasons.set(socket.id, reason))
    socket.on('echo', (...args) => socket.emit('echoed', ...args))
    socket.on('ack', (...args) => args.pop()(...args))
    socket.on('handshake', (ack) => ack({
      auth: socket.handshake.auth, mine: socket.handshake.query.mine ?? '',
      header: socket.handshake.headers['x-mine'] ?? '', cookie: socket.handshake.headers.cookie ?? '', recovered: socket.recovered,
    }))
    socket.on('join', (rooms, ack) => { socket.join(rooms); ack() })
    socket.on('leave', (room, ack) => { socket.leave(room); ack() })
    socket.on('rooms', (ack) => ack([...socket.rooms].sort()))
    // send: from 'socket' (which leaves itself out) or from the namespace
    socket.on('send', ({ from, to = [], except = [], volatile, event, args = [] }, ack) => {
      let target = from === 'socket' ? socket.broadcast : namespace
      if (to.length > 0) target = target.to(to)
      if (except.length > 0) target = target.except(except)
      if (volatile) target = target.volatile
      target.emit(event, ...args)
      ack()
    })
    socket.on('broadcast', (...args) => namespace.emit('broadcasted', ...args))
    socket.on('burst', (n, ack) => {
      for (let i = 0; i < n; i++) namespace.emit('n', i)
      ack()
    })
    socket.on('ticks', ({ n, ms }, ack) => {
      let i = 0
      const timer = setInterval(() => {
        socket.emit('tick', i++)
        if (i === n) clearInterval(timer)
      }, ms)
      ack()
    })
    socket.on('ask me', async (question, ack) => ack(await socket.timeout(5000).emitWithAck('question', question)))
    socket.on('ask', ({ to, question, ms }, ack) => {
      namespace.to(to).timeout(ms).emit('question', question, (err, replies) => ack({ replies: replies.sort(), complete: !err }))
    })
    socket.on('wait', (key, ack) => waiting.set(key, ack))
    socket.on('release', (key, ack) => { waiting.get(key)?.('released'); waiting.delete(key); ack() })
    socket.on('note', ({ key, n }, ack) => {
      const list = lists.get(key) ?? []
      lists.set(key, [...list, n])
      ack(n)
    })
    socket.on('noted', (key, ack) => ack(lists.get(key) ?? []))
    // slow takes a second when it is first asked, and says how often it was
    socket.on('slow', (key, ack) => {
      const n = (calls.get(key) ?? 0) + 1
      calls.set(key, n)
      if (n === 1) setTimeout(ack, 1000, n)
      else ack(n)
    })
    socket.on('drop', (connection) => socket.disconnect(connection))
    socket.on('reason', (id, ack) => ack(reasons.get(id) ?? ''))
    socket.on('sockets', async (room, ack) => ack((await namespace.in(room).fetchSockets()).map((s) => s.id).sort()))
    socket.on('drop room', ({ room, connection }, ack) => { namespace.in(room).disconnectSockets(connection); ack() })
    socket.on('join room', ({ room, to }, ack) => { namespace.in(room).socketsJoin(to); ack() })
  })
}

const origins = { origin: 'https://shop.example', credentials: true }
const servers = {
  main: { cors: { origin: '*' }, connectionStateRecovery: { skipMiddlewares: false } },
  brief: { cors: origins, connectionStateRecovery: { maxDisconnectionDuration: 300, skipMiddlewares: false }, pingInterval: 1000, pingTimeout: 1000, cookie: { name: 'io' } },
  v2: { allowEIO3: true, cors: { origin: '*' } },
}
const ports = {}
for (const [name, options] of Object.entries(servers)) {
  const web = http.createServer((_, response) => { response.statusCode = 404; response.end() })
  const io = new Server(web, options)
  for (const namespace of ['/', '/a', '/b']) application(io, namespace)
  await new Promise((yes) => web.listen(0, '127.0.0.1', yes))
  ports[name] = web.address().port
}
console.log(JSON.stringify(ports))
process.on('SIGTERM', () => process.exit(0))
