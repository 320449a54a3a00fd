// Chunks, maps and manifests between real hosts: the bytes arrive, the limits hold, and nobody waits for a dead peer.
import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import type { ChunkReply } from '@shoal/agent/net/mesh.ts'
import type { MeshNode } from '@shoal/agent/net/mesh-node.ts'
import { type ChunkGeometry, chunkLength, fixedSlices, MAX_CHUNK_BYTES } from '@shoal/protocol/chunks.ts'
import { type PeerId, parseBlobId } from '@shoal/protocol/ids.ts'
import { LIMITS } from '@shoal/protocol/messages.ts'
import { addressOf, type TestHosts, testHosts, until } from '../support/mesh-host.ts'

const blob = parseBlobId(`sha256:${'ab'.repeat(32)}`)
const never = new AbortController().signal
const voucher = {
  digest: new Uint8Array(32).fill(1),
  author: new Uint8Array(32).fill(2),
  signature: new Uint8Array(64).fill(3),
}

/** A chunk of the blob that all tests here move: no two places of it look the same. */
function chunkOf(geometry: ChunkGeometry, index: number): Uint8Array {
  const { start, end } = geometry.range(index)
  const bytes = new Uint8Array(end - start)
  for (let at = 0; at < bytes.byteLength; at++) bytes[at] = (start + at) * 31 + ((start + at) >>> 12)
  return bytes
}

function fetchOf(node: MeshNode, peer: PeerId, geometry: ChunkGeometry, index: number, signal = never) {
  const into = new Uint8Array(chunkLength(geometry, index))
  const progress: number[] = []
  return {
    into,
    progress,
    done: node.fetchChunk(
      peer,
      { blob, geometry, index, into },
      { waitMs: 0 },
      { signal, onProgress: (bytes) => progress.push(bytes) },
    ),
  }
}

async function hostsOf(t: TestContext): Promise<TestHosts> {
  const hosts = testHosts()
  t.after(async () => {
    await hosts[Symbol.asyncDispose]()
    assert.deepEqual(hosts.failures, [])
  })
  return hosts
}

/** A holder that answers with `reply` and a host connected to it. */
async function pair(
  t: TestContext,
  reply: (index: number, signal: AbortSignal) => Promise<ChunkReply> | ChunkReply,
  tuning: object = {},
): Promise<{ holder: MeshNode; asker: MeshNode; peer: PeerId; hosts: TestHosts }> {
  const hosts = await hostsOf(t)
  const [holder, asker] = await Promise.all([
    hosts.start({ tuning }, { chunk: async (_peer, { index }, signal) => reply(index, signal) }),
    hosts.start({ tuning }),
  ])
  const peer = await asker.dial(addressOf(holder), never)
  return { holder, asker, peer, hosts }
}

test('chunks of every awkward length arrive whole, with progress from the front and the voucher', async (t) => {
  for (const [sizeBytes, chunkBytes] of [
    [1, 1024],
    [1023, 1024],
    [1024, 1024],
    [1025, 1024],
    [3 * 65_536 + 1, 65_536],
    [2 * 1024 * 1024 + 7, 1024 * 1024],
    [MAX_CHUNK_BYTES + 12_345, MAX_CHUNK_BYTES],
  ] as const) {
    const geometry = fixedSlices(sizeBytes, chunkBytes)
    const released: number[] = []
    const { asker, peer, holder } = await pair(t, (index) => ({
      status: 'ok',
      bytes: chunkOf(geometry, index),
      voucher: index === 0 ? voucher : undefined,
      release: () => released.push(index),
    }))
    for (let index = 0; index < geometry.chunkCount; index++) {
      const { into, progress, done } = fetchOf(asker, peer, geometry, index)
      const answer = await done
      assert.deepEqual(answer.voucher, index === 0 ? voucher : undefined)
      assert.equal(
        Buffer.compare(into, chunkOf(geometry, index)),
        0,
        `${sizeBytes}/${chunkBytes} chunk ${index}`,
      )
      assert.equal(progress.at(-1), into.byteLength)
      assert.deepEqual(
        progress,
        progress.toSorted((a, b) => a - b),
      )
    }
    await until('all were released', () => released.length === geometry.chunkCount)
    await until('the sender counted', () => holder.peers()[0]?.bytesSent === sizeBytes)
    assert.equal(asker.peers()[0]?.bytesReceived, sizeBytes)
  }
})

