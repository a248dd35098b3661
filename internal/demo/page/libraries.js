'use strict'

// The libraries that applications use today, unchanged, on the same channels: only host, port and key are ours.

const { key } = document.documentElement.dataset
const where = {
  key, cluster: '', wsHost: location.hostname, wsPort: location.port || 80, wssPort: location.port || 443,
  forceTLS: location.protocol === 'https:', enabledTransports: ['ws', 'wss'],
}

function listening(l, channel) {
  l.channel = channel
  state(l, 'waiting')
}

const missing = 'could not be loaded: this page has no way to cdn.jsdelivr.net'

{
  const l = { kind: 'pusher' }
  listening(l, 'private-orders.' + document.getElementById('order-id').value)
  if (typeof Pusher === 'undefined') state(l, 'refused', missing)
  else {
    const pusher = new Pusher(key, { ...where, channelAuthorization: { endpoint: '/broadcasting/auth', transport: 'ajax' } })
    const channel = pusher.subscribe(l.channel)
    channel.bind('pusher:subscription_succeeded', () => state(l, 'listening'))
    channel.bind('pusher:subscription_error', e => state(l, 'refused', e.error))
    channel.bind('OrderShipped', data => show(l, 'OrderShipped', data))
  }
}

{
  const l = { kind: 'echo' }
  listening(l, 'presence-chat-room')
  if (typeof Pusher === 'undefined' || typeof Echo === 'undefined') state(l, 'refused', missing)
  else {
    const echo = new Echo.default({ ...where, broadcaster: 'pusher', authEndpoint: '/broadcasting/auth' })
    echo.join('chat-room')
      .here(users => {
        state(l, 'listening')
        show(l, `here: ${users.map(u => u.name).join(', ')}`)
      })
      .joining(u => show(l, `joining: ${u.name}`))
      .leaving(u => show(l, `leaving: ${u.name}`))
      .error(e => state(l, 'refused', e.error))
      .listen('.OrderShipped', data => show(l, 'OrderShipped', data))
  }
}

{
  const l = { kind: 'socketio' }
  listening(l, 'private-orders.' + document.getElementById('order-id').value)
  if (typeof io === 'undefined') state(l, 'refused', missing)
  else {
    const socket = io()
    socket.on('connect', () => socket.emit('subscribe', l.channel, answer => {
      if (answer.ok) state(l, 'listening')
      else state(l, 'refused', answer.message)
    }))
    socket.on('connect_error', e => state(l, 'refused', e.message))
    socket.on('OrderShipped', ({ data }) => show(l, 'OrderShipped', data))
  }
}
