// Bodies on the wire: headers before bytes, back-pressure, clients that leave or take nothing, readers that fail, stopping.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { test } from 'node:test'
import { type MemoryAgent, startMemoryAgent } from '../support/memory-agent.ts'
import { rawHttp } from '../support/raw-http.ts'

const BIG = Buffer.alloc(48 * 1024 * 1024, 7)
const URL_PATH = '/org/model/resolve/main/big.bin'

function addBig({ catalog }: MemoryAgent): void {
  catalog.add({ spec: 'org/model', files: { 'big.bin': { bytes: BIG, lfs: true } } })
}

/** A client that has sent its request and reads nothing. */
async function silentClient(agent: MemoryAgent): Promise<Socket> {
  const socket = connect(agent.port, '127.0.0.1')
  socket.on('error', () => {})
  await once(socket, 'connect')
  socket.pause()
  socket.write(`GET ${URL_PATH} HTTP/1.1\r\nHost: 127.0.0.1:${agent.port}\r\n\r\n`)
  return socket
}

test('headers leave at once although no byte has arrived yet, and the bytes follow', async (t) => {
  const agent = await startMemoryAgent(t, { downloads: { stallAfterBytes: 0, from: 'origin' } })
  addBig(agent)
  const controller = new AbortController()
  const response = await fetch(`${agent.url}${URL_PATH}`, { signal: controller.signal })
  assert.equal(response.status, 200)
  assert.equal(response.headers.get('content-length'), String(BIG.byteLength))
  assert.equal(response.headers.get('x-shoal-source'), 'origin')
  assert.equal(agent.downloads.counts.givenBytes, 0)
  controller.abort()
  await agent.downloads.closed(1)
})

test('a client that leaves cancels the reader it waited for', async (t) => {
  const agent = await startMemoryAgent(t, { downloads: { stallAfterBytes: 128 * 1024 } })
  addBig(agent)
  for (let round = 1; round <= 20; round += 1) {
    const controller = new AbortController()
    const response = await fetch(`${agent.url}${URL_PATH}`, { signal: controller.signal })
    const reader = response.body?.getReader()
    await reader?.read()
    controller.abort()
    await agent.downloads.closed(round)
    assert.equal(agent.downloads.counts.opened, round)
  }
  assert.equal(agent.downloads.counts.aborted, 20)
})

test('a client that half-closes and leaves cancels the reader too', async (t) => {
  const agent = await startMemoryAgent(t, { downloads: { stallAfterBytes: 128 * 1024 } })
  addBig(agent)
  const socket = await silentClient(agent)
  await once(socket.resume(), 'data')
  socket.end()
  await agent.downloads.closed(1)
  assert.equal(agent.downloads.counts.closed, 1)
})

test('a reader that fails cuts the connection: the client never sees a clean end', async (t) => {
  const agent = await startMemoryAgent(t, { downloads: { failAfterBytes: 1024 * 1024 } })
  addBig(agent)
  const response = await fetch(`${agent.url}${URL_PATH}`)
  assert.equal(response.status, 200)
  await assert.rejects(response.arrayBuffer())
  await agent.downloads.closed(1)
  const raw = await rawHttp(agent.port, `GET ${URL_PATH} HTTP/1.1\r\nHost: 127.0.0.1:${agent.port}\r\n\r\n`)
  assert.ok(raw.length < BIG.byteLength)
})

test('a client that takes nothing is cut, and holds up no more than buffers', async (t) => {
  const agent = await startMemoryAgent(t, { limits: { stallTimeoutMs: 400 } })
  addBig(agent)
  const clients = await Promise.all(Array.from({ length: 20 }, () => silentClient(agent)))
  await agent.downloads.closed(20)
  for (const client of clients) {
    const closed = new Promise((resolve) => client.on('close', resolve))
    client.resume()
    await closed
  }
  const { opened, givenBytes } = agent.downloads.counts
  assert.equal(opened, 20)
  assert.ok(givenBytes < 20 * 16 * 1024 * 1024, `${givenBytes} bytes were read ahead of 20 silent clients`)
})

test('a client that reads slowly but steadily is not cut', async (t) => {
  const agent = await startMemoryAgent(t, { limits: { stallTimeoutMs: 400 } })
  addBig(agent)
  const response = await fetch(`${agent.url}${URL_PATH}`)
  let got = 0
  let pausedAt = 0
  const startedAt = performance.now()
  for await (const piece of response.body ?? []) {
    got += piece.byteLength
    if (got - pausedAt < 4 * 1024 * 1024) continue
    pausedAt = got
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
  assert.equal(got, BIG.byteLength)
  assert.ok(performance.now() - startedAt > 800, 'the whole took longer than the stall time')
})

test('waiting for the source is not held against the client', async (t) => {
  const agent = await startMemoryAgent(t, {
    downloads: { stallAfterBytes: 64 * 1024 },
    limits: { stallTimeoutMs: 150 },
  })
  addBig(agent)
  const controller = new AbortController()
  const response = await fetch(`${agent.url}${URL_PATH}`, { signal: controller.signal })
  const reader = response.body?.getReader()
  for (let got = 0; got < 64 * 1024; ) got += (await reader?.read())?.value?.byteLength ?? 0
  const next = reader?.read().then(
    () => 'more',
    () => 'cut',
  )
  const waited = new Promise((resolve) => setTimeout(() => resolve('still open'), 600))
  assert.equal(await Promise.race([next, waited]), 'still open')
  controller.abort()
  await agent.downloads.closed(1)
})

test('pipelined requests are answered in order, one body at a time', async (t) => {
  const agent = await startMemoryAgent(t)
  agent.catalog.add({
    spec: 'org/small',
    files: { a: { bytes: Buffer.from('AAA') }, b: { bytes: Buffer.from('BBB') } },
  })
  const line = (file: string, more = '') =>
    `GET /org/small/resolve/main/${file} HTTP/1.1\r\nHost: 127.0.0.1:${agent.port}\r\n${more}\r\n`
  const answer = await rawHttp(agent.port, line('a') + line('b') + line('a', 'Connection: close\r\n'))
  assert.deepEqual(answer.match(/AAA|BBB/g), ['AAA', 'BBB', 'AAA'])
  assert.equal(answer.match(/HTTP\/1\.1 200 OK/g)?.length, 3)
})

test('stop lets an open answer end, then takes no more', async (t) => {
  const agent = await startMemoryAgent(t, { limits: { drainTimeoutMs: 20_000 } })
  addBig(agent)
  const response = await fetch(`${agent.url}${URL_PATH}`)
  const stopped = agent.server.stop()
  assert.equal((await response.arrayBuffer()).byteLength, BIG.byteLength)
  await stopped
  await assert.rejects(fetch(`${agent.url}/healthz`))
  await agent.server.stop()
})

test('stop cuts what does not end in time, and the reader hears of it', async (t) => {
  const agent = await startMemoryAgent(t, {
    downloads: { stallAfterBytes: 0 },
    limits: { drainTimeoutMs: 100 },
  })
  addBig(agent)
  const response = await fetch(`${agent.url}${URL_PATH}`)
  const body = assert.rejects(response.arrayBuffer())
  await agent.server.stop()
  await body
  await agent.downloads.closed(1)
  assert.equal(agent.downloads.counts.aborted, 1)
})

test('a started server stops and starts again', async (t) => {
  const agent = await startMemoryAgent(t)
  await agent.server.start()
  await agent.server.stop()
  await agent.server.start()
  assert.equal((await fetch(`${agent.server.url}/healthz`)).status, 200)
})