test('twenty requests at once over eight streams, each gets its own chunk', async (t) => {
  const geometry = fixedSlices(20 * 100_000, 100_000)
  let answering = 0
  let most = 0
  const { asker, peer } = await pair(t, async (index) => {
    most = Math.max(most, ++answering)
    await new Promise((resolve) => setTimeout(resolve, 20))
    answering--
    return { status: 'ok', bytes: chunkOf(geometry, index) }
  })
  await Promise.all(
    Array.from({ length: 20 }, async (_, index) => {
      const { into, done } = fetchOf(asker, peer, geometry, index)
      await done
      assert.equal(Buffer.compare(into, chunkOf(geometry, index)), 0, `chunk ${index}`)
    }),
  )
  assert.equal(most, 8)
})

test('what a holder does not give comes back as its own error, and the stream goes on', async (t) => {
  const geometry = fixedSlices(5 * 1024, 1024)
  const replies = [
    { status: 'lacks' },
    { status: 'busy' },
    { status: 'refused' },
    { status: 'bad' },
    { status: 'ok', bytes: chunkOf(geometry, 4) },
  ] as const
  const { asker, peer } = await pair(t, (index) => replies[index] ?? { status: 'lacks' })
  for (const [index, code] of ['peer-lacks-chunk', 'peer-busy', 'peer-refused', 'peer-refused'].entries())
    await assert.rejects(fetchOf(asker, peer, geometry, index).done, { code })
  await fetchOf(asker, peer, geometry, 4).done
})

test('a handler that fails is a holder that lacks the chunk', async (t) => {
  const geometry = fixedSlices(1024, 1024)
  const { asker, peer } = await pair(t, () => {
    throw new Error('a bug of this host')
  })
  await assert.rejects(fetchOf(asker, peer, geometry, 0).done, { code: 'peer-lacks-chunk' })
})

test('when all upload places are taken a request is told so at once', async (t) => {
  const geometry = fixedSlices(4 * 1024, 1024)
  const open = Promise.withResolvers<void>()
  const { asker, peer } = await pair(
    t,
    async (index) => {
      await open.promise
      return { status: 'ok', bytes: chunkOf(geometry, index) }
    },
    { maxUploads: 2 },
  )
  const first = [fetchOf(asker, peer, geometry, 0).done, fetchOf(asker, peer, geometry, 1).done]
  await new Promise((resolve) => setTimeout(resolve, 100))
  await assert.rejects(fetchOf(asker, peer, geometry, 2).done, { code: 'peer-busy' })
  open.resolve()
  await Promise.all(first)
  await fetchOf(asker, peer, geometry, 3).done
})

test('a request cancelled half-way ends at once, writes nothing more and spoils nothing', async (t) => {
  const geometry = fixedSlices(2 * MAX_CHUNK_BYTES, MAX_CHUNK_BYTES)
  let signalled = 0
  const { asker, peer, holder } = await pair(t, (index, signal) => {
    signal.addEventListener('abort', () => signalled++)
    return { status: 'ok', bytes: chunkOf(geometry, index) }
  })
  for (const afterBytes of [1, 1_000_000, 5_000_000]) {
    const stop = new AbortController()
    const into = new Uint8Array(MAX_CHUNK_BYTES)
    const done = asker.fetchChunk(
      peer,
      { blob, geometry, index: 0, into },
      { waitMs: 0 },
      { signal: stop.signal, onProgress: (bytes) => bytes >= afterBytes && stop.abort() },
    )
    await assert.rejects(done, { code: 'aborted' })
    into.fill(0xee)
    // The next answer comes over another stream and is the right one.
    const next = fetchOf(asker, peer, geometry, 1)
    await next.done
    assert.equal(Buffer.compare(next.into, chunkOf(geometry, 1)), 0)
    assert.equal(Buffer.compare(into, Buffer.alloc(MAX_CHUNK_BYTES, 0xee)), 0, 'a late byte was written')
  }
  assert.ok(asker.isConnected(peer))
  assert.ok(signalled > 0, 'the holder was not told')
  assert.equal(holder.counters().badMessages, 0)
})

test('a request that is already cancelled asks nobody', async (t) => {
  const geometry = fixedSlices(1024, 1024)
  let asked = 0
  const { asker, peer } = await pair(t, () => {
    asked++
    return { status: 'lacks' }
  })
  await assert.rejects(fetchOf(asker, peer, geometry, 0, AbortSignal.abort()).done, { code: 'aborted' })
  assert.equal(asked, 0)
})

