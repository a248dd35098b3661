'use strict'

// A bare WebSocket is all a listener needs: {"event":"subscribe","channel":…} out, {"event":…,"channel":…,"data":…} in.

const $ = id => document.getElementById(id)
const { user, otherOrder } = document.documentElement.dataset
const refusedChannel = `private-orders.${otherOrder}`
const kept = 20 // events shown per listener

const listeners = [
  { kind: 'public', channel: 'notifications' },
  { kind: 'private', channel: `private-orders.${$('order-id').value.trim()}` },
  { kind: 'presence', channel: 'presence-chat-room' },
]

let socket
let attempts = 0
let retry // timer of the next attempt
let quiet // timer: the server has said nothing for too long
let members = new Map()
let asking = false // for refusedChannel, by the button

function say(frame) {
  if (socket?.readyState === WebSocket.OPEN) socket.send(JSON.stringify(frame))
}

function connect() {
  clearTimeout(retry)
  const ws = socket = new WebSocket(`${location.protocol === 'https:' ? 'wss' : 'ws'}://${location.host}/ws?user=${encodeURIComponent(user)}`)
  let patience = 0
  const alive = () => {
    clearTimeout(quiet)
    if (patience) quiet = setTimeout(() => { say({ event: 'ping', id: 'alive' }); quiet = setTimeout(() => ws.close(), 5000) }, patience)
  }
  ws.onmessage = ({ data }) => {
    const frame = JSON.parse(data)
    if (frame.event === 'connection_established') {
      attempts = 0
      patience = frame.data.activity_timeout * 1000
      connection('connected', 'Connected', frame.data.socket_id)
      for (const l of listeners) listen(l)
    } else {
      receive(frame)
    }
    alive()
  }
  ws.onclose = () => {
    clearTimeout(quiet)
    // Doubling up to 5 s, and spread, so that not all tabs come back in the same moment.
    const wait = Math.min(250 * 2 ** attempts++, 5000) * (0.5 + Math.random() / 2)
    connection('connecting', 'Connection lost. Reconnecting…', '')
    for (const l of listeners) state(l, 'waiting')
    members = new Map()
    showMembers()
    retry = setTimeout(connect, wait)
  }
}

addEventListener('online', () => { if (socket.readyState === WebSocket.CLOSED) connect() })
// A page that comes back out of the browser's cache has lost its connection without being told.
addEventListener('pageshow', e => { if (e.persisted && socket.readyState === WebSocket.CLOSED) connect() })

function connection(is, text, id) {
  $('connection').dataset.state = is
  $('connection-text').textContent = text
  $('socket-id').textContent = id
}

function listen(l) {
  state(l, 'waiting')
  say({ event: 'subscribe', channel: l.channel })
}

function receive(frame) {
  if (asking && frame.channel === refusedChannel && frame.event === 'subscription_error') {
    asking = false
    result($('refused'), 'no', `Refused: ${frame.data.error}`)
  }
  const l = listeners.find(l => l.channel === frame.channel)
  if (!l) return
  switch (frame.event) {
    case 'subscription_succeeded':
      state(l, 'listening')
      if (l.kind === 'presence') {
        members = new Map(Object.entries(frame.data.presence.hash))
        showMembers()
      }
      break
    case 'subscription_error':
      state(l, 'refused', frame.data.error)
      break
    case 'unsubscribed':
      state(l, 'refused', frame.data?.error ?? 'unsubscribed')
      break
    case 'member_added':
      members.set(frame.data.id, frame.data)
      showMembers()
      show(l, `${nameOf(frame.data)} joined`)
      break
    case 'member_removed':
      members.delete(frame.data.id)
      showMembers()
      show(l, `${nameOf(frame.data)} left`)
      break
    default:
      show(l, frame.event, frame.data)
  }
}

function state(l, is, why) {
  $(`${l.kind}-channel`).textContent = l.channel
  const s = $(`${l.kind}-state`)
  s.dataset.state = is
  s.textContent = why ? `refused: ${why}` : is
  l.settled?.()
}

