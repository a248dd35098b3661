// socket.io-client 4 against the application of server/main.go.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { WebSocket } from 'ws'
import { client, closing, connected, event, heard, line, ports, reference, settled, transports, until, upgraded, url, within } from './harness.mjs'

function each(name, ...rest) {
  const run = rest.pop()
  for (const [kind, list] of Object.entries(transports)) test(`${kind}: ${name}`, rest[0] ?? {}, () => run({ transports: list }))
}

each('connects, and has an id of its own', async (options) => {
  const [a, b] = [client(options), client(options)]
  await Promise.all([connected(a), connected(b)])
  assert.notEqual(a.id, b.id)
  assert.notEqual(a.id, a.io.engine.id)
  if (!reference) assert.match(a.id, /^\d+\.\d+$/)
  if (!options.transports) {
    await upgraded(a)
    assert.deepEqual(await a.emitWithAck('ack', 1), 1)
  } else {
    assert.equal(a.io.engine.transport.name, options.transports[0])
  }
})

const values = [1, -1.5, 1e21, 'text', '', 'ü 😀 \u2028 \u001e "quoted" \\', null, true, [], {}, { a: [{ b: null }] }, [[1], ['x']]]

each('events carry every kind of value, both ways', async (options) => {
  const s = client(options)
  const got = event(s, 'echoed')
  s.emit('echo', ...values) // before the connection: it waits
  assert.deepEqual((await got).slice(0, values.length), values)
  const again = event(s, 'echoed')
  s.emit('echo', undefined, new Date(0), NaN)
  assert.deepEqual((await again).slice(0, 3), [null, '1970-01-01T00:00:00.000Z', null])
  const none = event(s, 'echoed')
  s.emit('echo')
  assert.ok((await none).every((a) => typeof a === 'string')) // at most the offset
})

each('events stay in order', async (options) => {
  const s = client(options)
  const got = heard(s, 'echoed')
  for (let i = 0; i < 500; i++) s.emit('echo', i)
  await until('all are back', () => got.length >= 500)
  await settled(s)
  assert.deepEqual(got.slice(0, 500), Array.from({ length: 500 }, (_, i) => i))
  assert.equal(got.length, 501)
})

each('acknowledgements of the server', async (options) => {
  const s = client(options)
  const got = await within(new Promise((yes) => s.emit('ack', ...values, (...args) => yes(args))), 'the ack')
  assert.deepEqual(got, values)
  assert.deepEqual(await within(new Promise((yes) => s.emit('ack', (...args) => yes(args))), 'the ack'), [])
  assert.deepEqual(await Promise.all(Array.from({ length: 100 }, (_, i) => s.emitWithAck('ack', i))), Array.from({ length: 100 }, (_, i) => i))
})

each('acknowledgements of the client', async (options) => {
  const s = client(options)
  s.on('question', (q, ack) => ack({ answer: q }))
  assert.deepEqual(await s.emitWithAck('ask me', 'why?'), { answer: 'why?' })
})

test('an acknowledgement that does not come is a timeout', async () => {
  const s = await connected(client())
  await assert.rejects(s.timeout(50).emitWithAck('wait', 'timeout'), /operation has timed out/)
  await client().emitWithAck('release', 'timeout')
  assert.equal(await s.timeout(10000).emitWithAck('ack', 1), 1) // the late one disturbs nobody
})

test('an acknowledgement that comes in time is none', async () => {
  const s = client()
  const answer = s.timeout(10000).emitWithAck('wait', 'in time')
  const other = client()
  await until('it is released', async () => {
    await other.emitWithAck('release', 'in time')
    return Promise.race([answer, other.emitWithAck('ack', 0)])
  })
  assert.equal(await answer, 'released')
})

test('acknowledgements are refused when the connection ends', async () => {
  const l = await line()
  const s = await connected(client({ transports: ['websocket'], reconnection: false }, '', l.url))
  const refused = assert.rejects(s.emitWithAck('wait', 'nobody'), /socket has been disconnected/)
  l.cut()
  await refused
  await client().emitWithAck('release', 'nobody')
})

