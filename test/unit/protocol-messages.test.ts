// What hosts say to each other: limits, strictness, and no way around them.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ChunkMap, MAX_CHUNK_BYTES, MAX_CHUNKS } from '@shoal/protocol/chunks.ts'
import { asShoalError, hasCode } from '@shoal/protocol/errors.ts'
import { parseBlobId } from '@shoal/protocol/ids.ts'
import {
  chunkHeaderSchema,
  chunkRequestSchema,
  decodeMessage,
  encodeMessage,
  gossipHaveSchema,
  gossipHealthSchema,
  grantStatement,
  haveAnswerSchema,
  haveAskSchema,
  LIMITS,
  manifestAnswerSchema,
  manifestAskSchema,
  voucherStatement,
} from '@shoal/protocol/messages.ts'
import { encode as cborEncode } from 'cborg'
import type { z } from 'zod'

const blob = parseBlobId(`sha256:${'5c'.repeat(32)}`)
const geometry = 'slices:4194304:5497558138880'
const bytes = (length: number, value = 9) => new Uint8Array(length).fill(value)
const voucher = { digest: bytes(32), author: bytes(32), signature: bytes(64) }
const grant = {
  repo: `datasets/${'o'.repeat(96)}/${'n'.repeat(96)}`,
  commit: 'c'.repeat(40),
  expires: 2 ** 52,
  signature: bytes(64),
}
const envelope = {
  sequence: Number.MAX_SAFE_INTEGER,
  at: Number.MAX_SAFE_INTEGER,
  expires: Number.MAX_SAFE_INTEGER,
}

/** The largest message of each kind that the schema lets through. */
type Kind = 'chunkRequest' | 'chunkHeader' | 'haveAsk' | 'haveAnswer' | 'manifestAsk' | 'gossipHealth'
const LARGEST: Record<Kind, { readonly schema: z.ZodType; readonly message: object }> = {
  chunkRequest: {
    schema: chunkRequestSchema,
    message: { blob, geometry: 'x'.repeat(64), index: MAX_CHUNKS - 1, waitMs: 10_000, grant },
  },
  chunkHeader: {
    schema: chunkHeaderSchema,
    message: { status: 'refused', length: MAX_CHUNK_BYTES, voucher },
  },
  haveAsk: { schema: haveAskSchema, message: { blob, geometry, want: true, grant } },
  haveAnswer: {
    schema: haveAnswerSchema,
    message: {
      state: 'partial',
      wanting: true,
      held: ChunkMap.full(MAX_CHUNKS).encode(),
      claimed: Array.from({ length: 256 }, (_, at) => MAX_CHUNKS - 1 - at),
    },
  },
  manifestAsk: {
    schema: manifestAskSchema,
    message: { repo: 'r'.repeat(210), revision: 'v'.repeat(255), grant },
  },
  gossipHealth: {
    schema: gossipHealthSchema,
    message: {
      ...envelope,
      uploadLoad: 1,
      cpuLoad: 1e300,
      diskFreeBytes: 1e300,
      memoryFreeBytes: 1e300,
      blobsHeld: Number.MAX_SAFE_INTEGER,
      version: 'v'.repeat(32),
      site: 's'.repeat(64),
      rack: 'r'.repeat(64),
    },
  },
}

function limitOf(kind: string): number {
  return kind in LIMITS ? LIMITS[kind as keyof typeof LIMITS] : LIMITS.gossip
}

function codeOf(work: () => unknown): string | undefined {
  try {
    work()
    return undefined
  } catch (error) {
    const known = asShoalError(error)
    if (known === undefined) throw error
    return known.code
  }
}

