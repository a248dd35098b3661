// Channels as socket.io-client 4 has them: commands are events, and so is what is heard.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { app, client, connected, event, heard, line, publisher, settled, transports, until, upgraded, user, within } from './harness.mjs'

const each = (name, run) => { for (const [kind, list] of Object.entries(transports)) test(`${kind}: ${name}`, () => run({ transports: list })) }
const name = (what) => `${what}-${Math.random().toString(36).slice(2)}`

// hears subscribes, and collects what comes on one event, without the offset.
async function hears(s, channel, what, more = {}) {
  const all = heard(s, what)
  const answer = await s.emitWithAck('subscribe', typeof channel === 'string' && Object.keys(more).length === 0 ? channel : { channel, ...more })
  assert.equal(answer.ok, true, JSON.stringify(answer))
  return all
}

each('subscribe by name, with an acknowledgement', async (options) => {
  const channel = name('orders')
  const s = client(options)
  assert.deepEqual(await s.emitWithAck('subscribe', channel), { ok: true, channel })
  const got = event(s, 'OrderShipped')
  await publisher().trigger(channel, 'OrderShipped', { id: 1, note: 'ä "quoted"' })
  assert.deepEqual((await got)[0], { event: 'OrderShipped', channel, data: { id: 1, note: 'ä "quoted"' } })
})

each('subscribe without one: an event says that it is done', async (options) => {
  const channel = name('orders')
  const s = client(options)
  const done = event(s, 'subscription_succeeded')
  s.emit('subscribe', { channel })
  assert.deepEqual((await done)[0], { channel })
  const refused = event(s, 'subscription_error')
  s.emit('subscribe', 'private-orders.1')
  assert.deepEqual((await refused)[0], { channel: 'private-orders.1', code: 4009, message: 'nobody is identified', status: 401 })
})

each('every value arrives as it was published', async (options) => {
  const channel = name('values')
  const s = client(options)
  const got = await hears(s, channel, 'e')
  const values = [1, 'text', '', null, true, [1, [2]], {}, { deep: { x: [null] } }, 'ü 😀 \u2028']
  for (const v of values) await publisher().trigger(channel, 'e', v)
  await until('all have come', () => got.length >= values.length)
  assert.deepEqual(got.map((m) => m.data), values)
})

each('private channels: the program decides, or a signature, or a token', async (options) => {
  const ann = user('ann', options)
  assert.deepEqual(await ann.emitWithAck('subscribe', 'private-orders.1'), { ok: true, channel: 'private-orders.1' })
  assert.deepEqual(await ann.emitWithAck('subscribe', { channel: 'private-orders.forbidden' }),
    { ok: false, channel: 'private-orders.forbidden', code: 4009, message: 'this is not yours', status: 401 })
  const s = await connected(client(options))
  const signed = publisher().authorizeChannel(s.id, 'private-orders.signed')
  assert.deepEqual(await s.emitWithAck('subscribe', { channel: 'private-orders.signed', auth: signed.auth }), { ok: true, channel: 'private-orders.signed' })
  const wrong = await s.emitWithAck('subscribe', { channel: 'private-orders.2', auth: `${app.key}:00` })
  assert.equal(wrong.ok, false)
  assert.equal(wrong.status, 401)
  const [a, b] = [event(ann, 'e'), event(s, 'e')]
  await publisher().trigger(['private-orders.1', 'private-orders.signed'], 'e', { n: 1 })
  assert.deepEqual((await a)[0], { event: 'e', channel: 'private-orders.1', data: { n: 1 } })
  assert.deepEqual((await b)[0], { event: 'e', channel: 'private-orders.signed', data: { n: 1 } })
})

