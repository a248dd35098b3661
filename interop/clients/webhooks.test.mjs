import assert from 'node:assert/strict'
import { test } from 'node:test'
import { apps, client, connected, publisher, subscribed, within } from './harness.mjs'

const sdk = publisher(apps.fourth)

// told resolves to the next n events that the server tells, all of them checked by the SDK.
let waiting = []
async function told(n) {
  while (waiting.length < n) {
    const response = await within(fetch(process.env.REALTIME_WEBHOOKS), 'a webhook')
    const request = await response.json()
    assert.equal(request.url, '/hooks?of=fourth')
    assert.equal(request.headers['x-tenant'], '7')
    const webhook = sdk.webhook({ headers: request.headers, rawBody: request.body })
    assert.ok(webhook.isValid(), JSON.stringify(request))
    assert.ok(webhook.getTime() instanceof Date && Math.abs(Date.now() - webhook.getTime()) < 60_000, request.body)
    assert.equal(sdk.webhook({ headers: request.headers, rawBody: request.body.replace('channel', 'Channel') }).isValid(), false)
    assert.equal(publisher(apps.first).webhook({ headers: request.headers, rawBody: request.body }).isValid(), false)
    waiting.push(...webhook.getEvents())
  }
  return waiting.splice(0, n)
}

test("the server SDK's webhook helper accepts what is sent", async () => {
  const p = client(apps.fourth, { user_id: '10', user_info: { name: 'Ann' } })
  await connected(p)
  const room = await subscribed(p.subscribe('presence-room'))
  assert.deepEqual(await told(2), [ // the first of them again, since it was refused
    { name: 'channel_occupied', channel: 'presence-room' },
    { name: 'member_added', channel: 'presence-room', user_id: '10' },
  ])
  for (const [data, text] of [[{ name: 'Ann "<ä>"' }, '{"name":"Ann \\"<ä>\\""}'], ['just text', 'just text']]) {
    room.trigger('client-typing', data)
    assert.deepEqual(await told(1), [
      { name: 'client_event', channel: 'presence-room', event: 'client-typing', data: text, socket_id: p.connection.socket_id, user_id: '10' },
    ])
  }
  await subscribed(p.subscribe('cache-news'))
  assert.deepEqual(await told(3), [
    { name: 'channel_occupied', channel: 'cache-news' },
    { name: 'subscription_count', channel: 'cache-news', subscription_count: 1 },
    { name: 'cache_miss', channel: 'cache-news' },
  ])
  // A reload, and then leaving for good.
  p.unsubscribe('presence-room')
  await subscribed(p.subscribe('presence-room'))
  p.unsubscribe('presence-room')
  assert.deepEqual(await told(2), [
    { name: 'member_removed', channel: 'presence-room', user_id: '10' },
    { name: 'channel_vacated', channel: 'presence-room' },
  ])
})