for (const [kind, { schema, message }] of Object.entries(LARGEST)) {
  const limit = limitOf(kind)

  test(`the largest ${kind} fits its limit and is given back as it was`, () => {
    const encoded = encodeMessage(message, limit)
    assert.deepEqual(decodeMessage(schema, encoded, limit), message)
  })

  test(`a ${kind} cut off at any byte is a bad message`, () => {
    const encoded = encodeMessage(message, limit)
    const step = Math.max(1, Math.floor(encoded.byteLength / 600))
    for (let length = 0; length < encoded.byteLength; length += step)
      assert.equal(
        codeOf(() => decodeMessage(schema, encoded.subarray(0, length), limit)),
        'bad-message',
        `${length}`,
      )
  })

  test(`a ${kind} followed by anything is a bad message`, () => {
    const encoded = encodeMessage(message, limit)
    for (const tail of [bytes(1, 0), bytes(1, 0xa0), encoded.subarray(0, 1)])
      assert.equal(
        codeOf(() => decodeMessage(schema, Buffer.concat([encoded, tail]), limit + 100)),
        'bad-message',
      )
  })

  test(`a ${kind} with an unknown field, or without one of its own, is a bad message`, () => {
    const plain = message as Record<string, unknown>
    assert.equal(
      codeOf(() => decodeMessage(schema, cborEncode({ ...plain, extra: 1 }), limit + 100)),
      'bad-message',
    )
    for (const field of Object.keys(plain)) {
      const { [field]: _, ...rest } = plain
      const code = codeOf(() => decodeMessage(schema, cborEncode(rest), limit))
      const optional = ['grant', 'voucher', 'held', 'site', 'rack'].includes(field)
      assert.equal(code, optional ? undefined : 'bad-message', `without ${field}`)
    }
  })

  test(`a ${kind} of one byte more than its limit is refused before it is looked at`, () => {
    assert.equal(
      codeOf(() => decodeMessage(schema, bytes(limit + 1, 0xff), limit)),
      'bad-message',
    )
    assert.equal(
      codeOf(() => encodeMessage(message, encodeMessage(message, limit).byteLength - 1)),
      'too-large',
    )
  })
}

for (const { id, encoded } of [
  { id: 'nothing', encoded: [] },
  { id: 'a bare number', encoded: [0x00] },
  { id: 'null', encoded: [0xf6] },
  { id: 'an array', encoded: [0x80] },
  { id: 'text that is not UTF-8', encoded: [0x62, 0xff, 0xff] },
  { id: 'an array of 2^64 - 1 items', encoded: [0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff] },
  { id: 'a map of 2^32 entries', encoded: [0xba, 0xff, 0xff, 0xff, 0xff] },
  { id: 'bytes of 2^53', encoded: [0x5b, 0x00, 0x20, 0, 0, 0, 0, 0, 0] },
  { id: 'a text of 2^31', encoded: [0x7a, 0x80, 0, 0, 0] },
  { id: 'an endless array', encoded: [0x9f, 0x00, 0xff] },
  { id: 'endless bytes', encoded: [0x5f, 0x41, 0x00, 0xff] },
  { id: 'undefined', encoded: [0xf7] },
  { id: 'a tag', encoded: [0xc2, 0x41, 0x01] },
  { id: 'a reserved header', encoded: [0x1c] },
  {
    id: 'a key given twice',
    encoded: [...cborEncode({ want: true }).slice(0, 0), 0xa2, 0x61, 0x61, 0x01, 0x61, 0x61, 0x02],
  },
  { id: 'a key that is a number', encoded: [0xa1, 0x01, 0x01] },
  { id: 'a thousand nested arrays', encoded: new Array<number>(1_000).fill(0x81) },
]) {
  test(`${id} is a bad message in every place`, () => {
    for (const [kind, { schema }] of Object.entries(LARGEST))
      assert.equal(
        codeOf(() => decodeMessage(schema, Uint8Array.from(encoded), limitOf(kind))),
        'bad-message',
        kind,
      )
  })
}

const request = { blob, geometry, index: 0, waitMs: 0 }
const answer = { state: 'partial', wanting: true, claimed: [] }
const have = { ...envelope, blobs: [{ blob, geometry, state: 'wanting', gained: [[0, 1]] }] }