each('presence: who is here, who comes, who goes', async (options) => {
  const channel = name('presence-room').replace('room-', 'room.')
  const ann = user('ann', options)
  const member = (id) => ({ id, info: { name: `user ${id}` } })
  assert.deepEqual(await ann.emitWithAck('subscribe', channel), {
    ok: true, channel, presence: { count: 1, ids: ['ann'], hash: { ann: member('ann') } }, me: { id: 'ann' },
  })
  const added = event(ann, 'member_added')
  const ben = user('ben', options)
  const answer = await ben.emitWithAck('subscribe', channel)
  assert.deepEqual(answer.presence.hash, { ann: member('ann'), ben: member('ben') })
  assert.deepEqual((await added)[0], { event: 'member_added', channel, data: member('ben') })
  // A second tab is no second member.
  const quiet = heard(ann, 'member_added')
  const tab = user('ben', options)
  await tab.emitWithAck('subscribe', channel)
  await settled(ann)
  assert.deepEqual(quiet, [])
  assert.deepEqual((await ann.emitWithAck('presence', channel)).presence.ids.sort(), ['ann', 'ben'])
  tab.disconnect()
  const removed = event(ann, 'member_removed')
  await ben.emitWithAck('unsubscribe', { channel })
  assert.deepEqual((await removed)[0], { event: 'member_removed', channel, data: member('ben') })
})

each('whispers reach the others', async (options) => {
  const channel = 'presence-' + name('chat')
  const [ann, ben] = [user('ann', options), user('ben', options)]
  const [, back] = [await hears(ann, channel, 'x'), await hears(ben, channel, 'client-typing')]
  for (const [how, what] of [['whisper', 'client-typing'], ['client event', 'client-typing']]) {
    const got = event(ann, 'client-typing')
    ben.emit(how, { channel, event: what, data: { text: how } })
    assert.deepEqual((await got)[0], { event: 'client-typing', channel, data: { text: how }, user_id: 'ben' })
  }
  assert.deepEqual(await ben.emitWithAck('whisper', { channel, event: 'typing', data: 1 }), { ok: true, channel })
  await settled(ben)
  assert.deepEqual(back, [])
  const stranger = await connected(user('eve', options))
  const refused = await stranger.emitWithAck('whisper', { channel, event: 'client-typing', data: 1 })
  assert.equal(refused.ok, false)
  const failed = event(stranger, 'channel_error')
  stranger.emit('whisper', { channel, event: 'client-typing', data: 1 })
  assert.deepEqual((await failed)[0], { channel, code: refused.code, message: refused.message, status: refused.status })
})

each('what is unsubscribed is silent', async (options) => {
  const channel = name('quiet')
  const s = client(options)
  const got = await hears(s, channel, 'e')
  await publisher().trigger(channel, 'e', 1)
  await settled(s)
  assert.deepEqual(await s.emitWithAck('unsubscribe', channel), { ok: true, channel })
  await publisher().trigger(channel, 'e', 2)
  await settled(s)
  assert.deepEqual(got.map((m) => m.data), [1])
})

each('to others: the sender is left out', async (options) => {
  const channel = name('moves')
  const [a, b] = [client(options), client(options)]
  const [mine, theirs] = [await hears(a, channel, 'moved'), await hears(b, channel, 'moved')]
  await publisher().trigger(channel, 'moved', 1, { socket_id: a.id })
  await publisher().trigger(channel, 'moved', 2)
  await settled(a)
  await settled(b)
  assert.deepEqual([mine, theirs].map((all) => all.map((m) => m.data)), [[2], [1, 2]])
})

test('history: who was away asks for what it missed', async () => {
  const channel = 'private-' + name('history').replace('history-', 'history.')
  const s = user('ann')
  const first = await s.emitWithAck('subscribe', channel)
  assert.equal(first.ok, true)
  assert.equal(typeof first.epoch, 'string')
  for (let i = 1; i <= 3; i++) await publisher().trigger(channel, 'e', i)
  const later = user('ann')
  const got = heard(later, 'e')
  const answer = await later.emitWithAck('subscribe', { channel, since: first.seq + 1, epoch: first.epoch })
  assert.equal(answer.recovered, true)
  assert.equal(answer.seq, first.seq + 3)
  await until('both have come', () => got.length >= 2)
  assert.deepEqual(got.map((m) => [m.data, m.seq, m.replayed]), [[2, first.seq + 2, true], [3, first.seq + 3, true]])
  assert.equal(got[0].epoch, first.epoch)
  assert.equal(typeof got[0].ts, 'number')
})

