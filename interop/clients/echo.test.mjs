import assert from 'node:assert/strict'
import http from 'node:http'
import { after, before, test } from 'node:test'
import Echo from 'laravel-echo'
import Pusher from 'pusher-js'
import { apps, closing, port, publisher, within } from './harness.mjs'

// The application's endpoint for authorization, as Laravel has it: it signs, and refuses channels named "…forbidden".
let endpoint
let asked = []
before(async () => {
  endpoint = http.createServer((request, response) => {
    let body = ''
    request.on('data', (d) => { body += d })
    request.on('end', () => {
      const form = new URLSearchParams(body)
      const [socket, channel] = [form.get('socket_id'), form.get('channel_name')]
      const user = request.headers.authorization?.replace('Bearer ', '')
      asked.push({ path: request.url, channel })
      response.setHeader('Content-Type', 'application/json')
      const sdk = publisher()
      if (request.url === '/broadcasting/user-auth') return response.end(JSON.stringify(sdk.authenticateUser(socket, { id: user })))
      if (channel.endsWith('forbidden')) { response.statusCode = 403; return response.end('{"message":"This action is unauthorized."}') }
      const member = channel.startsWith('presence-') ? { user_id: Number(user), user_info: { id: Number(user), name: `user ${user}` } } : undefined
      response.end(JSON.stringify(sdk.authorizeChannel(socket, channel, member)))
    })
  })
  await new Promise((yes) => endpoint.listen(0, '127.0.0.1', yes))
})
after(() => endpoint.close())

function echo(user, more = {}) {
  const base = `http://127.0.0.1:${endpoint.address().port}`
  const e = new Echo({
    broadcaster: 'pusher', Pusher, key: apps.first.key, cluster: '', wsHost: '127.0.0.1', wsPort: port, forceTLS: false,
    enabledTransports: ['ws'], disableStats: true, bearerToken: user, authEndpoint: `${base}/broadcasting/auth`,
    userAuthentication: { endpoint: `${base}/broadcasting/user-auth`, headers: { Authorization: `Bearer ${user}` } }, ...more,
  })
  closing(() => e.disconnect())
  return e
}

const subscribed = (c) => within(new Promise((yes, no) => { c.subscribed(() => yes(c)); c.error(no) }), 'the subscription')
const once = (listen) => within(new Promise((yes) => listen(yes)), 'the event')

test('channel: names with a namespace, and verbatim ones', async () => {
  const c = await subscribed(echo('1').channel('orders'))
  const namespaced = once((yes) => c.listen('OrderShipped', yes))
  const verbatim = once((yes) => c.listen('.order.shipped', yes))
  await publisher().trigger('orders', 'App\\Events\\OrderShipped', { id: 1 })
  await publisher().trigger('orders', 'order.shipped', { id: 2 })
  assert.deepEqual(await namespaced, { id: 1 })
  assert.deepEqual(await verbatim, { id: 2 })
})

test('without a namespace', async () => {
  const c = await subscribed(echo('1', { namespace: false }).channel('orders'))
  const got = once((yes) => c.listen('OrderShipped', yes))
  await publisher().trigger('orders', 'OrderShipped', { id: 1 })
  assert.deepEqual(await got, { id: 1 })
})

test('private, listenToAll and stopListening', async () => {
  const c = await subscribed(echo('1').private('orders.1'))
  const all = []
  c.listenToAll((name, data) => all.push([name, data]))
  const never = []
  const stopped = (d) => never.push(d)
  c.listen('.e', stopped)
  c.stopListening('.e', stopped)
  const last = once((yes) => c.listen('.last', yes))
  await publisher().trigger('private-orders.1', 'e', 1)
  await publisher().trigger('private-orders.1', 'App\\Events\\X', 2)
  await publisher().trigger('private-orders.1', 'last', 3)
  await last
  assert.deepEqual(all, [['.e', 1], ['X', 2], ['.last', 3]])
  assert.deepEqual(never, [])
})

test('error: a refused channel says why', async () => {
  const refused = await subscribed(echo('1').private('forbidden')).catch((e) => e)
  assert.equal(refused.type, 'AuthError')
  assert.equal(refused.status, 403)
})

test('encryptedPrivate', async () => {
  const c = await subscribed(echo('1').encryptedPrivate('medical'))
  const got = once((yes) => c.listen('.result', yes))
  await publisher().trigger('private-encrypted-medical', 'result', { value: 7 })
  assert.deepEqual(await got, { value: 7 })
})

test('join: here, joining, leaving, whisper', async () => {
  const one = echo('1')
  const room = one.join('room.7')
  const here = await once((yes) => room.here(yes))
  assert.deepEqual(here, [{ id: 1, name: 'user 1' }])
  const joining = once((yes) => room.joining(yes))
  const two = echo('2')
  const theirs = two.join('room.7')
  const theirHere = await once((yes) => theirs.here(yes))
  assert.deepEqual(theirHere, [{ id: 1, name: 'user 1' }, { id: 2, name: 'user 2' }])
  assert.deepEqual(await joining, { id: 2, name: 'user 2' })
  const whisper = once((yes) => room.listenForWhisper('typing', yes))
  theirs.whisper('typing', { name: 'two' })
  assert.deepEqual(await whisper, { name: 'two' })
  const leaving = once((yes) => room.leaving(yes))
  two.leave('room.7')
  assert.deepEqual(await leaving, { id: 2, name: 'user 2' })
})

test('notification', async () => {
  const c = await subscribed(echo('1').private('App.Models.User.1'))
  const got = once((yes) => c.notification(yes))
  await publisher().trigger('private-App.Models.User.1', 'Illuminate\\Notifications\\Events\\BroadcastNotificationCreated', { id: 'n1', type: 'App\\Notifications\\InvoicePaid', amount: 5 })
  assert.deepEqual(await got, { id: 'n1', type: 'App\\Notifications\\InvoicePaid', amount: 5 })
})

test('leave ends all kinds, and a channel that was left is asked for anew', async () => {
  const e = echo('1')
  await subscribed(e.private('again'))
  e.leave('again')
  asked = []
  await subscribed(e.private('again'))
  assert.deepEqual(asked, [{ path: '/broadcasting/auth', channel: 'private-again' }])
})

test('toOthers: the socket id that Echo sends with requests', async () => {
  const e = echo('1')
  const f = echo('2')
  const [mine, theirs] = await Promise.all([subscribed(e.channel('moves')), subscribed(f.channel('moves'))])
  assert.match(e.socketId(), /^\d+\.\d+$/)
  const seen = []
  mine.listen('.moved', (d) => seen.push(d))
  const last = once((yes) => mine.listen('.last', yes))
  const got = once((yes) => theirs.listen('.moved', yes))
  await publisher().trigger('moves', 'moved', 1, { socket_id: e.socketId() })
  await publisher().trigger('moves', 'last', 2)
  assert.equal(await got, 1)
  await last
  assert.deepEqual(seen, [])
})

test("broadcaster: 'reverb'", async () => {
  const c = await subscribed(echo('1', { broadcaster: 'reverb' }).private('reverb'))
  const got = once((yes) => c.listen('.e', yes))
  await publisher().trigger('private-reverb', 'e', { id: 1 })
  assert.deepEqual(await got, { id: 1 })
})
