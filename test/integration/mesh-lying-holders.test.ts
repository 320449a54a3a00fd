// Members of the mesh that break the rules of the wire when they are asked: each lie costs one request at most, and the error
// says whom to blame.
import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { frameOf, readFrame } from '@shoal/agent/net/framing.ts'
import { fixedSlices } from '@shoal/protocol/chunks.ts'
import { parseBlobId } from '@shoal/protocol/ids.ts'
import { CHUNK_PROTOCOL, encodeMessage, HAVE_PROTOCOL, LIMITS } from '@shoal/protocol/messages.ts'
import { testHosts } from '../support/mesh-host.ts'
import { RawMember, type RawStream } from '../support/raw-member.ts'

const blob = parseBlobId(`sha256:${'cd'.repeat(32)}`)
const CHUNK = 100_000
const geometry = fixedSlices(10 * CHUNK, CHUNK)
const never = new AbortController().signal
const body = new Uint8Array(CHUNK).fill(7)
const okHeader = encodeMessage({ status: 'ok', length: CHUNK }, LIMITS.chunkHeader)
const ok = frameOf(okHeader)
const NO_PROGRESS_MS = 400

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
