import { io } from 'socket.io-client'
for (const transports of [['websocket'], ['polling'], ['polling','websocket']]) {
  const s = io('http://127.0.0.1:6101', { transports, forceNew: true })
  s.on('connect_error', e => console.log('err', e.message, e.description?.message, e.context?.responseText))
  await new Promise(r => s.on('connect', r))
  console.log(transports.join(), s.id, s.io.engine.transport.name)
  s.onAny((...a) => console.log('any', ...a))
  console.log(await s.timeout(2000).emitWithAck('subscribe', 'news'))
  await new Promise(r => setTimeout(r, 500))
  console.log('now', s.io.engine.transport.name)
  s.emit('subscribe', 'other')
  console.log(await s.timeout(2000).emitWithAck('nobody', 1))
  await new Promise(r => setTimeout(r, 300))
  s.disconnect()
}
process.exit()
