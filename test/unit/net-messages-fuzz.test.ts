// Frames as hosts really send them, damaged ten thousand times: every decoder answers with a value or with `bad-message`,
// never with another error, and soon.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { peersQuestion } from '@shoal/agent/net/questions.ts'
import { hasCode } from '@shoal/protocol/errors.ts'
import { parseBlobId } from '@shoal/protocol/ids.ts'
import {
  chunkHeaderSchema,
  chunkRequestSchema,
  decodeMessage,
  encodeMessage,
  gossipHaveSchema,
  gossipHealthSchema,
  gossipOriginSchema,
  haveAnswerSchema,
  haveAskSchema,
  LIMITS,
  manifestAnswerSchema,
  manifestAskSchema,
  tellAnswerSchema,
  tellSchema,
  turnAnswerSchema,
  turnAskSchema,
} from '@shoal/protocol/messages.ts'
import { type Random, seededRandom, systemClock } from '@shoal/protocol/time.ts'
import type { z } from 'zod'

const ROUNDS = 10_000
const seed = Number(process.env.SEED ?? 20_260_917)

const blob = parseBlobId(`sha256:${'4a'.repeat(32)}`)
const bytes = (length: number) => new Uint8Array(length).map((_, at) => at * 7)
const grant = { repo: 'org/model', commit: 'c'.repeat(40), expires: 1_750_000_000_000, signature: bytes(64) }
const voucher = { digest: bytes(32), author: bytes(32), signature: bytes(64) }
const envelope = { sequence: 1_750_000_000_001, at: 1_750_000_000_000, expires: 1_750_000_060_000 }
const geometry = 'slices:4194304:4294967296'

interface Frame {
  readonly schema: z.ZodType
  readonly limit: number
  readonly messages: readonly object[]
}

const frames: Record<string, Frame> = {
  'chunk request': {
    schema: chunkRequestSchema,
    limit: LIMITS.chunkRequest,
    messages: [
      { blob, geometry, index: 0, waitMs: 0 },
      { blob, geometry, index: 1_000, waitMs: 10_000, grant },
    ],
  },
  'chunk header': {
    schema: chunkHeaderSchema,
    limit: LIMITS.chunkHeader,
    messages: [
      { status: 'ok', length: 4_194_304, voucher },
      { status: 'busy', length: 0 },
    ],
  },
  'have ask': {
    schema: haveAskSchema,
    limit: LIMITS.haveAsk,
    messages: [
      { blob, geometry, want: true, grant },
      { blob, geometry, want: true, subscribe: true },
    ],
  },
  'have answer': {
    schema: haveAnswerSchema,
    limit: LIMITS.haveAnswer,
    messages: [
      { state: 'none', wanting: false, claimed: [] },
      { state: 'partial', wanting: true, held: bytes(128), claimed: [1, 2, 3, 1_023] },
    ],
  },
  'manifest ask': {
    schema: manifestAskSchema,
    limit: LIMITS.manifestAsk,
    messages: [{ repo: 'org/model', revision: 'main', grant }],
  },
  'manifest answer': {
    schema: manifestAnswerSchema,
    limit: LIMITS.manifestAnswer,
    messages: [
      { found: false },
      { found: true, commit: 'c'.repeat(40), resolvedAt: 1_750_000_000_000, manifest: '{"files":[]}' },
    ],
  },
  tell: {
    schema: tellSchema,
    limit: LIMITS.tell,
    messages: [
      { blobs: [{ blob, geometry, state: 'complete', gained: [] }] },
      {
        blobs: [
          {
            blob,
            geometry,
            state: 'wanting',
            gained: [
              [0, 3],
              [900, 1],
            ],
            claimed: [4, 1_000],
          },
        ],
      },
    ],
  },
  'tell answer': {
    schema: tellAnswerSchema,
    limit: LIMITS.tellAnswer,
    messages: [{ ok: true }, { ok: false }],
  },
  'gossip have': {
    schema: gossipHaveSchema,
    limit: LIMITS.gossip,
    messages: [
      {
        ...envelope,
        blobs: [
          {
            blob,
            geometry,
            state: 'wanting',
            gained: [
              [0, 3],
              [9, 1],
            ],
          },
        ],
      },
    ],
  },
  'gossip health': {
    schema: gossipHealthSchema,
    limit: LIMITS.gossip,
    messages: [
      {
        ...envelope,
        uploadLoad: 0.5,
        cpuLoad: 1.25,
        diskFreeBytes: 1e12,
        memoryFreeBytes: 5e10,
        blobsHeld: 12,
        version: '0.1.0',
        site: 'lab',
      },
    ],
  },
  'gossip origin': {
    schema: gossipOriginSchema,
    limit: LIMITS.gossipOrigin,
    messages: [
      {
        ...envelope,
        budgets: [
          { budget: bytes(8), bucket: 'resolvers', remaining: 17, resetMs: 120_000 },
          { budget: bytes(8), bucket: 'content', blockedMs: 30_000 },
        ],
      },
    ],
  },
  'turn ask': {
    schema: turnAskSchema,
    limit: LIMITS.turnAsk,
    messages: [
      { subject: bytes(16), state: 'want', useless: bytes(8) },
      { subject: bytes(16), state: 'told', value: 'https://example.org/a', lifeMs: 60_000 },
    ],
  },
  'turn answer': {
    schema: turnAnswerSchema,
    limit: LIMITS.turnAnswer,
    messages: [
      { turn: 'told', value: 'https://example.org/a', lifeMs: 60_000, from: '12D3KooWx' },
      { turn: 'yours' },
    ],
  },
  'peers answer': {
    schema: peersQuestion.answer,
    limit: peersQuestion.answerLimitBytes,
    messages: [{ peers: [{ peer: '12D3KooWx', addresses: ['/ip4/10.0.0.1/tcp/8002'] }] }],
  },
}

