// Lanes: the same exchange in worker threads. Bytes end in the buffer that was given, cancelled fetches leave it alone, rotten chunks
// are not sent, limits hold, and the death of a lane costs its requests a second try and nothing else.
import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { generateCertificate } from '@libp2p/tls/utils'
import { loadHashing } from '@shoal/agent/hashing.ts'
import { isLostLane } from '@shoal/agent/net/data-carrier.ts'
import { dataCertificate } from '@shoal/agent/net/data-socket.ts'
import { newIdentity } from '@shoal/agent/net/identity.ts'
import { LaneCarrier, type LaneCarrierDeps } from '@shoal/agent/net/lane-carrier.ts'
import type { ChunkReply } from '@shoal/agent/net/mesh.ts'
import { Traffic } from '@shoal/agent/net/traffic.ts'
import { chunkLength, fixedSlices } from '@shoal/protocol/chunks.ts'
import { parseBlobId } from '@shoal/protocol/ids.ts'
import { systemClock } from '@shoal/protocol/time.ts'
import { atEnd } from '../support/cleanups.ts'
import { addressOf, testHosts, until } from '../support/mesh-host.ts'

const MIB = 1024 * 1024
const blob = parseBlobId(`sha256:${'cd'.repeat(32)}`)
const geometry = fixedSlices(40 * MIB + 777, 2 * MIB)
const never = new AbortController().signal
const { blake3 } = await loadHashing()

function bodyOf(index: number): Uint8Array {
  const bytes = new Uint8Array(new SharedArrayBuffer(chunkLength(geometry, index)))
  for (let at = 0; at < bytes.byteLength; at++) bytes[at] = index * 7 + at * 31 + (at >>> 11)
  return bytes
}

function replyOf(index: number): ChunkReply {
  const bytes = bodyOf(index)
  const voucher = { digest: blake3(bytes), author: new Uint8Array(32), signature: new Uint8Array(64) }
  return { status: 'ok', bytes, voucher }
}

const bufferFor = (index: number) => new Uint8Array(new SharedArrayBuffer(chunkLength(geometry, index)))

/** Two carriers that know each other; the first serves. */
async function pair(
  t: TestContext,
  chunk: LaneCarrierDeps['chunk'] = async (_peer, { index }) => replyOf(index),
  asker: Partial<LaneCarrierDeps> = {},
) {
  const pairs = await Promise.all([0, 1].map(() => generateCertificate(newIdentity().nodeKey())))
  const [holderPair, askerPair] = pairs
  assert.ok(holderPair !== undefined && askerPair !== undefined)
  const log: string[] = []
  const common = {
    count: 2,
    clock: systemClock,
    log: (_level: string, message: string) => log.push(message),
    chunk,
    pace: undefined,
    onBadMessage: (_peer: string, reason: string) => log.push(reason),
    noProgressMs: undefined,
    messageBytes: undefined,
  }
  const holder = new LaneCarrier({ ...common, traffic: new Traffic(), pair: holderPair })
  const traffic = new Traffic()
  const fetcher = new LaneCarrier({ ...common, traffic, pair: askerPair, ...asker })
  atEnd(t, () => Promise.all([holder.stop(), fetcher.stop()]))
  const [ports] = await Promise.all([holder.start(['127.0.0.1']), fetcher.start(['127.0.0.1'])])
  assert.equal(ports.length, 2)
  const [holderPeer, askerPeer] = [newIdentity().peer, newIdentity().peer]
  holder.admit(askerPeer, dataCertificate(askerPair).digest)
  const target = { host: '127.0.0.1', ports, certificate: dataCertificate(holderPair).digest }
  const fetch = (
    index: number,
    into = bufferFor(index),
    signal = never,
    onProgress = (_bytes: number) => {},
  ) =>
    fetcher.fetch(
      holderPeer,
      target,
      { blob, geometry, index, into },
      { waitMs: 0, grant: undefined },
      { signal, onProgress },
    )
  return { holder, fetcher, fetch, traffic, holderPeer, askerPeer, log }
}

test('chunks come through lanes whole, with their digest, and are counted', async (t) => {
  const { fetch, traffic, holderPeer } = await pair(t)
  const indices = Array.from({ length: geometry.chunkCount }, (_, index) => index)
  await Promise.all(
    indices.map(async (index) => {
      const into = bufferFor(index)
      const seen: number[] = []
      const { digest } = await fetch(index, into, never, (bytes) => seen.push(bytes))
      assert.equal(Buffer.compare(into, bodyOf(index)), 0, `chunk ${index}`)
      assert.equal(Buffer.compare(digest ?? new Uint8Array(), blake3(into)), 0)
      assert.equal(seen.at(-1), into.byteLength)
      assert.deepEqual(
        seen,
        seen.toSorted((a, b) => a - b),
      )
    }),
  )
  assert.equal(traffic.of(holderPeer).bytesReceived, geometry.sizeBytes)
})