each('many are asked, and all answer', async (options) => {
  const room = `all ${options.transports}`
  const all = [1, 2, 3].map((n) => { const s = client(options); s.on('question', (q, ack) => ack(`${q} ${n}`)); return s })
  await Promise.all(all.map((s) => s.emitWithAck('join', room)))
  const got = await all[0].emitWithAck('ask', { to: room, question: 'who?', ms: 10000 })
  assert.deepEqual(got, { replies: ['who? 1', 'who? 2', 'who? 3'], complete: true })
})

test('many are asked, and one stays silent', async () => {
  const all = [1, 2, 3].map((n) => { const s = client(); s.on('question', (q, ack) => { if (n !== 2) ack(n) }); return s })
  await Promise.all(all.map((s) => s.emitWithAck('join', 'silent')))
  const got = await all[0].emitWithAck('ask', { to: 'silent', question: 'who?', ms: 300 })
  assert.deepEqual(got, { replies: [1, 3], complete: false })
})

const bytes = (...list) => Buffer.from(list)

each('binary values, nested and several', async (options) => {
  const s = client(options)
  const got = event(s, 'echoed')
  s.emit('echo', bytes(1, 2, 3), { a: [bytes(4), 'x', { b: bytes() }], c: null }, new Uint8Array([5, 6]), 'end')
  const args = (await got).slice(0, 4)
  assert.deepEqual(args, [bytes(1, 2, 3), { a: [bytes(4), 'x', { b: bytes() }], c: null }, bytes(5, 6), 'end'])
  const ack = await within(new Promise((yes) => s.emit('ack', { x: bytes(9, 0, 255) }, bytes(7), (...a) => yes(a))), 'the ack')
  assert.deepEqual(ack, [{ x: bytes(9, 0, 255) }, bytes(7)])
  const large = Buffer.alloc(200_000, 0xa5)
  assert.deepEqual(await s.emitWithAck('ack', large), large)
  // And all of it in order among events without.
  const order = heard(s, 'echoed')
  for (let i = 0; i < 50; i++) s.emit('echo', i % 2 ? bytes(i) : i)
  await until('all are back', () => order.length >= 50)
  assert.deepEqual(order, Array.from({ length: 50 }, (_, i) => (i % 2 ? bytes(i) : i)))
})

each('binary values to many, and back in answers', async (options) => {
  const [a, b] = [client(options), client(options)]
  await Promise.all([connected(a), connected(b)])
  const got = [event(a, 'broadcasted'), event(b, 'broadcasted')]
  a.emit('broadcast', { deep: [bytes(1), bytes(2)] }, 'x')
  for (const args of await Promise.all(got)) assert.deepEqual(args.slice(0, 2), [{ deep: [bytes(1), bytes(2)] }, 'x'])
  a.on('question', (q, ack) => ack(bytes(1, 2, 3)))
  assert.deepEqual(await a.emitWithAck('ask me', 'bytes?'), bytes(1, 2, 3))
})

each('what looks like a placeholder is a value', async (options) => {
  const s = client(options)
  const value = { _placeholder: true, num: 0 }
  const got = event(s, 'echoed')
  s.emit('echo', value)
  assert.deepEqual((await got)[0], value)
})

each('who comes says why it may', async (options) => {
  const s = client({ ...options, auth: { ticket: 'abc', deep: [1] }, query: { mine: 'a b&c' }, extraHeaders: { 'x-mine': 'yes', cookie: 'session=1; other=2' } })
  assert.deepEqual(await s.emitWithAck('handshake'), {
    auth: { ticket: 'abc', deep: [1] }, mine: 'a b&c', header: 'yes', cookie: 'session=1; other=2', recovered: false,
  })
  const later = client({ ...options, auth: (give) => setTimeout(give, 10, { ticket: 'later' }) })
  assert.deepEqual((await later.emitWithAck('handshake')).auth, { ticket: 'later' })
})