function show(l, title, data) {
  const item = document.createElement('li')
  const head = document.createElement('p')
  const name = document.createElement('strong')
  const time = document.createElement('time')
  name.textContent = title
  time.textContent = new Date().toLocaleTimeString()
  head.append(name, time)
  item.append(head)
  if (data !== undefined) {
    item.className = 'event'
    const body = document.createElement('pre')
    body.textContent = JSON.stringify(data, null, 2)
    item.append(body)
  }
  const list = $(`${l.kind}-events`)
  list.prepend(item)
  while (list.children.length > kept) list.lastChild.remove()
}

const nameOf = member => member.info?.name ?? member.id

function showMembers() {
  $('member-count').textContent = members.size
  $('members').replaceChildren(...[...members.values()].map(m => {
    const item = document.createElement('li')
    item.dataset.id = m.id
    item.textContent = nameOf(m)
    if (m.id === user) item.className = 'self'
    return item
  }))
}

function result(at, is, text) {
  at.dataset.state = is
  at.textContent = text
}

// follow makes the private listener that of the order in the form, and waits for the server's word on it, so that an
// order cannot be shipped before its listener is there.
async function follow() {
  const l = listeners.find(l => l.kind === 'private')
  const channel = `private-orders.${$('order-id').value.trim()}`
  if (channel !== l.channel) {
    say({ event: 'unsubscribe', channel: l.channel })
    l.channel = channel
    listen(l)
  }
  if ($('private-state').dataset.state === 'waiting' && socket.readyState === WebSocket.OPEN) {
    await new Promise(done => { l.settled = done; setTimeout(done, 2000) }) // an answer that is late is not waited for
  }
}

function order() {
  const value = id => $(id).value.trim()
  return {
    orderId: value('order-id'),
    userId: value('user-id'),
    products: [...document.querySelectorAll('#products .product')].map(p => ({
      id: p.querySelector('.product-id').value.trim(),
      name: p.querySelector('.product-name').value.trim(),
      quantity: Number(p.querySelector('.product-quantity').value),
    })),
    totalAmount: Number(value('total-amount')),
    shippingAddress: { street: value('street'), city: value('city'), country: value('country'), postalCode: value('postal-code') },
  }
}

$('order-id').addEventListener('change', () => { if ($('order-id').value.trim()) follow() })

$('order-form').addEventListener('submit', async e => {
  e.preventDefault()
  const at = $('form-result')
  $('broadcast').disabled = true
  try {
    await follow()
    const answer = await fetch('broadcast', { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(order()) })
    const { ok, error } = await answer.json()
    result(at, ok ? 'yes' : 'no', ok ? `Broadcast: order ${order().orderId} is on its way.` : error)
  } catch {
    result(at, 'no', 'The server cannot be reached. Is it still running?')
  }
  $('broadcast').disabled = false
  if (document.activeElement === document.body) $('broadcast').focus() // disabling took it away
})

function oneLeft() {
  const buttons = document.querySelectorAll('#products .remove')
  for (const b of buttons) b.disabled = buttons.length === 1
}

$('add-product').addEventListener('click', () => {
  const row = $('product').content.cloneNode(true)
  row.querySelector('.product-id').value = `prod_${document.querySelectorAll('#products .product').length + 1}`
  $('products').append(row)
  $('products').lastElementChild.querySelector('.product-name').focus()
  oneLeft()
})

$('products').addEventListener('click', e => {
  if (!e.target.matches('.remove')) return
  e.target.closest('.product').remove()
  oneLeft()
  $('add-product').focus()
})

$('refuse').addEventListener('click', () => {
  if (socket.readyState !== WebSocket.OPEN) {
    result($('refused'), 'no', 'Not connected.')
    return
  }
  result($('refused'), '', 'Asking…')
  asking = true
  say({ event: 'subscribe', channel: refusedChannel })
})

connect()
