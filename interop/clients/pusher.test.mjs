import assert from 'node:assert/strict'
import { test } from 'node:test'
import { apps, client, connected, event, heard, port, publisher, settled, subscribed, within } from './harness.mjs'

test('an event published by the server SDK arrives as it was sent', async () => {
  const p = client()
  const orders = await subscribed(p.subscribe('orders'))
  for (const data of [{ id: 1, note: 'ä "quoted" <b>' }, 'just text', '', [1, 2], 17, '"quoted"']) {
    const got = event(orders, 'OrderShipped')
    await publisher().trigger('orders', 'OrderShipped', data)
    assert.deepEqual(await got, data === '"quoted"' ? 'quoted' : data)
  }
})

test('several channels, a batch, and the answer with counts', async () => {
  const p = client()
  const a = await subscribed(p.subscribe('a'))
  const b = await subscribed(p.subscribe('b'))
  const got = [event(a, 'e'), event(b, 'e')]
  const r = await publisher().trigger(['a', 'b', 'nobody'], 'e', { n: 1 }, { info: 'subscription_count' })
  assert.deepEqual(await r.json(), { channels: { a: { subscription_count: 1 }, b: { subscription_count: 1 }, nobody: { subscription_count: 0 } } })
  assert.deepEqual(await Promise.all(got), [{ n: 1 }, { n: 1 }])
  const batch = [event(a, 'x'), event(b, 'y')]
  const rb = await publisher().triggerBatch([{ channel: 'a', name: 'x', data: 1 }, { channel: 'b', name: 'y', data: { z: 2 }, info: 'subscription_count' }])
  assert.deepEqual(await rb.json(), { batch: [{}, { subscription_count: 1 }] })
  assert.deepEqual(await Promise.all(batch), [1, { z: 2 }])
})

test('to others: the sender is left out', async () => {
  const p = client()
  const q = client()
  const mine = await subscribed(p.subscribe('orders'))
  const theirs = await subscribed(q.subscribe('orders'))
  const seen = heard(mine, 'moved')
  const got = event(theirs, 'moved')
  await publisher().trigger('orders', 'moved', { x: 1 }, { socket_id: p.connection.socket_id })
  assert.deepEqual(await got, { x: 1 })
  await settled(p, publisher(), mine)
  assert.deepEqual(seen, [])
})

test('private channels: a signature opens them, another one is refused with a reason', async () => {
  const p = client()
  const orders = await subscribed(p.subscribe('private-orders.1'))
  const got = event(orders, 'e')
  await publisher().trigger('private-orders.1', 'e', { n: 1 })
  assert.deepEqual(await got, { n: 1 })
  const q = client(apps.first, undefined, { channelAuthorization: { customHandler: (_, callback) => callback(null, { auth: `${apps.first.key}:00` }) } })
  const refused = await subscribed(q.subscribe('private-orders.1')).catch((e) => e)
  assert.equal(refused.type, 'AuthError')
  assert.equal(refused.status, 401)
  assert.match(refused.error, /^the signature in auth is not the HMAC-SHA256/)
  assert.equal(q.connection.state, 'connected')
})

test('every key of an app works', async () => {
  const p = client(apps.rotated)
  const c = await subscribed(p.subscribe('private-a'))
  const got = event(c, 'e')
  await publisher(apps.first).trigger('private-a', 'e', 1)
  assert.equal(await got, 1)
})

test('presence: who is here, who comes, who goes', async () => {
  const p = client(apps.first, { user_id: '10', user_info: { name: 'Ann' } })
  const here = await subscribed(p.subscribe('presence-room'))
  assert.equal(here.members.count, 1)
  assert.deepEqual(here.members.me, { id: '10', info: { name: 'Ann' } })
  const added = event(here, 'pusher:member_added')
  const q = client(apps.first, { user_id: 11, user_info: { name: 'Ben' } })
  const there = await subscribed(q.subscribe('presence-room'))
  assert.deepEqual(await added, { id: '11', info: { name: 'Ben' } })
  assert.equal(there.members.count, 2)
  assert.deepEqual(there.members.get('10'), { id: '10', info: { name: 'Ann' } })
  const r = await publisher().get({ path: '/channels/presence-room/users' })
  assert.deepEqual(await r.json(), { users: [{ id: '10' }, { id: '11' }] })
  const removed = event(here, 'pusher:member_removed')
  q.disconnect()
  assert.deepEqual(await removed, { id: '11', info: { name: 'Ben' } })
  assert.equal(here.members.count, 1)
})