each('who is refused learns why, and stays away', async (options) => {
  const s = client({ ...options, auth: { refuse: 'too early' } })
  const attempts = heard(s.io, 'reconnect_attempt')
  const [error] = await event(s, 'connect_error')
  assert.equal(error.message, 'not today')
  assert.deepEqual(error.data, { why: 'too early' })
  assert.equal(s.connected, false)
  assert.equal(s.active, false)
  // It may ask again, on the same connection or another.
  s.auth = {}
  s.connect()
  await connected(s)
  assert.equal(await s.emitWithAck('ack', 1), 1)
  assert.deepEqual(attempts, [])
})

each('three namespaces on one connection', async (options) => {
  const s = client(options)
  const manager = s.io
  const [a, b] = [manager.socket('/a', { auth: { of: 'a' } }), manager.socket('/b')]
  await Promise.all([s, a, b].map(connected))
  assert.equal(new Set([s.id, a.id, b.id, manager.engine.id]).size, 4)
  assert.deepEqual((await a.emitWithAck('handshake')).auth, { of: 'a' })
  // What is sent to one is not heard in another.
  const all = { s: heard(s, 'to a'), a: heard(a, 'to a'), b: heard(b, 'to a') }
  await a.emitWithAck('send', { event: 'to a', args: [1] })
  for (const x of [s, a, b]) await settled(x)
  assert.deepEqual(all, { s: [], a: [1], b: [] })
  // Who leaves one is still in the others.
  const gone = a.id
  a.disconnect()
  await until('the server knows', () => b.emitWithAck('reason', gone))
  assert.equal(await b.emitWithAck('reason', gone), 'client namespace disconnect')
  assert.deepEqual([await s.emitWithAck('ack', 1), await b.emitWithAck('ack', 2)], [1, 2])
  a.connect()
  await connected(a)
  assert.notEqual(a.id, gone)
  const [reason] = await Promise.all([event(b, 'disconnect'), b.emit('drop', false)])
  assert.equal(reason[0], 'io server disconnect')
  assert.deepEqual([await s.emitWithAck('ack', 1), await a.emitWithAck('ack', 2)], [1, 2])
})

each('an unknown namespace is refused, and costs nothing else', async (options) => {
  const s = await connected(client(options))
  const x = s.io.socket('/unknown')
  const [error] = await event(x, 'connect_error')
  assert.equal(error.message, 'Invalid namespace')
  assert.equal(await s.emitWithAck('ack', 1), 1)
})

each('rooms: each once, some left out, one alone', async (options) => {
  const [a, b, c, d] = Array.from({ length: 4 }, () => client(options))
  const all = [a, b, c, d]
  const [one, two] = [`one ${options.transports}`, `two ${options.transports}`]
  await Promise.all(all.map(connected))
  await Promise.all([a.emitWithAck('join', [one, two]), b.emitWithAck('join', one), c.emitWithAck('join', two)])
  assert.deepEqual(await a.emitWithAck('rooms'), [a.id, one, two].sort())
  const got = all.map((s) => heard(s, 'r'))
  const send = (from, what) => from.emitWithAck('send', { event: 'r', ...what })
  await send(a, { to: [one, two], args: ['union'] })
  await send(a, { from: 'socket', to: [one, two], args: ['others'] })
  await send(a, { to: [one], except: [two], args: ['except a room'] })
  await send(a, { to: [one, two], except: [b.id], args: ['except a socket'] })
  await send(a, { to: [d.id], args: ['own room'] })
  await send(a, { except: [one, two], args: ['nobody of the rooms'], to: all.map((s) => s.id) })
  await send(a, { from: 'socket', to: [a.id, b.id], args: ['not me'] })
  await b.emitWithAck('leave', one)
  await send(d, { to: [one], args: ['after leaving'] })
  await Promise.all(all.map(settled))
  assert.deepEqual(got, [
    ['union', 'except a socket', 'after leaving'],
    ['union', 'others', 'except a room', 'not me'],
    ['union', 'others', 'except a socket'],
    ['own room', 'nobody of the rooms'],
  ])
})

