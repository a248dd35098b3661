// What the tests share: the server's address, clients that are closed after each test, and waiting for events.
import { after, afterEach } from 'node:test'
import Pusher from 'pusher-js'
import Publisher from 'pusher'

export const port = Number(process.env.REALTIME_PORT)

export const apps = {
  first: { appId: '1001', key: 'app-key', secret: 'app-secret' },
  rotated: { appId: '1001', key: 'rotated-key', secret: 'rotated-secret' },
  second: { appId: '1002', key: 'second-key', secret: 'second-secret' },
  third: { appId: '1003', key: 'third-key', secret: 'third-secret' },
  fourth: { appId: '1004', key: 'fourth-key', secret: 'fourth-secret' },
}

export const masterKey = Buffer.from(Array.from({ length: 32 }, (_, i) => i)).toString('base64')

export function publisher(app = apps.first, more = {}) {
  return new Publisher({ ...app, host: '127.0.0.1', port: String(port), useTLS: false, encryptionMasterKeyBase64: masterKey, ...more })
}

let open = []
afterEach(() => {
  for (const close of open) close()
  open = []
})
// The WebSocket library keeps a timer of 30 s for a connection that the server has closed; nobody waits for it.
after(() => setTimeout(() => process.exit(), 300))
export function closing(close) { open.push(close) }

// options of a pusher-js that asks nobody: the SDK signs in this process.
export function options(app, user, more = {}) {
  const sdk = publisher(app)
  return {
    cluster: '', wsHost: '127.0.0.1', wsPort: port, httpHost: '127.0.0.1', httpPort: port, forceTLS: false,
    enabledTransports: ['ws'], disableStats: true,
    channelAuthorization: {
      customHandler: ({ channelName, socketId }, callback) => {
        callback(null, sdk.authorizeChannel(socketId, channelName, channelName.startsWith('presence-') ? user : undefined))
      },
    },
    userAuthentication: { customHandler: ({ socketId }, callback) => callback(null, sdk.authenticateUser(socketId, user)) },
    ...more,
  }
}

export function client(app = apps.first, user = undefined, more = {}) {
  const p = new Pusher(app.key, options(app, user, more))
  closing(() => p.disconnect())
  return p
}



// within fails what takes too long, so that a lost event does not look like a slow test.
export function within(promise, what, ms = 8000) {
  let timer
  return Promise.race([promise, new Promise((_, no) => { timer = setTimeout(() => no(new Error(`${what} did not come within ${ms} ms`)), ms) })]).finally(() => clearTimeout(timer))
}

export function connected(p) {
  return within(new Promise((yes) => {
    if (p.connection.state === 'connected') yes()
    else p.connection.bind('connected', () => yes())
  }), 'the connection')
}

export function event(target, name) {
  return within(new Promise((yes) => {
    const heard = (data, meta) => { target.unbind(name, heard); yes(meta?.user_id ? { data, meta } : data) }
    target.bind(name, heard)
  }), name)
}

// subscribed resolves when the channel is, and rejects with what the server says when it is refused.
export function subscribed(channel) {
  return within(new Promise((yes, no) => {
    if (channel.subscribed) return yes(channel)
    channel.bind('pusher:subscription_succeeded', () => yes(channel))
    channel.bind('pusher:subscription_error', (e) => no(Object.assign(new Error(e.error), e)))
  }), 'the subscription')
}

// heard collects the events of a channel, for tests that say that something does not arrive.
export function heard(channel, name) {
  const all = []
  channel.bind(name, (data) => all.push(data))
  return all
}

// settled waits until everything that was on its way to the client has arrived: an event of our own that comes last.
export async function settled(p, sdk, channel) {
  const mark = `settled-${Math.random()}`
  const seen = event(channel, mark)
  await sdk.trigger(channel.name, mark, {})
  await seen
}
