// docs/socketio-channels.md: its program is run as it stands there.
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { test } from 'node:test'
import { closing, publisher, url, within } from './harness.mjs'

test('the page of channels for Socket.IO clients', async () => {
  const page = readFileSync('../../docs/socketio-channels.md', 'utf8')
  const [, program] = page.match(/```js\n\/\/ listen\.mjs\n([\s\S]*?)```/)
  const file = `docs-${process.pid}.mjs` // here, so that it finds the library
  writeFileSync(file, program)
  closing(() => rmSync(file))
  const child = spawn(process.execPath, [file], { env: { ...process.env, REALTIME_URL: url() }, stdio: ['ignore', 'pipe', 'inherit'] })
  closing(() => child.kill())
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
  const line = async (what) => (await within(lines.next(), what)).value
  assert.equal(await line('the answer'), 'listening to orders')
  await publisher().trigger('orders', 'OrderShipped', { orderId: '12345' })
  assert.equal(await line('the event'), 'orders 12345')
})
