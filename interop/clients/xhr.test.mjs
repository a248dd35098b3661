// pusher-js without WebSockets: what a client does where a network lets none through.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { apps, client, connected, event, heard, publisher, settled, subscribed, within } from './harness.mjs'

for (const transport of ['xhr_streaming', 'xhr_polling']) {
  const over = (app, user, more = {}) => client(app, user, { enabledTransports: [transport], ...more })

  test(`${transport}: public, private and encrypted channels`, async () => {
    const p = over()
    await connected(p)
    assert.equal(p.connection.connection.transport.name, transport)
    assert.match(p.connection.socket_id, /^\d+\.\d+$/)
    for (const name of ['orders', 'private-orders.1', 'private-encrypted-medical']) {
      const c = await subscribed(p.subscribe(name))
      for (const data of [{ id: 1, note: 'ä "quoted" <b> 😀 \u2028' }, 'just text', [1, 2]]) {
        const got = event(c, 'OrderShipped')
        await publisher().trigger(name, 'OrderShipped', data)
        assert.deepEqual(await got, data)
      }
    }
  })

  test(`${transport}: a refused channel says why, and keeps the connection`, async () => {
    const q = over(apps.first, undefined, { channelAuthorization: { customHandler: (_, callback) => callback(null, { auth: `${apps.first.key}:00` }) } })
    const refused = await subscribed(q.subscribe('private-orders.1')).catch((e) => e)
    assert.equal(refused.type, 'AuthError')
    assert.equal(refused.status, 401)
    assert.equal(q.connection.state, 'connected')
  })

  test(`${transport}: presence, client events and exclusions, with a WebSocket client`, async () => {
    const p = over(apps.first, { user_id: '10', user_info: { name: 'Ann' } })
    const here = await subscribed(p.subscribe('presence-xhr'))
    assert.deepEqual(here.members.me, { id: '10', info: { name: 'Ann' } })
    const added = event(here, 'pusher:member_added')
    const q = client(apps.first, { user_id: '11' })
    const there = await subscribed(q.subscribe('presence-xhr'))
    assert.deepEqual(await added, { id: '11', info: null })
    assert.deepEqual(there.members.get('10'), { id: '10', info: { name: 'Ann' } })
    const [mine, theirs] = [heard(here, 'client-typing'), heard(there, 'client-typing')]
    let got = event(there, 'client-typing')
    assert.equal(here.trigger('client-typing', { text: 'hi' }), true)
    assert.deepEqual(await got, { data: { text: 'hi' }, meta: { user_id: '10' } })
    got = event(here, 'client-typing')
    there.trigger('client-typing', { text: 'yes' })
    assert.deepEqual(await got, { data: { text: 'yes' }, meta: { user_id: '11' } })
    const moved = [heard(here, 'moved'), heard(there, 'moved')]
    await publisher().trigger('presence-xhr', 'moved', 1, { socket_id: p.connection.socket_id })
    await publisher().trigger('presence-xhr', 'moved', 2, { socket_id: q.connection.socket_id })
    await settled(p, publisher(), here)
    await settled(q, publisher(), there)
    assert.deepEqual([mine, theirs, ...moved], [[{ text: 'yes' }], [{ text: 'hi' }], [2], [1]])
    const removed = event(there, 'pusher:member_removed')
    p.disconnect()
    assert.deepEqual(await removed, { id: '10', info: { name: 'Ann' } })
  })

  test(`${transport}: every message in order, over many responses`, async () => {
    const p = over()
    const c = await subscribed(p.subscribe('private-many'))
    const [id, n] = [p.connection.socket_id, 300]
    const lost = heard(p.connection, 'error')
    const seen = []
    const all = within(new Promise((yes) => c.bind('n', (d) => { seen.push(d.n); if (seen.length === n) yes() })), 'the last message', 30_000)
    const text = 'x漢😀'.repeat(1000)
    for (let i = 0; i < n; i += 10) {
      await publisher().triggerBatch(Array.from({ length: 10 }, (_, j) => ({ channel: 'private-many', name: 'n', data: { n: i + j, text } })))
    }
    await all
    assert.deepEqual(seen, Array.from({ length: n }, (_, i) => i))
    assert.equal(p.connection.socket_id, id) // one session all the time
    assert.deepEqual(lost, [])
  })

  test(`${transport}: signing in, messages to a user, and termination`, async () => {
    const user = `user of ${transport}`
    const p = over(apps.first, { id: user })
    p.signin()
    await within(p.user.signinDonePromise, 'the sign-in')
    const got = within(new Promise((yes) => p.user.bind('note', yes)), 'the note')
    const path = `/channels/${encodeURIComponent(`#server-to-user-${user}`)}`
    for (let n = 0; n === 0;) {
      const r = await publisher().get({ path, params: { info: 'subscription_count' } }).catch(() => null)
      n = r ? (await r.json()).subscription_count : 1
    }
    await publisher().sendToUser(user, 'note', { text: 'hi' })
    assert.deepEqual(await got, { text: 'hi' })
    const gone = event(p.connection, 'disconnected')
    const why = event(p.connection, 'error')
    await publisher().terminateUserConnections(user)
    assert.deepEqual((await why).data, { code: 4009, message: 'You got disconnected by the app.' })
    await gone
  })

  test(`${transport}: an unknown key ends the connection for good, with its reason`, async () => {
    const p = over({ ...apps.first, key: 'no-such-key' })
    const gone = event(p.connection, 'disconnected')
    const e = await event(p.connection, 'error')
    assert.deepEqual(e.error.data, { code: 4001, message: 'there is no app with the key "no-such-key"' })
    await gone
  })

  test(`${transport}: under a prefix`, async () => {
    const p = over(apps.first, undefined, { httpPath: '/realtime' })
    const c = await subscribed(p.subscribe('prefixed'))
    const got = event(c, 'e')
    await publisher().trigger('prefixed', 'e', 1)
    assert.equal(await got, 1)
  })
}

// With every transport allowed, a client whose WebSockets fail comes through by itself.
test('falling back', async () => {
  const p = client(apps.first, undefined, { enabledTransports: undefined, wsPort: 1, wssPort: 1 })
  await within(new Promise((yes) => p.connection.bind('connected', yes)), 'the connection', 20_000)
  assert.equal(p.connection.connection.transport.name, 'xhr_streaming')
})
