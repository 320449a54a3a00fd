// Members of the mesh that break the rules of the wire when they ask: each loses its stream or its connection, and nobody else
// notices.
import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { frameOf, readFrame } from '@shoal/agent/net/framing.ts'
import type { ChunkReply, MeshHandlers } from '@shoal/agent/net/mesh.ts'
import type { MeshNode } from '@shoal/agent/net/mesh-node.ts'
import { fixedSlices, MAX_CHUNK_BYTES } from '@shoal/protocol/chunks.ts'
import { parseBlobId } from '@shoal/protocol/ids.ts'
import { CHUNK_PROTOCOL, encodeMessage, LIMITS } from '@shoal/protocol/messages.ts'
import { addressOf, testHosts, until } from '../support/mesh-host.ts'
import { RawMember, type RawStream } from '../support/raw-member.ts'

const blob = parseBlobId(`sha256:${'cd'.repeat(32)}`)
const CHUNK = 100_000
const geometry = fixedSlices(10 * CHUNK, CHUNK)
const never = new AbortController().signal
const body = new Uint8Array(CHUNK).fill(7)
const request = frameOf(
  encodeMessage({ blob, geometry: geometry.text, index: 0, waitMs: 0 }, LIMITS.chunkRequest),
)
const u32 = (value: number) => {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32BE(value)
  return bytes
}
async function holderOfLiar(t: TestContext, chunk: MeshHandlers['chunk'], tuning: object = {}) {
  const liar = await RawMember.start()
  const hosts = testHosts()
  const holder = await hosts.start({ tuning }, { chunk })
  const honest = await hosts.start()
  t.after(async () => {
    await Promise.all([liar[Symbol.asyncDispose](), hosts[Symbol.asyncDispose]()])
    assert.deepEqual(hosts.failures, [])
  })
  await Promise.all([liar.dial(addressOf(holder)), honest.dial(addressOf(holder), never)])
  return { liar, holder, honest, open: () => liar.open(holder.self, CHUNK_PROTOCOL) }
}

const serveBody = async (): Promise<ChunkReply> => ({ status: 'ok', bytes: body })

async function honestFetch(honest: MeshNode, holder: MeshNode): Promise<void> {
  const into = new Uint8Array(CHUNK)
  await honest.fetchChunk(
    holder.self,
    { blob, geometry, index: 1, into },
    { waitMs: 0 },
    { signal: never, onProgress: () => {} },
  )
  assert.equal(Buffer.compare(into, body), 0)
}

/** True when the other side ends the stream by reset within two seconds. */
async function isCut({ stream }: Pick<RawStream, 'stream'>): Promise<void> {
  await until('the stream is reset', () => stream.status === 'reset' || stream.status === 'aborted', 2_000)
}

test('requests that make no sense end their stream, are counted, and others are served on', async (t) => {
  const { holder, honest, open } = await holderOfLiar(t, serveBody)
  const senseless: Record<string, Uint8Array> = {
    'a length of 0': u32(0),
    'a length of 4 GiB': u32(2 ** 32 - 1),
    'one byte over the limit': u32(LIMITS.chunkRequest + 1),
    garbage: frameOf(Buffer.alloc(100, 0xff)),
    'a path for a blob': frameOf(
      encodeMessage({ blob: '../../etc/passwd', geometry: geometry.text, index: 0, waitMs: 0 }, 1024),
    ),
    'an index of 2^53': frameOf(
      encodeMessage({ blob, geometry: geometry.text, index: 2 ** 53, waitMs: 0 }, 1024),
    ),
    'a wait of an hour': frameOf(
      encodeMessage({ blob, geometry: geometry.text, index: 0, waitMs: 3_600_000 }, 1024),
    ),
    'the same CBOR twice': frameOf(Buffer.concat([request.subarray(4), request.subarray(4)])),
    HTTP: Buffer.from('GET / HTTP/1.1\r\n\r\n'),
  }
  let counted = 0
  for (const [name, bytes] of Object.entries(senseless)) {
    const raw = await open()
    await raw.bytes.write(bytes, never)
    await isCut(raw)
    assert.equal(holder.counters().badMessages, ++counted, name)
    await honestFetch(honest, holder)
  }
})

