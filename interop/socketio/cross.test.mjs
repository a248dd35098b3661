// One channel, three protocols: pusher-js, a bare WebSocket and socket.io-client.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import Pusher from 'pusher-js'
import { WebSocket } from 'ws'
import { app, closing, connected, event, ports, publisher, settled, until, user, within } from './harness.mjs'

const name = (what) => `${what}-${Math.random().toString(36).slice(2)}`

// Each protocol's client has an id, subscribes, whispers, and collects events and who is there.

async function overPusher(id) {
  const p = new Pusher(app.key, {
    cluster: '', wsHost: '127.0.0.1', wsPort: ports.main, forceTLS: false, enabledTransports: ['ws'], disableStats: true,
    channelAuthorization: {
      customHandler: ({ channelName, socketId }, callback) => callback(null, publisher().authorizeChannel(socketId, channelName,
        channelName.startsWith('presence-') ? { user_id: id, user_info: { name: `user ${id}` } } : undefined)),
    },
  })
  closing(() => p.disconnect())
  await within(new Promise((yes) => p.connection.bind('connected', yes)), 'the connection')
  let c
  const events = []
  return {
    id: p.connection.socket_id,
    events,
    async subscribe(channel) {
      c = p.subscribe(channel)
      c.bind_global((e, data) => { if (!e.startsWith('pusher:') && !e.startsWith('settled')) events.push([e, data]) })
      await within(new Promise((yes, no) => { c.bind('pusher:subscription_succeeded', yes); c.bind('pusher:subscription_error', no) }), 'the subscription')
      c.bind('pusher:member_added', (m) => events.push(['added', m.id]))
      c.bind('pusher:member_removed', (m) => events.push(['removed', m.id]))
    },
    members: () => Object.keys(c.members.members).sort(),
    whisper: (what, data) => c.trigger(`client-${what}`, data),
    leave: () => p.disconnect(),
  }
}

async function overSocket(id) {
  const w = new WebSocket(`ws://127.0.0.1:${ports.main}/ws?user=${id}`)
  closing(() => w.close())
  const events = []
  const waiting = new Map()
  let channel
  const hello = new Promise((yes) => waiting.set('connection_established', yes))
  w.on('message', (text) => {
    const m = JSON.parse(text)
    const wanted = waiting.get(m.event)
    if (wanted) return wanted(m)
    if (m.event === 'member_added' || m.event === 'member_removed') events.push([m.event.slice('member_'.length), m.data.id])
    else if (!m.event.startsWith('settled') && m.channel === channel) events.push([m.event, m.data])
  })
  const { data } = await within(hello, 'the greeting')
  const ask = (m, answer) => within(new Promise((yes) => { waiting.set(answer, yes); w.send(JSON.stringify(m)) }), answer)
  return {
    id: data.socket_id,
    events,
    async subscribe(c) {
      channel = c
      await ask({ event: 'subscribe', channel }, 'subscription_succeeded')
    },
    members: async () => (await ask({ event: 'presence', channel }, 'presence')).data.presence.ids.sort(),
    whisper: (what, d) => w.send(JSON.stringify({ event: `client-${what}`, channel, data: d })),
    leave: () => w.close(),
  }
}

async function overSocketIO(id) {
  const s = await connected(user(id))
  const events = []
  let channel
  s.onAny((what, m) => {
    if (what === 'member_added' || what === 'member_removed') events.push([what.slice('member_'.length), m.data.id])
    else if (m?.channel === channel && m.event === what && !what.startsWith('settled')) events.push([what, m.data])
  })
  return {
    id: s.id,
    events,
    async subscribe(c) {
      channel = c
      const answer = await s.emitWithAck('subscribe', channel)
      assert.equal(answer.ok, true, JSON.stringify(answer))
    },
    members: async () => (await s.emitWithAck('presence', channel)).presence.ids.sort(),
    whisper: (what, data) => s.emit('whisper', { channel, event: what, data }),
    leave: () => s.disconnect(),
  }
}

const all = () => Promise.all([overPusher('pusher'), overSocket('socket'), overSocketIO('socketio')])

test('they hear one event, each once and in order', async () => {
  const channel = name('orders')
  const clients = await all()
  for (const c of clients) await c.subscribe(channel)
  const want = Array.from({ length: 20 }, (_, i) => ['e', { i }])
  for (const [what, data] of want) await publisher().trigger(channel, what, data)
  await until('all have come', () => clients.every((c) => c.events.length >= 20))
  for (const c of clients) assert.deepEqual(c.events, want)
})

test('each can be left out by its socket id', async () => {
  const channel = name('moves')
  const clients = await all()
  for (const c of clients) {
    assert.match(c.id, /^\d+\.\d+$/)
    await c.subscribe(channel)
  }
  for (const c of clients) await publisher().trigger(channel, 'moved', { id: c.id }, { socket_id: c.id })
  await publisher().trigger(channel, 'last', 1)
  await until('the last has come', () => clients.every((c) => c.events.at(-1)?.[0] === 'last'))
  for (const c of clients) assert.deepEqual(c.events, [...clients.filter((other) => other !== c).map((other) => ['moved', { id: other.id }]), ['last', 1]])
})

test('presence and whispers are theirs together', async () => {
  const channel = `presence-${name('room')}`
  const clients = await all()
  for (const c of clients) await c.subscribe(channel)
  const ids = ['pusher', 'socket', 'socketio']
  await until('all know all', () => clients[0].events.length >= 2)
  for (const c of clients) assert.deepEqual(await c.members(), ids)
  assert.deepEqual(clients.map((c) => c.events), [[['added', 'socket'], ['added', 'socketio']], [['added', 'socketio']], []])
  for (const c of clients) c.events.length = 0
  for (const [i, c] of clients.entries()) {
    c.whisper('typing', { from: ids[i] })
    await until('the others hear it', () => clients.every((other) => other === c || other.events.length > 0))
    for (const other of clients) {
      assert.deepEqual(other.events, other === c ? [] : [['client-typing', { from: ids[i] }]])
      other.events.length = 0
    }
  }
  for (const [i, c] of clients.entries()) {
    if (i === clients.length - 1) break
    c.leave()
    await until('the others know', () => clients.slice(i + 1).every((other) => other.events.length > 0))
    for (const other of clients.slice(i + 1)) {
      assert.deepEqual(other.events, [['removed', ids[i]]])
      other.events.length = 0
    }
  }
})