test('rooms: whole rooms join another, are listed and dropped', async () => {
  const all = Array.from({ length: 3 }, () => client())
  await Promise.all(all.map((s) => s.emitWithAck('join', 'many')))
  const asker = await connected(client())
  assert.deepEqual(await asker.emitWithAck('sockets', 'many'), all.map((s) => s.id).sort())
  await asker.emitWithAck('join room', { room: 'many', to: 'more' })
  assert.deepEqual(await asker.emitWithAck('sockets', 'more'), all.map((s) => s.id).sort())
  const gone = Promise.all(all.map((s) => event(s, 'disconnect')))
  await asker.emitWithAck('drop room', { room: 'more', connection: false })
  assert.deepEqual((await gone).map(([reason]) => reason), ['io server disconnect', 'io server disconnect', 'io server disconnect'])
  assert.deepEqual(await asker.emitWithAck('sockets', 'many'), [])
})

each('a server that disconnects is not asked again', async (options) => {
  const s = await connected(client(options))
  const attempts = heard(s.io, 'reconnect_attempt')
  for (const connection of [false, true]) {
    const id = s.id
    const [reason] = await Promise.all([event(s, 'disconnect'), s.emit('drop', connection)])
    assert.equal(reason[0], 'io server disconnect')
    const other = client(options)
    assert.equal(await until('the server knows', () => other.emitWithAck('reason', id)), 'server namespace disconnect')
    s.connect()
    await connected(s)
    assert.notEqual(s.id, id)
    assert.equal(s.recovered, false)
  }
  assert.deepEqual(attempts, [])
})

test('a server that disconnects during the upgrade is heard', async () => {
  for (let i = 0; i < 60; i++) {
    const s = await connected(client())
    await new Promise((yes) => setTimeout(yes, i % 12)) // it is probing, or has been answered, or is through
    const [reason] = await Promise.all([event(s, 'disconnect'), s.emit('drop', i % 5 > 0)])
    assert.equal(reason[0], 'io server disconnect')
    s.io._close()
  }
})

test('a client that disconnects says so', async () => {
  const s = await connected(client())
  const id = s.id
  const gone = event(s, 'disconnect')
  s.disconnect()
  assert.equal((await gone)[0], 'io client disconnect')
  const other = client()
  assert.equal(await until('the server knows', () => other.emitWithAck('reason', id)), 'client namespace disconnect')
})

each('comes back when the line is cut', async (options) => {
  const l = await line()
  const s = await connected(client(options, '', l.url))
  if (!options.transports) await upgraded(s)
  const polling = s.io.engine.transport.name === 'polling'
  const [gone, back] = [event(s, 'disconnect'), event(s.io, 'reconnect')]
  l.down()
  assert.equal((await gone)[0], polling ? 'transport error' : 'transport close')
  const later = s.emitWithAck('ack', 'later') // waits for the connection
  l.up()
  await back
  assert.equal(await within(later, 'what waited'), 'later')
})

each('comes back when the engine is closed', async (options) => {
  const s = await connected(client(options))
  if (!options.transports) await upgraded(s)
  const [gone, back] = [event(s, 'disconnect'), event(s.io, 'reconnect')]
  s.io.engine.close()
  assert.equal((await gone)[0], 'forced close')
  const later = s.emitWithAck('ack', 'later')
  await back
  assert.equal(await within(later, 'what waited'), 'later')
})

test('a line that is dead is noticed by both', async () => {
  const l = await line('brief')
  const s = await connected(client({ reconnection: false, transports: ['websocket'] }, '', l.url))
  const id = s.id
  const gone = event(s, 'disconnect')
  l.hold()
  assert.equal((await gone)[0], 'ping timeout')
  const other = client({}, '', url('brief'))
  assert.equal(await until('the server knows', () => other.emitWithAck('reason', id)), 'ping timeout')
})

test('who cannot reach the server tries again', async () => {
  const l = await line()
  l.down()
  const s = client({}, '', l.url)
  const [error] = await event(s, 'connect_error')
  assert.match(error.message, /xhr poll error|websocket error/)
  assert.equal(s.active, true)
  await event(s, 'connect_error')
  l.up()
  await connected(s)
})

