// socket.io-client 2 against the application of server/main.go: Engine.IO 3, where the server has it switched on.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { client, closing, connected, event, heard, io2, line, reference, settled, transports, until, url, within } from './harness.mjs'

const each = (name, run) => { for (const [kind, list] of Object.entries(transports)) test(`${kind}: ${name}`, () => run({ ...(list && { transports: list }) })) }

function old(options = {}, path = '', at = url('v2')) {
  const s = io2(at + path, { forceNew: true, reconnectionDelay: 20, reconnectionDelayMax: 100, randomizationFactor: 0, ...options })
  closing(() => s.io.close())
  return s
}

const ask = (s, ...args) => within(new Promise((yes) => s.emit(...args, (...a) => yes(a))), `the ack of ${args[0]}`)

each('connects', async (options) => {
  const s = old(options)
  await event(s, 'connect')
  assert.ok(s.id)
  if (options.transports) assert.equal(s.io.engine.transport.name, options.transports[0])
  else if (s.io.engine.transport.name !== 'websocket') await event(s.io.engine, 'upgrade')
  assert.deepEqual(await ask(s, 'ack', 1), [1])
})

const values = [1, -1.5, 'text', '', 'ü 😀 ﬀ "quoted"', null, true, [], {}, { a: [{ b: null }] }]

each('events and acknowledgements, both ways', async (options) => {
  const s = old(options)
  const got = event(s, 'echoed')
  s.emit('echo', ...values)
  assert.deepEqual(await got, values)
  assert.deepEqual(await ask(s, 'ack', ...values), values)
  assert.deepEqual(await ask(s, 'ack'), [])
  s.on('question', (q, ack) => ack({ answer: q }))
  assert.deepEqual(await ask(s, 'ask me', 'why?'), [{ answer: 'why?' }])
})

each('events stay in order', async (options) => {
  const s = old(options)
  const got = heard(s, 'echoed')
  for (let i = 0; i < 300; i++) s.emit('echo', i % 3 ? i : `ü${i}`)
  await until('all are back', () => got.length >= 300)
  assert.deepEqual(got, Array.from({ length: 300 }, (_, i) => (i % 3 ? i : `ü${i}`)))
})

const bytes = (...list) => Buffer.from(list)

each('binary values', async (options) => {
  const s = old(options)
  const got = event(s, 'echoed')
  s.emit('echo', bytes(1, 2, 3), { a: [bytes(4), 'ü'] }, 'end')
  assert.deepEqual(await got, [bytes(1, 2, 3), { a: [bytes(4), 'ü'] }, 'end'])
  assert.deepEqual(await ask(s, 'ack', { x: bytes(9, 0, 255) }), [{ x: bytes(9, 0, 255) }])
  const large = Buffer.alloc(200_000, 0xa5)
  assert.deepEqual(await ask(s, 'ack', large), [large])
  s.on('question', (q, ack) => ack(bytes(1, 2)))
  assert.deepEqual(await ask(s, 'ask me', 'bytes?'), [bytes(1, 2)])
  const order = heard(s, 'echoed')
  for (let i = 0; i < 50; i++) s.emit('echo', i % 2 ? bytes(i) : i)
  await until('all are back', () => order.length >= 50)
  assert.deepEqual(order, Array.from({ length: 50 }, (_, i) => (i % 2 ? bytes(i) : i)))
})

test('polling: binary values as base64', async () => {
  const s = old({ transports: ['polling'], forceBase64: true })
  assert.deepEqual(await ask(s, 'ack', { x: bytes(9, 0, 255) }, 'ü'), [{ x: bytes(9, 0, 255) }, 'ü'])
  assert.deepEqual(await ask(s, 'ack', 1), [1])
})

each('namespaces, with a query', async (options) => {
  const s = old({ ...options, query: { mine: 'first' } })
  await event(s, 'connect')
  const a = s.io.socket('/a', { query: { ticket: 'abc' } })
  const b = s.io.socket('/b')
  await Promise.all([event(a, 'connect'), event(b, 'connect')])
  assert.deepEqual((await ask(a, 'handshake'))[0].auth, { ticket: 'abc' })
  assert.equal((await ask(s, 'handshake'))[0].mine, 'first')
  const all = { s: heard(s, 'to a'), a: heard(a, 'to a'), b: heard(b, 'to a') }
  await ask(a, 'send', { event: 'to a', args: [1] })
  for (const x of [s, a, b]) await ask(x, 'ack', 1)
  assert.deepEqual(all, { s: [], a: [1], b: [] })
  a.disconnect()
  assert.deepEqual([await ask(s, 'ack', 1), await ask(b, 'ack', 2)], [[1], [2]])
})

each('who is refused learns why', async (options) => {
  const s = old(options)
  await event(s, 'connect')
  const x = s.io.socket('/unknown')
  const [error] = await event(x, 'error')
  assert.equal(error.message ?? error, 'Invalid namespace') // a text from old servers, an object from new ones
  const a = s.io.socket('/a', { query: { refuse: 'x' } })
  const [why] = await event(a, 'error')
  assert.deepEqual(why, { why: 'x' })
  assert.deepEqual(await ask(s, 'ack', 1), [1])
})

test('both generations hear each other', async () => {
  const [two, four] = [old(), client({}, '', url('v2'))]
  await Promise.all([event(two, 'connect'), connected(four)])
  const got = [event(two, 'broadcasted'), event(four, 'broadcasted')]
  four.emit('broadcast', { deep: bytes(1) }, 'x')
  for (const args of await Promise.all(got)) assert.deepEqual(args.slice(0, 2), [{ deep: bytes(1) }, 'x'])
  await settled(four)
})

test('a server that disconnects is not asked again', async () => {
  const s = old()
  await event(s, 'connect')
  const gone = event(s, 'disconnect')
  s.emit('drop', false)
  assert.equal((await gone)[0], 'io server disconnect')
})

test('comes back when the line is cut', async () => {
  const l = await line('v2')
  const s = old({}, '', l.url)
  await event(s, 'connect')
  const [gone, back] = [event(s, 'disconnect'), event(s, 'reconnect')]
  l.down()
  await gone
  l.up()
  await back
  assert.deepEqual(await ask(s, 'ack', 1), [1])
})

test('the upgrade loses and repeats nothing', async () => {
  await Promise.all(Array.from({ length: 10 }, async () => {
    const s = old()
    const [ticks, echoes] = [heard(s, 'tick'), heard(s, 'echoed')]
    const n = 200
    s.emit('ticks', { n, ms: 1 }, () => {})
    for (let i = 0; i < n; i++) {
      s.emit('echo', i)
      await new Promise((yes) => setTimeout(yes, 1))
    }
    await until('all has come', () => ticks.length >= n && echoes.length >= n)
    const want = Array.from({ length: n }, (_, i) => i)
    assert.deepEqual(ticks, want)
    assert.deepEqual(echoes, want)
  }))
})

for (const [kind, list] of Object.entries({ websocket: ['websocket'], polling: ['polling'] })) {
  test(`${kind}: is refused where Engine.IO 3 is off`, async () => {
    const s = old({ transports: list, reconnection: false }, '', url('main'))
    await event(s, 'connect_error')
    assert.equal(s.connected, false)
  })
}

test('the refusal says why', async () => {
  const answer = await fetch(`${url('main')}/socket.io/?EIO=3&transport=polling`)
  assert.equal(answer.status, 400)
  const { code, message } = await answer.json()
  assert.equal(code, 5)
  assert.match(message, reference ? /^Unsupported protocol version$/ : /^Unsupported protocol version: .*EIO=3.* is switched off$/)
})