for (const { id, schema, message } of [
  { id: 'index below zero', schema: chunkRequestSchema, message: { ...request, index: -1 } },
  { id: 'index beyond every blob', schema: chunkRequestSchema, message: { ...request, index: MAX_CHUNKS } },
  { id: 'broken index', schema: chunkRequestSchema, message: { ...request, index: 0.5 } },
  { id: 'index as text', schema: chunkRequestSchema, message: { ...request, index: '0' } },
  { id: 'index beyond 2^53', schema: chunkRequestSchema, message: { ...request, index: 2n ** 60n } },
  { id: 'waiting for an hour', schema: chunkRequestSchema, message: { ...request, waitMs: 3_600_000 } },
  { id: 'blob that is a path', schema: chunkRequestSchema, message: { ...request, blob: '../../x' } },
  { id: 'blob as bytes', schema: chunkRequestSchema, message: { ...request, blob: bytes(32) } },
  { id: 'long geometry', schema: chunkRequestSchema, message: { ...request, geometry: 'x'.repeat(65) } },
  {
    id: 'short signature',
    schema: chunkRequestSchema,
    message: { ...request, grant: { ...grant, signature: bytes(63) } },
  },
  { id: 'status of its own', schema: chunkHeaderSchema, message: { status: 'fine', length: 0 } },
  {
    id: 'length beyond a chunk',
    schema: chunkHeaderSchema,
    message: { status: 'ok', length: MAX_CHUNK_BYTES + 1 },
  },
  { id: 'length below zero', schema: chunkHeaderSchema, message: { status: 'ok', length: -1 } },
  {
    id: 'voucher with a field more',
    schema: chunkHeaderSchema,
    message: { status: 'ok', length: 1, voucher: { ...voucher, x: 1 } },
  },
  {
    id: 'map longer than any',
    schema: haveAnswerSchema,
    message: { ...answer, held: bytes(MAX_CHUNKS / 8 + 1) },
  },
  { id: '257 claims', schema: haveAnswerSchema, message: { ...answer, claimed: new Array(257).fill(0) } },
  {
    id: '65 blobs',
    schema: gossipHaveSchema,
    message: { ...have, blobs: new Array(65).fill(have.blobs[0]) },
  },
  {
    id: '513 runs',
    schema: gossipHaveSchema,
    message: { ...have, blobs: [{ ...have.blobs[0], gained: new Array(513).fill([0, 1]) }] },
  },
  {
    id: 'empty run',
    schema: gossipHaveSchema,
    message: { ...have, blobs: [{ ...have.blobs[0], gained: [[0, 0]] }] },
  },
  {
    id: 'run of three',
    schema: gossipHaveSchema,
    message: { ...have, blobs: [{ ...have.blobs[0], gained: [[0, 1, 2]] }] },
  },
  { id: 'sequence zero', schema: gossipHaveSchema, message: { ...have, sequence: 0 } },
  {
    id: 'load above one',
    schema: gossipHealthSchema,
    message: { ...LARGEST.gossipHealth.message, uploadLoad: 1.01 },
  },
  {
    id: 'load that is no number',
    schema: gossipHealthSchema,
    message: { ...LARGEST.gossipHealth.message, cpuLoad: Number.NaN },
  },
  {
    id: 'endless free space',
    schema: gossipHealthSchema,
    message: { ...LARGEST.gossipHealth.message, diskFreeBytes: Number.POSITIVE_INFINITY },
  },
  {
    id: 'long site',
    schema: gossipHealthSchema,
    message: { ...LARGEST.gossipHealth.message, site: 's'.repeat(65) },
  },
  {
    id: 'commit of 41 letters',
    schema: manifestAnswerSchema,
    message: { found: true, commit: 'c'.repeat(41) },
  },
]) {
  test(`a message with ${id} is refused`, () => {
    assert.equal(
      codeOf(() => decodeMessage(schema as z.ZodType, cborEncode(message), 1 << 20)),
      'bad-message',
    )
  })
}

test('fields that are undefined are left out, at every depth', () => {
  const encoded = encodeMessage({ ...request, grant: undefined }, LIMITS.chunkRequest)
  assert.deepEqual(decodeMessage(chunkRequestSchema, encoded, LIMITS.chunkRequest), request)
  assert.deepEqual(encodeMessage({ a: [{ b: undefined, c: 1 }] }, 100), cborEncode({ a: [{ c: 1 }] }))
})

test('a message that is not read with its schema tells where it is wrong and nothing of what it holds', () => {
  const secret = 'x'.repeat(40)
  const encoded = cborEncode({ ...request, blob: secret })
  assert.throws(
    () => decodeMessage(chunkRequestSchema, encoded, LIMITS.chunkRequest),
    (error) =>
      hasCode(error, 'bad-message') && error.message.includes('blob') && !error.message.includes(secret),
  )
})

test('bytes keep their content and do not share memory with another message', () => {
  const encoded = encodeMessage(LARGEST.chunkHeader.message, LIMITS.chunkHeader)
  const pooled = Buffer.concat([bytes(7), encoded, bytes(7)]).subarray(7, 7 + encoded.byteLength)
  const { voucher: read } = decodeMessage(chunkHeaderSchema, pooled, LIMITS.chunkHeader)
  assert.deepEqual(read, voucher)
})

test('what a voucher signs differs whenever the blob, the cuts, the place or the digest does', () => {
  const other = parseBlobId(`sha256:${'5d'.repeat(32)}`)
  const statements = [
    voucherStatement(blob, geometry, 1, bytes(32)),
    voucherStatement(other, geometry, 1, bytes(32)),
    voucherStatement(blob, 'slices:4194304:1', 1, bytes(32)),
    voucherStatement(blob, geometry, 11, bytes(32)),
    voucherStatement(blob, geometry, 1, bytes(32, 8)),
    grantStatement('peer', grant),
    grantStatement('peer2', grant),
    grantStatement('peer', { ...grant, expires: 1 }),
    grantStatement('peer', { ...grant, commit: 'd'.repeat(40) }),
  ].map((statement) => Buffer.from(statement).toString('hex'))
  assert.equal(new Set(statements).size, statements.length)
})