// Coming back.

each('who comes back gets what it missed, in order and each once', async (options) => {
  const room = `missed ${options.transports}`
  const l = await line()
  const s = await connected(client(options, '', l.url))
  if (!options.transports) await upgraded(s)
  const other = client()
  await s.emitWithAck('join', room)
  const got = heard(s, 'm')
  const send = (n, more = {}) => other.emitWithAck('send', { event: 'm', to: [room], args: [n], ...more })
  await send(0)
  await settled(s)
  const { id } = s
  for (let round = 0; round < 2; round++) {
    const gone = event(s, 'disconnect')
    await until('the server would notice', () => l.watched())
    l.down()
    await gone
    for (let i = 1; i <= 20; i++) await send(round * 21 + i)
    await send('for others', { to: ['another room'] })
    await send('not for it', { except: [id] })
    await send('volatile', { volatile: true })
    const back = event(s, 'connect')
    l.up()
    await back
    assert.equal(s.recovered, true)
    assert.equal(s.id, id)
    assert.deepEqual(await s.emitWithAck('rooms'), [id, room].sort())
    assert.equal((await s.emitWithAck('handshake')).recovered, true)
    await send(round * 21 + 21)
    await settled(s)
  }
  assert.deepEqual(got, Array.from({ length: 43 }, (_, i) => i))
})

test('what was sent while the line was dead is sent again', async () => {
  const l = await line()
  const s = await connected(client({ transports: ['websocket'] }, '', l.url))
  const other = client()
  await s.emitWithAck('join', 'dead line')
  const got = heard(s, 'm')
  const send = (n) => other.emitWithAck('send', { event: 'm', to: ['dead line'], args: [n] })
  await send(0)
  await settled(s)
  l.hold() // the server does not know yet
  for (let i = 1; i < 10; i++) await send(i)
  const back = event(s, 'connect')
  l.down()
  await send(10)
  const fresh = await line() // whose connections are not held
  s.io.uri = fresh.url
  await back
  assert.equal(s.recovered, true)
  await settled(s)
  assert.deepEqual(got, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10])
})

test('attachments that were missed', async () => {
  const l = await line()
  const s = await connected(client({ transports: ['websocket'] }, '', l.url))
  const other = client()
  await other.emitWithAck('send', { event: 'm', args: ['first'] })
  await settled(s)
  const got = heard(s, 'broadcasted')
  const gone = event(s, 'disconnect')
  l.down()
  await gone
  for (let i = 0; i < 3; i++) other.emit('broadcast', { i: bytes(i) })
  await settled(other)
  const back = event(s, 'connect')
  l.up()
  await back
  assert.equal(s.recovered, true)
  await settled(s)
  assert.deepEqual(got, [{ i: bytes(0) }, { i: bytes(1) }, { i: bytes(2) }])
})

test('three namespaces come back, each with what it missed', async () => {
  const l = await line()
  const s = client({}, '', l.url)
  const all = [s, s.io.socket('/a'), s.io.socket('/b')]
  await Promise.all(all.map(connected))
  await upgraded(s)
  const others = ['', '/a', '/b'].map((path) => client({}, path))
  await Promise.all(all.map(settled))
  const ids = all.map((x) => x.id)
  const got = all.map((x) => heard(x, 'm'))
  const gone = Promise.all(all.map((x) => event(x, 'disconnect')))
  await until('the server would notice', () => l.watched())
  l.down()
  await gone
  for (const [i, other] of others.entries()) await other.emitWithAck('send', { event: 'm', args: [i] })
  const back = Promise.all(all.map((x) => event(x, 'connect')))
  l.up()
  await back
  await Promise.all(all.map(settled))
  assert.deepEqual(all.map((x) => x.recovered), [true, true, true])
  assert.deepEqual(all.map((x) => x.id), ids)
  assert.deepEqual(got, [[0], [1], [2]])
})

