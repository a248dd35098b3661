// What the tests share: the servers' addresses, clients that are closed after each test, a line that can be cut, and waiting.
import net from 'node:net'
import { after, afterEach } from 'node:test'
import Publisher from 'pusher'
import { io } from 'socket.io-client'
import { createRequire } from 'node:module'

export const io2 = createRequire(import.meta.url)('socket.io-client-2')

export const ports = JSON.parse(process.env.REALTIME_PORTS)
export const reference = process.env.REALTIME_TARGET === 'reference' // Socket.IO's own server: see reference.mjs
export const url = (server = 'main') => `http://127.0.0.1:${ports[server]}`

// transports are the ways for a client to come in.
export const transports = { websocket: ['websocket'], polling: ['polling'], upgrade: undefined }

let open = []
afterEach(async () => {
  const closing = open.reverse()
  open = []
  for (const close of closing) await close()
})
// Libraries keep timers for connections that the server has closed; nobody waits for them.
after(() => setTimeout(() => process.exit(), 300))
export function closing(close) { open.push(close) }

// client makes a socket that comes back fast. Its options are socket.io-client's; path is a namespace.
export function client(options = {}, path = '', at = url()) {
  const s = io(at + path, { forceNew: true, reconnectionDelay: 20, reconnectionDelayMax: 100, randomizationFactor: 0, ...options })
  closing(() => s.io._close())
  return s
}

// within fails what takes too long, so that a lost event does not look like a slow test.
export function within(promise, what, ms = 15000) {
  let timer
  return Promise.race([promise, new Promise((_, no) => { timer = setTimeout(() => no(new Error(`${what} did not come within ${ms} ms`)), ms) })]).finally(() => clearTimeout(timer))
}

// event returns the arguments of the next event.
export function event(target, name) {
  return within(new Promise((yes) => target.once(name, (...args) => yes(args))), name)
}

export async function connected(s) {
  if (!s.connected) await within(new Promise((yes, no) => { s.once('connect', yes); s.once('connect_error', no) }), 'the connection')
  return s
}

// upgraded waits until a client is on a WebSocket.
export async function upgraded(s) {
  await connected(s)
  if (s.io.engine.transport.name !== 'websocket') await event(s.io.engine, 'upgrade')
  return s
}

// heard collects what comes.
export function heard(s, name) {
  const all = []
  s.on(name, (arg) => all.push(arg))
  return all
}

// settled waits until everything that was on its way to the client has arrived.
export async function settled(s) {
  const mark = `settled ${Math.random()}`
  const seen = new Promise((yes) => s.on('echoed', (text) => { if (text === mark) yes() }))
  s.emit('echo', mark)
  await within(seen, mark)
}

// until waits for what only asking again can tell.
export async function until(what, ok) {
  for (const end = Date.now() + 15000; ;) {
    const got = await ok()
    if (got) return got
    if (Date.now() > end) throw new Error(`it never came about that ${what}`)
    await new Promise((yes) => setTimeout(yes, 5))
  }
}

// line is a way to a server that the test can cut, or stop, without a word to either side.
export async function line(server = 'main') {
  const pairs = new Set()
  let up = true
  let held = false
  const proxy = net.createServer((near) => {
    near.on('error', () => {})
    if (!up) return near.destroy()
    const far = net.connect(ports[server], '127.0.0.1')
    const pair = { near, far, first: '', answered: false }
    pairs.add(pair)
    for (const [one, other] of [[near, far], [far, near]]) {
      one.setNoDelay(true)
      one.on('data', (d) => {
        if (one === near) {
          pair.first = d.toString('latin1', 0, 5)
          pair.answered = false
        } else {
          pair.answered = true
          if (d.toString('latin1', 0, 12) === 'HTTP/1.1 101') pair.websocket = true
        }
        if (!other.destroyed) other.write(d)
      })
      one.on('end', () => other.end())
      one.on('error', () => {})
      one.on('close', () => { if (!pair.dead) { pairs.delete(pair); other.destroy() } })
      if (held) one.pause()
    }
  })
  await new Promise((yes) => proxy.listen(0, '127.0.0.1', yes))
  const each = (what) => { for (const pair of [...pairs]) what(pair) }
  const cut = () => each(({ near, far }) => { near.destroy(); far.destroy() })
  closing(() => { up = false; cut(); proxy.close() })
  return {
    url: `http://127.0.0.1:${proxy.address().port}`,
    cut, // drops every connection; new ones are welcome
    down() { up = false; cut() },
    up() { up = true },
    // drops every connection on the client's side only: the server waits for what never comes
    dead() { up = false; each((pair) => { pair.dead = true; pair.near.destroy() }) },
    hold() { held = true; each(({ near, far }) => { near.pause(); far.pause() }) },
    // watched says that the server has something by which it notices the end: a WebSocket, or a request that waits
    watched() { return [...pairs].some((p) => p.websocket || (p.first === 'GET /' && !p.answered)) },
  }
}

// Channels.

export const app = { appId: '1001', key: 'app-key', secret: 'app-secret' }

// publisher is Pusher's SDK for servers, which publishes over HTTP.
export function publisher() {
  return new Publisher({ ...app, host: '127.0.0.1', port: String(ports.main), useTLS: false })
}

// user is a client that the program knows by a name.
export const user = (name, options = {}) => client({ ...options, query: { user: name } })