test('client events reach the others, with the sender the server knows', async () => {
  const p = client(apps.first, { user_id: '10' })
  const q = client(apps.first, { user_id: '11' })
  const here = await subscribed(p.subscribe('presence-chat'))
  const there = await subscribed(q.subscribe('presence-chat'))
  const echo = heard(there, 'client-typing')
  const got = event(here, 'client-typing')
  assert.equal(there.trigger('client-typing', { text: 'hi' }), true)
  assert.deepEqual(await got, { data: { text: 'hi' }, meta: { user_id: '11' } })
  await settled(q, publisher(), there)
  assert.deepEqual(echo, [])
})

test('client events where they are not allowed are an error that costs nothing else', async () => {
  const p = client(apps.third)
  const c = await subscribed(p.subscribe('private-a'))
  const failed = event(p.connection, 'error')
  c.trigger('client-x', {})
  const e = await failed
  assert.deepEqual(e, { type: 'PusherError', data: { code: 4301, message: 'client events are switched off for app "1003"' } })
  await settled(p, publisher(apps.third), c)
})

test('cache channels: the last event, or a miss', async () => {
  const name = `cache-news-${Date.now()}`
  const p = client()
  const c = p.subscribe(name)
  await event(c, 'pusher:cache_miss')
  await publisher().trigger(name, 'headline', { n: 1 })
  const q = client()
  assert.deepEqual(await event(q.subscribe(name), 'headline'), { n: 1 })
  const r = await publisher().get({ path: `/channels/${name}`, params: { info: 'cache,subscription_count' } })
  const got = await r.json()
  assert.equal(got.cache.data, '{"n":1}')
  assert.ok(got.cache.ttl > 1700 && got.cache.ttl <= 1800, String(got.cache.ttl))
  assert.equal(got.subscription_count, 2)
  assert.equal(got.occupied, true)
})

test('end-to-end encryption: the server relays what it cannot read', async () => {
  const p = client()
  const c = await subscribed(p.subscribe('private-encrypted-medical'))
  const got = event(c, 'result')
  await publisher().trigger('private-encrypted-medical', 'result', { value: 7 })
  assert.deepEqual(await got, { value: 7 })
})

test('signing in, messages to a user, and termination', async () => {
  const p = client(apps.first, { id: 'u1', user_info: { name: 'Ann' } })
  p.signin()
  await within(p.user.signinDonePromise, 'the sign-in')
  const got = within(new Promise((yes) => p.user.bind('note', yes)), 'the note')
  // The client subscribes to its user's channel by itself; only the server knows when that is done.
  for (let n = 0; n === 0;) {
    const r = await publisher().get({ path: '/channels/%23server-to-user-u1', params: { info: 'subscription_count' } }).catch(() => null)
    n = r ? (await r.json()).subscription_count : 1
  }
  await publisher().sendToUser('u1', 'note', { text: 'hi' })
  assert.deepEqual(await got, { text: 'hi' })
  const gone = event(p.connection, 'disconnected')
  const why = event(p.connection, 'error')
  await publisher().terminateUserConnections('u1')
  assert.deepEqual((await why).data, { code: 4009, message: 'You got disconnected by the app.' })
  await gone
})

test('watchlists tell who is online', async () => {
  const p = client(apps.second, { id: 'watcher', watchlist: ['friend'] })
  const first = within(new Promise((yes) => p.user.watchlist.bind('offline', yes)), 'offline')
  p.signin()
  assert.deepEqual(await first, { name: 'offline', user_ids: ['friend'] })
  const online = within(new Promise((yes) => p.user.watchlist.bind('online', yes)), 'online')
  const q = client(apps.second, { id: 'friend' })
  q.signin()
  assert.deepEqual(await online, { name: 'online', user_ids: ['friend'] })
  const offline = within(new Promise((yes) => p.user.watchlist.bind('offline', yes)), 'offline')
  q.disconnect()
  assert.deepEqual(await offline, { name: 'offline', user_ids: ['friend'] })
})

