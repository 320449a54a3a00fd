// Members of the mesh that break the rules of the wire, as holders and as askers: each costs one request at most, is named
// where it is to blame, and disturbs nobody else.
import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { frameOf, readFrame } from '@shoal/agent/net/framing.ts'
import type { ChunkReply, MeshHandlers } from '@shoal/agent/net/mesh.ts'
import type { MeshNode } from '@shoal/agent/net/mesh-node.ts'
import { fixedSlices, MAX_CHUNK_BYTES } from '@shoal/protocol/chunks.ts'
import { parseBlobId } from '@shoal/protocol/ids.ts'
import { CHUNK_PROTOCOL, encodeMessage, HAVE_PROTOCOL, LIMITS } from '@shoal/protocol/messages.ts'
import { addressOf, testHosts, until } from '../support/mesh-host.ts'
import { RawMember, type RawStream } from '../support/raw-member.ts'

const blob = parseBlobId(`sha256:${'cd'.repeat(32)}`)
const CHUNK = 100_000
const geometry = fixedSlices(10 * CHUNK, CHUNK)
const never = new AbortController().signal
const body = new Uint8Array(CHUNK).fill(7)
const okHeader = encodeMessage({ status: 'ok', length: CHUNK }, LIMITS.chunkHeader)
const ok = frameOf(okHeader)
const request = frameOf(
  encodeMessage({ blob, geometry: geometry.text, index: 0, waitMs: 0 }, LIMITS.chunkRequest),
)
const NO_PROGRESS_MS = 400

// --- a holder that lies ---------------------------------------------------------------------------------------------

type Lie = (raw: RawStream) => Promise<void>

/** A host that asks a liar. `lie` is what the liar does on each stream after it has read the request. */
async function askerOfLiar(t: TestContext, lie: Lie) {
  const liar = await RawMember.start()
  const hosts = testHosts()
  t.after(async () => {
    await Promise.all([liar[Symbol.asyncDispose](), hosts[Symbol.asyncDispose]()])
    assert.deepEqual(hosts.failures, [])
  })
  let streams = 0
  await liar.answer(CHUNK_PROTOCOL, async (raw) => {
    streams++
    for (;;) {
      await readFrame(raw.bytes, LIMITS.chunkRequest, never)
      await lie(raw)
    }
  })
  const asker = await hosts.start({ tuning: { noProgressMs: NO_PROGRESS_MS } })
  await asker.dial(liar.address, never)
  const fetch = async (index = 0) => {
    const into = new Uint8Array(CHUNK)
    await asker.fetchChunk(
      liar.peer,
      { blob, geometry, index, into },
      { waitMs: 0 },
      { signal: never, onProgress: () => {} },
    )
    return into
  }
  return { liar, asker, fetch, streams: () => streams }
}

const u32 = (value: number) => {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32BE(value)
  return bytes
}
const sends =
  (...parts: Uint8Array[]): Lie =>
  async ({ bytes }) => {
    for (const part of parts) await bytes.write(part, never)
  }
const sendsAndCloses =
  (...parts: Uint8Array[]): Lie =>
  async (raw) => {
    await sends(...parts)(raw)
    await raw.stream.close()
  }
const sendsAndResets =
  (...parts: Uint8Array[]): Lie =>
  async (raw) => {
    await sends(...parts)(raw)
    await new Promise((resolve) => setTimeout(resolve, 20))
    raw.stream.abort(new Error('lie'))
  }
const header = (fields: object) => frameOf(encodeMessage(fields, 4096))