test('who has received nothing yet comes back, too', { skip: reference && 'Node remembers only who has an offset' }, async () => {
  const l = await line()
  const s = await upgraded(client({}, '', l.url))
  const { id } = s
  const got = heard(s, 'm')
  const gone = event(s, 'disconnect')
  await until('the server would notice', () => l.watched())
  l.down()
  await gone
  const other = client()
  for (let i = 0; i < 5; i++) await other.emitWithAck('send', { event: 'm', args: [i] })
  const back = event(s, 'connect')
  l.up()
  await back
  assert.equal(s.recovered, true)
  assert.equal(s.id, id)
  await settled(s)
  assert.deepEqual(got, [0, 1, 2, 3, 4])
})

each('who comes back before the server knows that it was gone', { skip: reference && 'Node recovers only what it has seen end' }, async (options) => {
  const room = `unnoticed ${options.transports}`
  const l = await line()
  const s = await connected(client(options, '', l.url))
  if (!options.transports) await upgraded(s)
  await s.emitWithAck('join', room)
  const got = heard(s, 'm')
  const other = client()
  const send = (n) => other.emitWithAck('send', { event: 'm', to: [room], args: [n] })
  await send(0)
  await settled(s)
  const { id } = s
  const [gone, back] = [event(s, 'disconnect'), event(s, 'connect')]
  l.dead() // for the client; the server hears nothing of it
  await gone
  for (let i = 1; i < 10; i++) await send(i)
  l.up()
  await back
  assert.equal(s.recovered, true)
  assert.equal(s.id, id)
  await send(10)
  await settled(s)
  assert.deepEqual(got, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10])
})

test('who comes back too late begins anew', async () => {
  const l = await line('brief')
  const s = await connected(client({}, '', l.url))
  const { id } = s
  await s.emitWithAck('join', 'late')
  await settled(s)
  const got = heard(s, 'm')
  const gone = event(s, 'disconnect')
  l.down()
  await gone
  const other = client({}, '', url('brief'))
  await until('the server knows', () => other.emitWithAck('reason', id))
  await other.emitWithAck('send', { event: 'm', args: ['missed'] })
  await new Promise((yes) => setTimeout(yes, 1500)) // the window is 300 ms
  const back = event(s, 'connect')
  l.up()
  await back
  assert.equal(s.recovered, false)
  assert.notEqual(s.id, id)
  assert.deepEqual(await s.emitWithAck('rooms'), [s.id])
  await settled(s)
  assert.deepEqual(got, [])
})

test('who comes back may be refused', async () => {
  const l = await line()
  const s = await connected(client({ auth: {} }, '', l.url))
  await settled(s)
  s.auth = { refuse: 'not again' }
  const gone = event(s, 'disconnect')
  l.down()
  await gone
  const refused = new Promise((yes) => s.on('connect_error', (e) => { if (e.data) yes(e) })) // the others are of the line
  l.up()
  const error = await within(refused, 'the refusal')
  assert.deepEqual([error.message, error.data], ['not today', { why: 'not again' }])
})

test('a stranger\'s pid is no way in', async () => {
  const s = await connected(client())
  await settled(s)
  const stranger = client({ autoConnect: false, auth: { pid: 'guessed', offset: s._lastOffset } })
  stranger.connect()
  await connected(stranger)
  assert.equal(stranger.recovered, false)
  assert.notEqual(stranger.id, s.id)
  const thief = client({ auth: { pid: s.id, offset: s._lastOffset } }) // the id is public
  await connected(thief)
  assert.notEqual(thief.id, s.id)
})

test('an event\'s own last text is not taken for the place', async () => {
  const s = await connected(client())
  const got = event(s, 'echoed')
  s.emit('echo', 'mine')
  const args = await got
  assert.equal(args.length, 2)
  assert.equal(args[0], 'mine')
  assert.equal(typeof args[1], 'string')
  assert.equal(s._lastOffset, args[1])
})

// Volatile, retries, sizes, crowds.

