// laravel-echo 2 with broadcaster 'socket.io' and socket.io-client 4.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import Echo from 'laravel-echo'
import { io } from 'socket.io-client'
import { closing, event, line, publisher, settled, until, url, within } from './harness.mjs'

const name = (what) => `${what}.${Math.random().toString(36).slice(2)}`

function echo(user, more = {}) {
  const e = new Echo({
    broadcaster: 'socket.io', client: io, host: url(), forceNew: true, query: { user },
    reconnectionDelay: 20, reconnectionDelayMax: 100, randomizationFactor: 0, ...more,
  })
  closing(() => e.connector.socket.io._close())
  return e
}

const once = (listen, what = 'the event') => within(new Promise((yes) => listen((...args) => yes(args[0]))), what)

// heardBy waits until the server has what Echo has sent: it waits for no answers.
const through = (e) => settled(e.connector.socket)

test('channel: names with a namespace, and verbatim ones', async () => {
  const channel = name('orders')
  const e = echo('1')
  const c = e.channel(channel)
  await through(e)
  const namespaced = once((yes) => c.listen('OrderShipped', yes))
  const verbatim = once((yes) => c.listen('.order.shipped', yes))
  await publisher().trigger(channel, 'App\\Events\\OrderShipped', { id: 1 })
  await publisher().trigger(channel, 'order.shipped', { id: 2 })
  assert.deepEqual(await namespaced, { id: 1 })
  assert.deepEqual(await verbatim, { id: 2 })
})

test('only its own channel, and no longer than it listens', async () => {
  const [one, two] = [name('one'), name('two')]
  const e = echo('1')
  const [a, b] = [e.channel(one), e.channel(two)]
  const got = []
  const stopped = (d) => got.push(['stopped', d])
  a.listen('.e', (d) => got.push(['a', d]))
  b.listen('.e', (d) => got.push(['b', d]))
  a.listen('.e', stopped)
  a.stopListening('.e', stopped)
  await through(e)
  await publisher().trigger(one, 'e', 1)
  await publisher().trigger(two, 'e', 2)
  await through(e)
  assert.deepEqual(got, [['a', 1], ['b', 2]])
})

test('private', async () => {
  const channel = name('orders')
  const e = echo('1')
  const c = e.private(channel)
  await through(e)
  const got = once((yes) => c.listen('.e', yes))
  await publisher().trigger(`private-${channel}`, 'e', { n: 1 })
  assert.deepEqual(await got, { n: 1 })
})

// Echo's own error() does nothing on Socket.IO; its server of old sends this event.
test('a refused channel says why', async () => {
  for (const [user, channel] of [['1', 'orders.forbidden'], ['', 'orders.1']]) {
    const e = echo(user)
    const refused = event(e.connector.socket, 'subscription_error')
    e.private(channel)
    assert.deepEqual((await refused).slice(0, 2), [`private-${channel}`, 401])
  }
})

test('join: here, joining, leaving, whisper', async () => {
  const channel = name('room')
  const e = echo('1')
  const room = e.join(channel)
  assert.deepEqual(await once((yes) => room.here(yes)), [{ name: 'user 1' }])
  const joining = once((yes) => room.joining(yes))
  const two = echo('2')
  const theirs = two.join(channel)
  assert.deepEqual(await once((yes) => theirs.here(yes)), [{ name: 'user 1' }, { name: 'user 2' }])
  assert.deepEqual(await joining, { name: 'user 2' })
  const whisper = once((yes) => room.listenForWhisper('typing', yes))
  theirs.whisper('typing', { name: 'two' })
  assert.deepEqual(await whisper, { name: 'two' })
  const leaving = once((yes) => room.leaving(yes))
  two.leave(channel)
  assert.deepEqual(await leaving, { name: 'user 2' })
})