const lies: Record<string, { readonly lie: Lie; readonly code: string }> = {
  'half a body and the end': { lie: sendsAndCloses(ok, body.subarray(1)), code: 'peer-unreachable' },
  'half a body and a reset': { lie: sendsAndResets(ok, body.subarray(1)), code: 'peer-unreachable' },
  'half a body and silence': { lie: sends(ok, body.subarray(1)), code: 'peer-timeout' },
  'a header and no body': { lie: sendsAndCloses(ok), code: 'peer-unreachable' },
  'only silence': { lie: async () => {}, code: 'peer-timeout' },
  'a reset before the header': { lie: sendsAndResets(), code: 'peer-unreachable' },
  'half a header and silence': { lie: sends(ok.subarray(0, 10)), code: 'peer-timeout' },
  'a header one over the limit': { lie: sends(u32(LIMITS.chunkHeader + 1)), code: 'bad-message' },
  'a header of 2 GiB': { lie: sends(u32(2 ** 31)), code: 'bad-message' },
  'a header of 4 GiB - 1': { lie: sends(u32(2 ** 32 - 1)), code: 'bad-message' },
  'a header of no bytes': { lie: sends(u32(0)), code: 'bad-message' },
  'a varint of ten bytes': { lie: sends(Buffer.from('ffffffffffffffffff01', 'hex')), code: 'bad-message' },
  'a shorter length than the chunk': {
    lie: sends(header({ status: 'ok', length: CHUNK - 1 }), body),
    code: 'bad-message',
  },
  'a longer length than the chunk': {
    lie: sends(header({ status: 'ok', length: CHUNK + 1 }), body),
    code: 'bad-message',
  },
  'a length of 0': { lie: sends(header({ status: 'ok', length: 0 })), code: 'bad-message' },
  'a negative length': { lie: sends(header({ status: 'ok', length: -1 })), code: 'bad-message' },
  'a length of 2^53': { lie: sends(header({ status: 'ok', length: 2 ** 53 })), code: 'bad-message' },
  'a refusal with a length': { lie: sends(header({ status: 'busy', length: 5 })), code: 'bad-message' },
  'an unknown status': { lie: sends(header({ status: 'maybe', length: 0 })), code: 'bad-message' },
  'an unknown field': { lie: sends(header({ status: 'ok', length: CHUNK, extra: 1 })), code: 'bad-message' },
  'a voucher of half the size': {
    lie: sends(
      header({
        status: 'ok',
        length: CHUNK,
        voucher: { digest: new Uint8Array(16), author: new Uint8Array(32), signature: new Uint8Array(64) },
      }),
    ),
    code: 'bad-message',
  },
  'garbage instead of CBOR': { lie: sends(frameOf(Buffer.alloc(40, 0xff))), code: 'bad-message' },
  'a header with a byte behind it': {
    lie: sends(frameOf(Buffer.concat([okHeader, Uint8Array.of(0)])), body),
    code: 'bad-message',
  },
  'an answer of HTTP': { lie: sends(Buffer.from('HTTP/1.1 200 OK\r\n\r\n')), code: 'bad-message' },
}

test('a lying holder costs one request, with the code that says whom to blame', async (t) => {
  let current: Lie = async () => {}
  const { asker, fetch } = await askerOfLiar(t, (raw) => current(raw))
  for (const [name, { lie, code }] of Object.entries(lies)) {
    current = lie
    const start = performance.now()
    await assert.rejects(fetch(), { code }, name)
    assert.ok(performance.now() - start < NO_PROGRESS_MS + 2_000, name)
    current = sends(ok, body)
    assert.equal(Buffer.compare(await fetch(), body), 0, `after ${name}`)
  }
  assert.equal(asker.peers().length, 1)
})

test('an answer cut at every byte of its header is a lost peer each time, and never a late success', async (t) => {
  let length = 0
  const { fetch } = await askerOfLiar(t, (raw) => sendsAndCloses(ok.subarray(0, length))(raw))
  for (; length < ok.byteLength; length++)
    await assert.rejects(fetch(), { code: 'peer-unreachable' }, `cut at ${length}`)
})

test('an answer in writes of one byte, and header and body in one write, are both whole', async (t) => {
  const small = fixedSlices(200, 1024)
  const message = Buffer.concat([header({ status: 'ok', length: 200 }), body.subarray(0, 200)])
  let lie: Lie = sends(message)
  const { asker, liar } = await askerOfLiar(t, (raw) => lie(raw))
  for (const next of [sends(message), sends(...Array.from(message, (byte) => Uint8Array.of(byte)))]) {
    lie = next
    const into = new Uint8Array(200)
    await asker.fetchChunk(
      liar.peer,
      { blob, geometry: small, index: 0, into },
      { waitMs: 0 },
      { signal: never, onProgress: () => {} },
    )
    assert.equal(Buffer.compare(into, body.subarray(0, 200)), 0)
  }
})