test('more than a few requests sent at once on one stream end it', async (t) => {
  const { open } = await holderOfLiar(t, serveBody)
  const raw = await open()
  await raw.bytes.write(Buffer.concat(Array.from({ length: 200 }, () => request)), never).catch(() => {})
  await isCut(raw)
})

test('a request cut at every byte harms nobody', async (t) => {
  const { holder, honest, open } = await holderOfLiar(t, serveBody)
  for (let length = 0; length < request.byteLength; length++) {
    const raw = await open()
    if (length > 0) await raw.bytes.write(request.subarray(0, length), never)
    await raw.stream.close()
    await until('the other side has closed too', () => raw.stream.remoteWriteStatus === 'closed', 2_000)
  }
  assert.equal(holder.counters().badMessages, 0)
  await honestFetch(honest, holder)
})

test('an asker that never reads its answer is cut off, and the chunk is let go', async (t) => {
  let released = 0
  const large = new Uint8Array(MAX_CHUNK_BYTES)
  const { honest, holder, open } = await holderOfLiar(
    t,
    async (_peer, { index }) =>
      index === 1 ? serveBody() : { status: 'ok', bytes: large, release: () => released++ },
    { noProgressMs: 500 },
  )
  const { stream } = await open()
  stream.pause()
  stream.send(request)
  const start = performance.now()
  await until('the chunk was let go', () => released === 1, 5_000)
  assert.ok(performance.now() - start >= 450, 'it was given its time')
  await honestFetch(honest, holder)
})

test('streams beyond a peer’s share get busy, one answer each, over all its connections', async (t) => {
  const release = Promise.withResolvers<void>()
  const { open } = await holderOfLiar(t, async () => {
    await release.promise
    return { status: 'lacks' }
  })
  const raws = await Promise.all(Array.from({ length: 12 }, open))
  const statuses = raws.map(async ({ bytes }) => {
    await bytes.write(request, never)
    const frame = await readFrame(bytes, LIMITS.chunkHeader, never)
    return Buffer.from(frame).includes('busy') ? 'busy' : 'lacks'
  })
  await Promise.any(statuses)
  release.resolve()
  const counts = Object.groupBy(await Promise.all(statuses), (status) => status)
  assert.equal(counts.busy?.length, 4)
  assert.equal(counts.lacks?.length, 8)
})

test('ten thousand streams opened in a second leave memory flat and honest hosts served', async (t) => {
  const { liar, holder, honest } = await holderOfLiar(t, serveBody)
  const [connection] = liar.node.getConnections()
  // Past our own libp2p, which would not open so many: the frames themselves.
  const muxer: { sendFrame(header: object): void } = Reflect.get(connection ?? {}, 'muxer')
  const before = process.memoryUsage().rss
  for (let opened = 0; opened < 10_000; opened++) {
    muxer.sendFrame({ type: 1, flag: 1, streamID: 100_001 + 2 * opened, length: 0 })
    if (opened % 500 === 0) {
      await new Promise((resolve) => setTimeout(resolve, 1))
      await honestFetch(honest, holder)
    }
  }
  await honestFetch(honest, holder)
  const grown = (process.memoryUsage().rss - before) / 1e6
  assert.ok(grown < 150, `${grown.toFixed(0)} MB more`)
})

test('a yamux frame of 4 GiB ends the connection of whoever sent it at once', async (t) => {
  const { liar, holder, honest } = await holderOfLiar(t, serveBody)
  const [connection] = liar.node.getConnections()
  const muxer: { send(bytes: Uint8Array): void } = Reflect.get(connection ?? {}, 'muxer')
  muxer.send(Buffer.from('000000000000000100000000'.replace(/0{8}$/, 'ffffffff'), 'hex'))
  await until('the liar is gone', () => !holder.isConnected(liar.peer), 2_000)
  await honestFetch(honest, holder)
})