test('subscription counts', async () => {
  const p = client(apps.second)
  const c = p.subscribe('counted')
  assert.deepEqual(await event(c, 'pusher:subscription_count'), { subscription_count: 1 })
  const next = event(c, 'pusher:subscription_count')
  const q = client(apps.second)
  await subscribed(q.subscribe('counted'))
  assert.deepEqual(await next, { subscription_count: 2 })
  assert.equal(c.subscriptionCount, 2)
})

test('a connection that must become authorized and does not is closed for good', async () => {
  const p = client(apps.third)
  const why = event(p.connection, 'error')
  const gone = event(p.connection, 'disconnected')
  await connected(p)
  assert.equal((await why).data.code, 4009)
  await gone
})

test('an unknown key ends the connection for good, with its reason', async () => {
  const p = client({ ...apps.first, key: 'no-such-key' })
  const gone = event(p.connection, 'disconnected')
  const e = await event(p.connection, 'error')
  assert.deepEqual(e.error.data, { code: 4001, message: 'there is no app with the key "no-such-key"' })
  await gone
})

test('under a prefix', async () => {
  const p = client(apps.first, undefined, { wsPath: '/realtime' })
  const c = await subscribed(p.subscribe('prefixed'))
  const got = event(c, 'e')
  await publisher().trigger('prefixed', 'e', 1)
  assert.equal(await got, 1)
})

test('unsubscribing ends the events', async () => {
  const p = client()
  const other = await subscribed(p.subscribe('other'))
  const c = await subscribed(p.subscribe('orders'))
  const seen = heard(c, 'e')
  p.unsubscribe('orders')
  await settled(p, publisher(), other)
  await publisher().trigger('orders', 'e', 1)
  await settled(p, publisher(), other)
  assert.deepEqual(seen, [])
})

test('the HTTP API lists channels and refuses what it must, with a reason', async () => {
  const p = client(apps.first, { user_id: '1' })
  await subscribed(p.subscribe('presence-listed'))
  await subscribed(p.subscribe('listed'))
  const sdk = publisher()
  let r = await sdk.get({ path: '/channels', params: { filter_by_prefix: 'presence-l', info: 'user_count' } })
  assert.deepEqual(await r.json(), { channels: { 'presence-listed': { user_count: 1 } } })
  r = await sdk.get({ path: '/channels', params: { filter_by_prefix: 'listed' } })
  assert.deepEqual(await r.json(), { channels: { listed: {} } })
  r = await sdk.get({ path: '/channels/nobody' })
  assert.deepEqual(await r.json(), { occupied: false })
  const refusal = async (call) => { const e = await call.catch((e) => e); return [e.status, JSON.parse(e.body).error] }
  assert.deepEqual(await refusal(sdk.get({ path: '/channels', params: { info: 'user_count' } })), [400, 'user_count is known of presence channels only: ask with filter_by_prefix=presence-'])
  assert.deepEqual(await refusal(sdk.get({ path: '/channels/listed/users' })), [400, 'users are known of presence channels only, and "listed" is none'])
  const wrong = await refusal(publisher({ ...apps.first, secret: 'wrong' }).get({ path: '/channels' }))
  assert.equal(wrong[0], 401)
  assert.match(wrong[1], /^auth_signature is not the HMAC-SHA256, in lower-case hex, of "GET\\n\/apps\/1001\/channels\\nauth_key=app-key&/)
})

test('a plain WebSocket and a Pusher client on one channel', async () => {
  const p = client()
  const c = await subscribed(p.subscribe('shared'))
  const { WebSocket } = globalThis
  if (!WebSocket) return // Node before 22 has none; the server's own tests cover it
  const ws = new WebSocket(`ws://127.0.0.1:${port}/ws?app=${apps.first.key}`)
  const got = within(new Promise((yes) => { ws.onmessage = (m) => { const d = JSON.parse(m.data); if (d.event === 'e') yes(d) } }), 'e')
  await within(new Promise((yes) => { ws.onopen = yes }), 'open')
  ws.send(JSON.stringify({ event: 'subscribe', channel: 'shared' }))
  await settled(p, publisher(), c)
  await publisher().trigger('shared', 'e', { n: 1 })
  assert.deepEqual((await got).data, { n: 1 })
  ws.close()
})