test('volatile events arrive where the client reads', async () => {
  const s = await connected(client({ transports: ['websocket'] }))
  const got = heard(s, 'v')
  await s.emitWithAck('send', { event: 'v', args: [1], volatile: true, to: [s.id] })
  await s.emitWithAck('send', { event: 'v', args: [2], volatile: true })
  const key = `volatile ${s.id}`
  s.volatile.emit('note', { key, n: 'of the client' }, () => {})
  await settled(s)
  assert.deepEqual(got, [1, 2])
  assert.deepEqual(await s.emitWithAck('noted', key), ['of the client'])
})

test('retries: what is not acknowledged in time is sent again, and the rest waits', async () => {
  const key = `slow ${Math.random()}`
  const s = client({ retries: 50, ackTimeout: 300 })
  const [slow, next] = await within(Promise.all([s.emitWithAck('slow', key), s.emitWithAck('slow', key)]), 'both acks')
  assert.ok(slow >= 2, `it was sent ${slow} times`)
  assert.ok(next > slow, `the second came at ${next}`)
})

test('retries: everything arrives, and in order, though the line is cut', async () => {
  const key = `cuts ${Math.random()}`
  const l = await line()
  const s = client({ retries: 100, ackTimeout: 5000 }, '', l.url)
  const all = Array.from({ length: 60 }, (_, n) => s.emitWithAck('note', { key, n }))
  for (const n of [5, 20, 40]) {
    await all[n]
    l.cut()
  }
  assert.deepEqual(await within(Promise.all(all), 'all acks', 30000), all.map((_, n) => n))
  const noted = await s.emitWithAck('noted', key)
  assert.deepEqual(noted.filter((n, i) => n !== noted[i - 1]), all.map((_, n) => n))
})

each('a megabyte both ways', async (options) => {
  const s = client(options)
  const text = 'x'.repeat(999_000)
  assert.equal(await s.emitWithAck('ack', text), text)
  const [large, small] = [event(s, 'echoed'), s.emitWithAck('ack', 'behind it')]
  s.emit('echo', text)
  assert.equal((await large)[0], text)
  assert.equal(await small, 'behind it')
  // Several at once: a poller splits them by itself.
  const parts = Array.from({ length: 5 }, (_, i) => String(i).repeat(300_000))
  assert.deepEqual(await Promise.all(parts.map((p) => s.emitWithAck('ack', p))), parts)
  const blob = Buffer.alloc(700_000, 7)
  assert.deepEqual(await s.emitWithAck('ack', blob), blob)
})

for (const [kind, list] of Object.entries({ websocket: ['websocket'], polling: ['polling'] })) {
  test(`${kind}: beyond maxPayload the connection ends, and comes back`, async () => {
    const s = await connected(client({ transports: list }))
    const [gone, back] = [event(s, 'disconnect'), event(s.io, 'reconnect')]
    s.emit('echo', 'x'.repeat(1_100_000))
    assert.match((await gone)[0], /^transport (close|error)$/)
    await back
    assert.equal(await s.emitWithAck('ack', 1), 1)
  })
}

test('500 clients receive 100 events each, in order', async () => {
  const all = Array.from({ length: 500 }, () => client({ transports: ['websocket'], timeout: 60000 }, '/b'))
  await within(Promise.all(all.map((s) => connected(s))), '500 connections', 60000)
  assert.equal(new Set(all.map((s) => s.id)).size, 500)
  const got = all.map((s) => heard(s, 'n'))
  await all[0].emitWithAck('burst', 100)
  await within(Promise.all(all.map((s) => s.emitWithAck('ack', 0))), 'what is behind the events', 60000)
  await until('all have all', () => got.every((g) => g.length >= 100))
  const want = Array.from({ length: 100 }, (_, i) => i)
  for (const g of got) assert.deepEqual(g, want)
})

test('100 pollers receive 100 events each, in order', async () => {
  const all = Array.from({ length: 100 }, () => client({ transports: ['polling'], timeout: 60000 }, '/b'))
  await within(Promise.all(all.map((s) => connected(s))), '100 connections', 60000)
  const got = all.map((s) => heard(s, 'n'))
  await all[0].emitWithAck('burst', 100)
  await until('all have all', () => got.every((g) => g.length >= 100))
  await Promise.all(all.map(settled))
  const want = Array.from({ length: 100 }, (_, i) => i)
  for (const g of got) assert.deepEqual(g, want)
})