test('of 100 requests to one peer, those that stand in line too long do not blame the peer', async (t) => {
  const geometry = fixedSlices(100 * 1024, 1024)
  // Each answer takes 40 ms, eight at once: the last waits half a second, longer than a silent peer would be given.
  const { asker, peer } = await pair(
    t,
    async (index) => {
      await new Promise((resolve) => setTimeout(resolve, 40))
      return { status: 'ok', bytes: chunkOf(geometry, index) }
    },
    { noProgressMs: 300 },
  )
  const results = await Promise.allSettled(
    Array.from({ length: 100 }, (_, index) => fetchOf(asker, peer, geometry, index).done),
  )
  const codes = results.map((result) =>
    result.status === 'fulfilled' ? 'ok' : (result.reason as { code: string }).code,
  )
  assert.equal(codes.filter((code) => code === 'ok').length, 72, codes.join(' '))
  assert.equal(codes.filter((code) => code === 'peer-busy').length, 28, 'beyond eight streams and 64 in line')
})

test('a chunk can be asked of nobody but a connected peer, and into a buffer of its length only', async (t) => {
  const geometry = fixedSlices(1024, 1024)
  const { asker, peer, holder } = await pair(t, () => ({ status: 'lacks' }))
  const short = { blob, geometry, index: 0, into: new Uint8Array(1023) }
  await assert.rejects(
    asker.fetchChunk(peer, short, { waitMs: 0 }, { signal: never, onProgress: () => {} }),
    /1023 bytes for a chunk of 1024/,
  )
  await holder.stop()
  await until('the peer is gone', () => !asker.isConnected(peer))
  await assert.rejects(fetchOf(asker, peer, geometry, 0).done, { code: 'peer-unreachable' })
  await asker.stop()
  await assert.rejects(fetchOf(asker, peer, geometry, 0).done, { code: 'not-running' })
})

test('questions are answered, a hundred at once, and never held against the peer', async (t) => {
  const hosts = await hostsOf(t)
  const asked: string[] = []
  const holder = await hosts.start(
    {},
    {
      have: async (peer, ask) => {
        asked.push(peer)
        await new Promise((resolve) => setTimeout(resolve, 5))
        return { state: 'partial', wanting: true, held: Uint8Array.of(ask.want ? 7 : 0), claimed: [3] }
      },
      manifest: async (_peer, { repo }) => ({
        found: true,
        commit: 'c'.repeat(40),
        resolvedAt: 5,
        manifest: repo.repeat(20_000),
      }),
    },
  )
  const asker = await hosts.start()
  const peer = await asker.dial(addressOf(holder), never)
  const answers = await Promise.all(
    Array.from({ length: 100 }, () =>
      asker.askHave(peer, { blob, geometry: 'slices:1024:1', want: true }, never),
    ),
  )
  assert.deepEqual(answers[99], { state: 'partial', wanting: true, held: Uint8Array.of(7), claimed: [3] })
  assert.deepEqual([...new Set(asked)], [asker.self])
  const manifest = await asker.askManifest(peer, { repo: 'org/model', revision: 'main' }, never)
  assert.equal(manifest.manifest?.length, 'org/model'.length * 20_000)
  const stop = new AbortController()
  const given = asker.askHave(peer, { blob, geometry: '', want: false }, stop.signal)
  stop.abort()
  await assert.rejects(given, { code: 'aborted' })
})

test('a handler that fails, hangs or answers too much costs the asker one question, and the host can stop', async (t) => {
  const failures: string[] = []
  const hosts = testHosts()
  t.after(() => hosts[Symbol.asyncDispose]())
  const holder = await hosts.start(
    {},
    {
      have: async () => {
        throw new Error('a bug of this host')
      },
      manifest: (_peer, { revision }) =>
        revision === 'long'
          ? Promise.resolve({ found: true, manifest: 'x'.repeat(LIMITS.manifestAnswer) })
          : new Promise(() => {}),
    },
  )
  const asker = await hosts.start()
  const peer = await asker.dial(addressOf(holder), never)
  await assert.rejects(asker.askHave(peer, { blob, geometry: '', want: false }, never), {
    code: 'peer-unreachable',
  })
  await assert.rejects(asker.askManifest(peer, { repo: 'a/b', revision: 'long' }, never), {
    code: 'peer-unreachable',
  })
  const hanging = asker
    .askManifest(peer, { repo: 'a/b', revision: 'main' }, never)
    .catch(({ code }) => failures.push(code))
  await new Promise((resolve) => setTimeout(resolve, 50))
  await holder.stop()
  await hanging
  assert.deepEqual(failures, ['peer-unreachable'])
  assert.equal(holder.counters().badMessages + asker.counters().badMessages, 0)
})
