// Files on disk to clients: the right bytes through buffers that are used again, fast ones, slow ones, silent ones, readers that fail.
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { connect } from 'node:net'
import { test } from 'node:test'
import { seededRandom } from '@shoal/protocol/time.ts'
import { eventually } from '../support/agent-process.ts'
import { startMemoryAgent } from '../support/memory-agent.ts'
import { rawHttp } from '../support/raw-http.ts'
import { seeds } from '../support/seed.ts'

const MIB = 1024 * 1024
const URL_PATH = '/org/model/resolve/main/big.bin'
const BIG = Buffer.alloc(48 * MIB + 12_345)
for (let at = 0, next = seededRandom(7); at < BIG.byteLength; at += 1024)
  BIG.writeDoubleLE(next.next(), Math.min(at, BIG.byteLength - 8))

const digest = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex')

async function agentWithBig(
  context: Parameters<typeof startMemoryAgent>[0],
  options: Parameters<typeof startMemoryAgent>[1] = {},
) {
  const agent = await startMemoryAgent(context, {
    ...options,
    downloads: { onDisk: true, ...options.downloads },
  })
  agent.catalog.add({ spec: 'org/model', files: { 'big.bin': { bytes: BIG, lfs: true } } })
  return agent
}

test('eight clients at once each get exactly the file', async (t) => {
  const agent = await agentWithBig(t)
  const got = await Promise.all(
    Array.from({ length: 8 }, async () => digest(await (await fetch(`${agent.url}${URL_PATH}`)).bytes())),
  )
  assert.deepEqual(new Set(got), new Set([digest(BIG)]))
  assert.equal(agent.downloads.counts.closed, 8)
})

test('with hardly any memory for reading every client gets exactly the file all the same', async (t) => {
  const agent = await agentWithBig(t, { limits: { readMemoryBytes: 1 } })
  const got = await Promise.all(
    Array.from({ length: 4 }, async () => digest(await (await fetch(`${agent.url}${URL_PATH}`)).bytes())),
  )
  assert.deepEqual(new Set(got), new Set([digest(BIG)]))
})

test('random ranges over kept connections hold exactly their bytes', async (t) => {
  const agent = await agentWithBig(t)
  for (const seed of seeds(t, 4)) {
    const random = seededRandom(seed)
    await Promise.all(
      Array.from({ length: 4 }, async () => {
        for (let round = 0; round < 20; round++) {
          const start = Math.floor(random.next() * BIG.byteLength)
          const end = Math.min(BIG.byteLength, start + 1 + Math.floor(random.next() ** 4 * 12 * MIB))
          const response = await fetch(`${agent.url}${URL_PATH}`, {
            headers: { Range: `bytes=${start}-${end - 1}` },
          })
          assert.equal(response.status, 206)
          assert.ok(
            BIG.subarray(start, end).equals(await response.bytes()),
            `bytes ${start} to ${end} (SEED=${seed})`,
          )
        }
      }),
    )
  }
})

test('a file that cannot be read any further cuts the connection: the client never sees a clean end', async (t) => {
  const agent = await agentWithBig(t, { downloads: { failAfterBytes: 20 * MIB } })
  const response = await fetch(`${agent.url}${URL_PATH}`)
  assert.equal(response.status, 200)
  await assert.rejects(response.arrayBuffer())
  await agent.downloads.closed(1)
  const raw = await rawHttp(agent.port, `GET ${URL_PATH} HTTP/1.1\r\nHost: 127.0.0.1:${agent.port}\r\n\r\n`)
  assert.ok(raw.length < BIG.byteLength)
})

test('200 clients that never read are all cut, having been given little more than the kernel holds', async (t) => {
  const agent = await agentWithBig(t, { limits: { stallTimeoutMs: 1_000 } })
  const clients = Array.from({ length: 200 }, () => {
    const socket = connect(agent.port, '127.0.0.1')
    socket.on('error', () => {})
    socket.pause()
    socket.write(`GET ${URL_PATH} HTTP/1.1\r\nHost: 127.0.0.1:${agent.port}\r\n\r\n`)
    return socket
  })
  await agent.downloads.closed(200)
  const { givenBytes } = agent.downloads.counts
  assert.ok(givenBytes < 200 * 12 * MIB, `${givenBytes} bytes were read for 200 silent clients`)
  assert.ok(agent.server.lentBytes === 0, `${agent.server.lentBytes} bytes of buffers are still lent`)
  for (const client of clients) client.destroy()
})

test('a client that was fast and then takes nothing is cut too', async (t) => {
  const agent = await agentWithBig(t, { limits: { stallTimeoutMs: 300 } })
  const socket = connect(agent.port, '127.0.0.1')
  socket.on('error', () => {})
  t.after(() => socket.destroy())
  let got = 0
  socket.on('data', (piece) => {
    got += piece.byteLength
    if (got > 16 * MIB) socket.pause()
  })
  socket.write(`GET ${URL_PATH} HTTP/1.1\r\nHost: 127.0.0.1:${agent.port}\r\n\r\n`)
  await agent.downloads.closed(1)
  assert.ok(got < BIG.byteLength)
})

test('a client that leaves in the middle leaves no buffer behind', async (t) => {
  const agent = await agentWithBig(t)
  for (let round = 1; round <= 20; round++) {
    const socket = connect(agent.port, '127.0.0.1')
    socket.on('error', () => {})
    socket.write(`GET ${URL_PATH} HTTP/1.1\r\nHost: 127.0.0.1:${agent.port}\r\n\r\n`)
    for (let got = 0; got < round * MIB; ) got += ((await once(socket, 'data')) as [Buffer])[0].byteLength
    socket.destroy()
    await agent.downloads.closed(round)
  }
  await eventually('all buffers are back', async () => agent.server.lentBytes === 0)
})