test('a cancelled fetch settles only when its lane has let go of the buffer', async (t) => {
  const { fetch } = await pair(t)
  for (let round = 0; round < 6; round++) {
    const stop = new AbortController()
    const into = bufferFor(1)
    if (round === 0) stop.abort()
    await assert
      .rejects(
        fetch(1, into, stop.signal, () => stop.abort()),
        { code: 'aborted' },
      )
      .catch((error) => {
        // It may have been faster than its end was told.
        if (round === 0) throw error
      })
    into.fill(0xee)
    const next = bufferFor(2)
    await fetch(2, next)
    assert.equal(Buffer.compare(next, bodyOf(2)), 0)
    assert.ok(
      into.every((byte) => byte === 0xee),
      'a late byte was written',
    )
  }
})

test('a holder whose disk has changed a chunk says that it lacks it, and hears of it', async (t) => {
  let rotten = 0
  let released = 0
  const { fetch } = await pair(t, async (_peer, { index }) => {
    const reply = replyOf(index)
    if (index === 3 && reply.bytes !== undefined) reply.bytes[100] = (reply.bytes[100] ?? 0) ^ 1
    return { ...reply, rotten: () => rotten++, release: () => released++ }
  })
  await assert.rejects(fetch(3), { code: 'peer-lacks-chunk' })
  await fetch(4)
  await until('both places are free again', () => released === 2)
  assert.equal(rotten, 1)
})

test('a lane that dies loses its fetches at once; the other goes on, and a new one takes its place', async (t) => {
  const { fetch, log } = await pair(t, undefined, {
    workerFile: new URL('../support/mortal-lane-worker.ts', import.meta.url),
  })
  const results = await Promise.allSettled(
    Array.from({ length: 12 }, async (_, index) => {
      const into = bufferFor(index)
      await fetch(index, into)
      assert.equal(Buffer.compare(into, bodyOf(index)), 0)
    }),
  )
  const lost = results.filter((result) => result.status === 'rejected')
  assert.ok(lost.length > 0 && lost.length < 12, `${lost.length} were lost`)
  for (const { reason } of lost) assert.ok(isLostLane(reason), String(reason))
  assert.ok(log.includes('a lane has ended: another one takes its place'), log.join('; '))
  await fetch(1)
})

test('who is cut gets nothing more', async (t) => {
  const { holder, fetch, askerPeer } = await pair(t)
  await fetch(0)
  holder.cut(askerPeer)
  const giveUpAt = systemClock.now() + 10_000
  for (;;) {
    const failed = await fetch(1).then(
      () => false,
      () => true,
    )
    if (failed) break
    assert.ok(systemClock.now() < giveUpAt, 'it still gets chunks')
  }
})

test('a limit set while bytes move is kept by the lanes', async (t) => {
  let bytesPerPiece = Number.POSITIVE_INFINITY
  let passed = 0
  const limited = {
    get pieceBytes() {
      return bytesPerPiece
    },
    pass: (bytes: number) => {
      passed += bytes
      return undefined
    },
  }
  const { fetch } = await pair(t, undefined, { pace: { downloads: limited, uploads: () => limited } })
  await fetch(0)
  assert.equal(passed, 0)
  bytesPerPiece = 64 * 1024
  await fetch(1)
  await fetch(2)
  const lastOnes = chunkLength(geometry, 1) + chunkLength(geometry, 2)
  assert.ok(passed >= lastOnes / 2 && passed <= lastOnes, `${passed} of ${lastOnes} bytes were asked for`)
  const before = passed
  await fetch(3)
  assert.equal(passed - before, chunkLength(geometry, 3))
})

test('whole hosts with lanes find each other and exchange chunks through them', async (t) => {
  const hosts = testHosts()
  atEnd(t, async () => {
    await hosts[Symbol.asyncDispose]()
    assert.deepEqual(hosts.failures, [])
  })
  const holder = await hosts.start({ lanes: 2 }, { chunk: async (_peer, { index }) => replyOf(index) })
  const asker = await hosts.start({ lanes: 1 })
  const peer = await asker.dial(addressOf(holder), never)
  const giveUpAt = systemClock.now() + 10_000
  for (let index = 0; asker.counters().chunksByData < 20; index = (index + 1) % geometry.chunkCount) {
    assert.ok(systemClock.now() < giveUpAt, 'no chunks came over data connections')
    const into = bufferFor(index)
    await asker.fetchChunk(
      peer,
      { blob, geometry, index, into },
      { waitMs: 0 },
      { signal: never, onProgress: () => {} },
    )
    assert.equal(Buffer.compare(into, bodyOf(index)), 0)
  }
})