test('bytes behind an answer are never taken for the next one', async (t) => {
  const wrong = new Uint8Array(CHUNK).fill(9)
  let later = false
  const { fetch, streams } = await askerOfLiar(t, async (raw) => {
    if (later) {
      await sends(ok, body)(raw)
      await new Promise((resolve) => setTimeout(resolve, 20))
      await sends(ok, wrong)(raw)
    } else await sends(Buffer.concat([ok, body, ok, wrong]))(raw)
  })
  for (let round = 0; round < 6; round++) {
    later = round >= 3
    assert.equal(Buffer.compare(await fetch(), body), 0, `round ${round}`)
    await new Promise((resolve) => setTimeout(resolve, 60))
  }
  assert.equal(streams(), 6, 'each such stream is thrown away')
})

test('a holder that floods instead of answering is cut off at the size of one answer', async (t) => {
  const flood = new Uint8Array(1024 * 1024)
  let sent = 0
  const { fetch } = await askerOfLiar(t, async ({ bytes }) => {
    await bytes.write(ok, never)
    for (; sent < 1024 * 1024 * 1024; sent += flood.byteLength) await bytes.write(flood, never)
  })
  // The chunk itself is filled and fine; what comes behind it dies with its stream.
  await fetch()
  const before = sent
  await new Promise((resolve) => setTimeout(resolve, 300))
  assert.ok(sent - before < 40 * flood.byteLength, `${sent - before} bytes more were taken`)
})

test('a slow holder that keeps moving is not given up', async (t) => {
  const { fetch } = await askerOfLiar(t, async ({ bytes }) => {
    await bytes.write(ok, never)
    for (let part = 0; part < 10; part++) {
      await new Promise((resolve) => setTimeout(resolve, NO_PROGRESS_MS / 4))
      await bytes.write(body.subarray((part * CHUNK) / 10, ((part + 1) * CHUNK) / 10), never)
    }
  })
  assert.equal(Buffer.compare(await fetch(), body), 0)
})

test('a holder that ended an idle stream is asked again on a new one, without an error', async (t) => {
  const idle: RawStream['stream'][] = []
  const { fetch, streams } = await askerOfLiar(t, async (raw) => {
    idle.push(raw.stream)
    await sends(ok, body)(raw)
  })
  await fetch()
  await idle.at(-1)?.close()
  await fetch()
  assert.equal(streams(), 2)
  idle.at(-1)?.abort(new Error('idle'))
  await fetch()
  assert.equal(streams(), 3)
})

test('wrong answers to small questions are bad messages, silence a timeout', async (t) => {
  const liar = await RawMember.start()
  const hosts = testHosts()
  t.after(() => Promise.all([liar[Symbol.asyncDispose](), hosts[Symbol.asyncDispose]()]))
  let answer: Lie = async () => {}
  await liar.answer(HAVE_PROTOCOL, async (raw) => {
    await readFrame(raw.bytes, LIMITS.haveAsk, never)
    await answer(raw)
  })
  const asker = await hosts.start()
  await asker.dial(liar.address, never)
  const ask = () => asker.askHave(liar.peer, { blob, geometry: geometry.text, want: false }, never)
  const wrong: Record<string, Lie> = {
    'a map of ten million chunks': sends(u32(LIMITS.haveAnswer + 1)),
    'claims of a million chunks': sends(
      frameOf(
        encodeMessage(
          { state: 'none', wanting: false, claimed: Array.from({ length: 257 }, (_, at) => at) },
          1 << 20,
        ),
      ),
    ),
    'no state': sends(frameOf(encodeMessage({ wanting: false, claimed: [] }, 100))),
    garbage: sends(frameOf(Buffer.from('garbage'))),
  }
  for (const [name, lie] of Object.entries(wrong)) {
    answer = lie
    await assert.rejects(ask(), { code: 'bad-message' }, name)
  }
  answer = sendsAndCloses(u32(100), Buffer.alloc(50))
  await assert.rejects(ask(), { code: 'peer-unreachable' })
})

// --- an asker that lies ---------------------------------------------------------------------------------------------

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