each('subscriptions and what was missed come back with the client', async (options) => {
  const channel = name('orders')
  const l = await line()
  const s = client(options, '', l.url)
  const got = await hears(s, channel, 'e')
  if (!options.transports) await upgraded(s)
  await publisher().trigger(channel, 'e', 0)
  await settled(s)
  const gone = event(s, 'disconnect')
  await until('the server would notice', () => l.watched())
  l.down()
  await gone
  for (let i = 1; i < 6; i++) await publisher().trigger(channel, 'e', i)
  const back = event(s, 'connect')
  l.up()
  await back
  assert.equal(s.recovered, true)
  await publisher().trigger(channel, 'e', 6)
  await settled(s)
  assert.deepEqual(got.map((m) => m.data), [0, 1, 2, 3, 4, 5, 6])
})

test('presence outlives a short absence', async () => {
  const channel = 'presence-' + name('room')
  const ben = user('ben')
  await ben.emitWithAck('subscribe', channel)
  const l = await line()
  const ann = client({ query: { user: 'ann' } }, '', l.url)
  await ann.emitWithAck('subscribe', channel)
  await settled(ann)
  const gone = event(ann, 'disconnect')
  l.down()
  await gone
  const back = event(ann, 'connect')
  l.up()
  await back
  assert.equal(ann.recovered, true)
  assert.deepEqual((await ben.emitWithAck('presence', channel)).presence.ids.sort(), ['ann', 'ben'])
})

test('the form of laravel-echo, for who asks for it', async () => {
  const channel = name('orders')
  const s = client({ auth: { format: 'echo' } })
  await s.emitWithAck('subscribe', channel)
  const got = event(s, 'OrderShipped')
  await publisher().trigger(channel, 'OrderShipped', { id: 1 })
  assert.deepEqual((await got).slice(0, 2), [channel, { id: 1 }])
  const plain = client({ auth: { format: 'object' } })
  await plain.emitWithAck('subscribe', { channel, auth: { headers: {} } })
  const object = event(plain, 'OrderShipped')
  await publisher().trigger(channel, 'OrderShipped', { id: 2 })
  assert.deepEqual((await object)[0], { event: 'OrderShipped', channel, data: { id: 2 } })
})

test("the seed's OrderShipped is heard by its owner, by everybody, and by who is in the room", async () => {
  const id = name('order')
  const [owner, room] = [user('ann'), user('ben')]
  const got = [await hears(owner, `private-orders.${id}`, 'OrderShipped'), await hears(room, 'presence-chat-room', 'OrderShipped')]
  const everybody = client()
  got.push(await hears(everybody, 'notifications', 'OrderShipped'))
  const order = { orderId: id, userId: 'ann' }
  await within(everybody.emitWithAck('ship', order), 'the ack of ship')
  await Promise.all([owner, room, everybody].map(settled))
  assert.deepEqual(got, [
    [{ event: 'OrderShipped', channel: `private-orders.${id}`, data: order }],
    [{ event: 'OrderShipped', channel: 'presence-chat-room', data: order }],
    [{ event: 'OrderShipped', channel: 'notifications', data: order }],
  ])
})

test('a token opens what it names, and an invalid one keeps out', async () => {
  const s = client({ auth: { token: 'not.a.token' } })
  const [error] = await event(s, 'connect_error')
  assert.equal(error.data.code, 4009)
  assert.equal(error.data.status, 401)
  assert.equal(s.active, false)
})