test('leaving: a client that is gone for good', async () => {
  const channel = name('room')
  const room = echo('1').join(channel)
  await once((yes) => room.here(yes))
  const joining = once((yes) => room.joining(yes))
  const two = echo('2')
  two.join(channel)
  await joining
  const leaving = once((yes) => room.leaving(yes))
  two.disconnect()
  assert.deepEqual(await leaving, { name: 'user 2' })
})

test('notification', async () => {
  const channel = name('App.Models.User')
  const e = echo('1')
  const c = e.private(channel.replace('App.Models.User.', 'user.'))
  await through(e)
  const got = once((yes) => c.notification(yes))
  await publisher().trigger(`private-${channel.replace('App.Models.User.', 'user.')}`, 'Illuminate\\Notifications\\Events\\BroadcastNotificationCreated', { id: 'n1', amount: 5 })
  assert.deepEqual(await got, { id: 'n1', amount: 5 })
})

test('leave ends all kinds', async () => {
  const channel = name('again')
  const e = echo('1')
  const got = []
  for (const c of [e.channel(channel), e.private(channel), e.join(channel)]) c.listen('.e', (d) => got.push(d))
  await through(e)
  await publisher().trigger([channel, `private-${channel}`, `presence-${channel}`], 'e', 1)
  await through(e)
  assert.deepEqual(got, [1, 1, 1])
  e.leave(channel)
  await through(e)
  await publisher().trigger([channel, `private-${channel}`, `presence-${channel}`], 'e', 2)
  await through(e)
  assert.deepEqual(got, [1, 1, 1])
})

test('toOthers: the socket id that Echo sends with requests', async () => {
  const channel = name('moves')
  const [e, f] = [echo('1'), echo('2')]
  const got = { mine: [], theirs: [] }
  e.channel(channel).listen('.moved', (d) => got.mine.push(d))
  f.channel(channel).listen('.moved', (d) => got.theirs.push(d))
  await Promise.all([through(e), through(f)])
  assert.match(e.socketId(), /^\d+\.\d+$/)
  await publisher().trigger(channel, 'moved', 1, { socket_id: e.socketId() })
  await publisher().trigger(channel, 'moved', 2)
  await Promise.all([through(e), through(f)])
  assert.deepEqual(got, { mine: [2], theirs: [1, 2] })
})

for (const recovered of [true, false]) {
  test(`channels live on after a reconnect, ${recovered ? 'with what was missed' : 'also when it is too late for what was missed'}`, async () => {
    const channel = name('orders')
    const l = await line()
    const e = echo('1', { host: l.url })
    const got = { public: [], private: [], here: [] }
    e.channel(channel).listen('.e', (d) => got.public.push(d))
    e.private(channel).listen('.e', (d) => got.private.push(d))
    e.join(channel).here((members) => got.here.push(members))
    const all = [channel, `private-${channel}`]
    await through(e)
    await publisher().trigger(all, 'e', 0)
    await through(e)
    const { socket } = e.connector
    const gone = event(socket, 'disconnect')
    l.down()
    await gone
    if (!recovered) socket._pid = undefined
    await publisher().trigger(all, 'e', 1)
    const back = event(socket, 'connect')
    l.up()
    await back
    assert.equal(!!socket.recovered, recovered)
    await through(e)
    await publisher().trigger(all, 'e', 2)
    await through(e)
    const want = recovered ? [0, 1, 2] : [0, 2]
    assert.deepEqual([got.public, got.private], [want, want])
    await until('it is told who is here', () => got.here.length >= 2)
    for (const members of got.here) assert.deepEqual(members, [{ name: 'user 1' }])
  })
}

test('a connection of Echo may have the server\'s own form', async () => {
  const e = echo('1', { auth: { headers: {} } }) // Echo hands its own auth to the handshake, too
  const c = e.channel(name('form'))
  await through(e)
  const got = once((yes) => c.listen('.e', yes))
  await publisher().trigger(c.name, 'e', { n: 1 })
  assert.deepEqual(await got, { n: 1 })
})
