// The load of the benchmark does not spare a server that stalls, and takes no answer but 200.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { test } from 'node:test'
import { sleep, systemClock } from '@shoal/protocol/time.ts'
import { openLoop } from '../bench/suite/open-loop.ts'

test('an open loop counts the requests that were due while the server stalled', async (t) => {
  const stallMs = 300
  let served = 0
  const server = createServer(async (_, response) => {
    if (served++ === 0) {
      // The whole process stands still, as a server with a blocked event loop does.
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, stallMs)
    }
    response.end('small')
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.after(() => server.close().closeAllConnections())
  const until = new AbortController()
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`
  const answered = openLoop(t, { url, method: 'GET', perSecond: 200, until: until.signal })
  await sleep(systemClock, 2 * stallMs)
  until.abort()
  const { count, p99Ms } = await answered
  assert.ok(count >= 100, `${count} requests`)
  assert.ok(p99Ms > stallMs / 2, `${p99Ms} ms`)
})

test('an answer that is not 200 ends the load with what it said', async (t) => {
  const server = createServer((_, response) => response.writeHead(503).end()).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.after(() => server.close().closeAllConnections())
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`
  const until = AbortSignal.timeout(10_000)
  await assert.rejects(openLoop(t, { url, method: 'HEAD', perSecond: 50, until }), /503/)
})