for (const [name, { schema, limit, messages }] of Object.entries(frames)) {
  const recorded = messages.map((message) => encodeMessage(message, limit))

  test(`${name}: what is sent comes back the same`, () => {
    for (const [at, frame] of recorded.entries())
      assert.deepEqual(decodeMessage(schema, frame, limit), messages[at])
  })

  test(`${name}: cut short anywhere, or with a byte more, it is a bad message`, () => {
    for (const frame of recorded) {
      for (let length = 0; length < frame.byteLength; length++)
        assert.throws(() => decodeMessage(schema, frame.subarray(0, length), limit), { code: 'bad-message' })
      const longer = Buffer.concat([frame, Uint8Array.of(0)])
      assert.throws(() => decodeMessage(schema, longer, limit), { code: 'bad-message' })
    }
  })

  test(`${name}: damage of any kind ends in a value or a bad message, and soon`, (t) => {
    t.diagnostic(`seed ${seed}`)
    const random = seededRandom(seed)
    const start = systemClock.now()
    let slowest = 0
    let refused = 0
    for (let round = 0; round < ROUNDS; round++) {
      const frame = damaged(recorded[round % recorded.length] ?? new Uint8Array(), random)
      const from = systemClock.now()
      try {
        decodeMessage(schema, frame, limit)
      } catch (error) {
        refused++
        assert.ok(
          hasCode(error, 'bad-message'),
          `seed ${seed} round ${round}: ${String(error)} of ${hexOf(frame)}`,
        )
      }
      slowest = Math.max(slowest, systemClock.now() - from)
    }
    assert.ok(refused > ROUNDS / 4, `only ${refused} of ${ROUNDS} were refused: is it damage at all?`)
    assert.ok(slowest < 500, `one frame took ${slowest.toFixed(0)} ms`)
    assert.ok(systemClock.now() - start < 20_000)
  })
}

/** Headers that promise far more than there is: a decoder that believes them takes the memory first. */
const GREEDY = [
  '9affffffff',
  '9bffffffffffffffff',
  'baffffffff',
  'bb001fffffffffffff',
  '5affffffff',
  '5bffffffffffffffff',
  '7affffffff',
  '7b7fffffffffffffff',
  'c249010000000000000000',
  'fb7ff8000000000000',
  'f97e00',
  'f7',
  '9f',
  'bf',
  'd9d9f7',
  '1bffffffffffffffff',
]

function damaged(frame: Uint8Array, random: Random): Uint8Array {
  const below = (limit: number) => Math.floor(random.next() * limit)
  let bytesNow = Uint8Array.from(frame)
  for (let times = 1 + below(4); times > 0; times--) {
    const at = below(bytesNow.byteLength + 1)
    const greedy = Buffer.from(GREEDY[below(GREEDY.length)] ?? '', 'hex')
    switch (below(7)) {
      case 0:
        bytesNow[at] = below(256)
        break
      case 1:
        bytesNow[at] = (bytesNow[at] ?? 0) ^ (1 << below(8))
        break
      case 2:
        bytesNow = bytesNow.slice(0, at)
        break
      case 3:
        bytesNow = Uint8Array.from([...bytesNow.subarray(0, at), ...greedy, ...bytesNow.subarray(at)])
        break
      case 4:
        bytesNow = Uint8Array.from([
          ...bytesNow.subarray(0, at),
          ...greedy,
          ...bytesNow.subarray(at + greedy.byteLength),
        ])
        break
      case 5:
        bytesNow = Uint8Array.from([...bytesNow.subarray(0, at), ...bytesNow.subarray(at + 1 + below(8))])
        break
      case 6:
        bytesNow = Uint8Array.from([...bytesNow.subarray(0, at), ...bytesNow.subarray(below(at + 1))])
    }
  }
  return bytesNow
}

function hexOf(frame: Uint8Array): string {
  return Buffer.from(frame).toString('hex')
}

test('nesting of thousands of levels, duplicate keys and huge numbers are bad messages', () => {
  const nested = Buffer.concat([Buffer.alloc(16_000, 0x81), Uint8Array.of(0)])
  const twice = Buffer.from('a2656669727374016566697273740265', 'hex')
  for (const frame of [nested, twice, ...GREEDY.map((hex) => Buffer.from(hex, 'hex'))]) {
    assert.throws(() => decodeMessage(gossipHaveSchema, frame, LIMITS.gossip), { code: 'bad-message' })
  }
})