test('the upgrade loses and repeats nothing, whatever is under way', async () => {
  await Promise.all(Array.from({ length: 20 }, async () => {
    const s = client()
    const [ticks, echoes] = [heard(s, 'tick'), heard(s, 'echoed')]
    const n = 300
    s.emit('ticks', { n, ms: 1 }, () => {})
    let sent = 0
    const timer = setInterval(() => { if (sent < n) s.emit('echo', sent++) }, 1)
    closing(() => clearInterval(timer))
    await upgraded(s)
    await until('all has come', () => ticks.length >= n && echoes.length >= n)
    clearInterval(timer)
    await settled(s)
    const want = Array.from({ length: n }, (_, i) => i)
    assert.deepEqual(ticks, want)
    assert.deepEqual(echoes.slice(0, n), want)
    assert.equal(echoes.length, n + 1)
  }))
})

// Over HTTP.

test('CORS: every origin, or those that may', async () => {
  const open = `${url()}/socket.io/?EIO=4&transport=polling`
  const answer = await fetch(open, { headers: { Origin: 'https://anywhere.example' } })
  assert.equal(answer.status, 200)
  assert.ok(['*', 'https://anywhere.example'].includes(answer.headers.get('access-control-allow-origin')))
  const strict = `${url('brief')}/socket.io/?EIO=4&transport=polling`
  const preflight = await fetch(strict, {
    method: 'OPTIONS',
    headers: { Origin: 'https://shop.example', 'Access-Control-Request-Method': 'POST', 'Access-Control-Request-Headers': 'content-type,x-mine' },
  })
  assert.equal(preflight.status, 204)
  assert.equal(preflight.headers.get('access-control-allow-origin'), 'https://shop.example')
  assert.equal(preflight.headers.get('access-control-allow-credentials'), 'true')
  assert.match(preflight.headers.get('access-control-allow-methods'), /GET.*POST|POST.*GET/)
  assert.match(preflight.headers.get('access-control-allow-headers').toLowerCase(), /content-type.*x-mine/)
  const allowed = await fetch(strict, { headers: { Origin: 'https://shop.example' } })
  assert.equal(allowed.headers.get('access-control-allow-origin'), 'https://shop.example')
  assert.equal(allowed.headers.get('access-control-allow-credentials'), 'true')
  const other = await fetch(strict, { headers: { Origin: 'https://evil.example' } })
  assert.ok(!['*', 'https://evil.example'].includes(other.headers.get('access-control-allow-origin')))
})

test('a cookie for load balancers', async () => {
  const first = `${url('brief')}/socket.io/?EIO=4&transport=polling`
  const answer = await fetch(first)
  const { sid } = JSON.parse((await answer.text()).slice(1))
  assert.deepEqual(answer.headers.getSetCookie().map((c) => c.split('; ').sort().join('; ')), [[`io=${sid}`, 'Path=/', 'HttpOnly', 'SameSite=Lax'].sort().join('; ')])
  const next = await fetch(`${first}&sid=${sid}`, { method: 'POST', body: '40' })
  assert.deepEqual(next.headers.getSetCookie(), [])
  assert.deepEqual((await fetch(`${url()}/socket.io/?EIO=4&transport=polling`)).headers.getSetCookie(), [])
})

test('the path may lack its last slash, and other paths are not ours', async () => {
  if (!reference) assert.equal((await fetch(`${url()}/socket.io?EIO=4&transport=polling`)).status, 200)
  assert.equal((await fetch(`${url()}/socket.iox/?EIO=4&transport=polling`)).status, 404)
})

test('who keeps a connection open without a word of Socket.IO is harmless', async () => {
  const w = new WebSocket(`ws://127.0.0.1:${ports.main}/socket.io/?EIO=4&transport=websocket`)
  const closed = within(new Promise((yes) => { w.onclose = yes; w.onerror = () => {} }), 'the close')
  w.onopen = () => w.send('{"event":"subscribe","channel":"x"}')
  await closed
})
