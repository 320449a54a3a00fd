// What of the gossip is believed, and how announcements are cut to size.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  BURST_MESSAGES,
  GossipCheck,
  MAX_AUTHORS,
  MESSAGES_PER_SECOND,
  REORDER_MS,
  splitAnnouncement,
} from '@shoal/agent/net/gossip-check.ts'
import { parseBlobId } from '@shoal/protocol/ids.ts'
import {
  CLOCK_TOLERANCE_MS,
  decodeMessage,
  encodeMessage,
  GOSSIP_HAVE_TOPIC,
  GOSSIP_HEALTH_TOPIC,
  GOSSIP_MAX_LIFETIME_MS,
  type GossipHave,
  gossipHaveSchema,
  LIMITS,
} from '@shoal/protocol/messages.ts'
import fc from 'fast-check'

const WALL = 1_750_000_000_000
const blob = parseBlobId(`sha256:${'0f'.repeat(32)}`)

function have(fields: Partial<GossipHave> & { readonly [other: string]: unknown } = {}): Uint8Array {
  return encodeMessage({ sequence: 1, at: WALL, expires: WALL + 60_000, blobs: [], ...fields }, 1 << 20)
}

function verdictOf(check: GossipCheck, data: Uint8Array, now = 0, wall = WALL, author = 'author'): string {
  return check.check(GOSSIP_HAVE_TOPIC, author, data, now, wall).verdict
}

test('a new well-formed announcement is accepted with its content', () => {
  const blobs = [{ blob, geometry: 'slices:4194304:100', state: 'complete' as const, gained: [] }]
  const checked = new GossipCheck().check(GOSSIP_HAVE_TOPIC, 'a', have({ blobs }), 0, WALL)
  assert.equal(checked.verdict, 'accept')
  assert.deepEqual(checked.verdict === 'accept' && checked.content, {
    topic: GOSSIP_HAVE_TOPIC,
    have: { sequence: 1, at: WALL, expires: WALL + 60_000, blobs },
  })
})

const malformed: readonly (readonly [string, Uint8Array])[] = [
  ['no bytes', new Uint8Array()],
  ['not CBOR', Uint8Array.of(0xff, 0xff)],
  ['JSON', Buffer.from('{"sequence":1}')],
  ['trailing byte', Buffer.concat([have(), Uint8Array.of(0)])],
  ['unknown field', have({ extra: 1 })],
  ['missing field', encodeMessage({ sequence: 1, at: WALL, expires: WALL + 1 }, 1024)],
  ['sequence 0', have({ sequence: 0 })],
  ['sequence not an integer', have({ sequence: 1.5 })],
  ['sequence 2^53', have({ sequence: 2 ** 53 })],
  ['negative time', have({ at: -1 })],
  ['a list as blobs of a list', have({ blobs: [[]] as never })],
  [
    'hash of 63 digits',
    have({ blobs: [{ blob: `sha256:${'a'.repeat(63)}` as never, geometry: '', state: 'gone', gained: [] }] }),
  ],
  [
    'hash of 65 digits',
    have({ blobs: [{ blob: `sha256:${'a'.repeat(65)}` as never, geometry: '', state: 'gone', gained: [] }] }),
  ],
  [
    '65 blobs',
    have({
      blobs: Array.from({ length: 65 }, () => ({ blob, geometry: '', state: 'gone' as const, gained: [] })),
    }),
  ],
  ['a run of no chunks', have({ blobs: [{ blob, geometry: '', state: 'wanting', gained: [[0, 0]] }] })],
  [
    'an index beyond all blobs',
    have({ blobs: [{ blob, geometry: '', state: 'wanting', gained: [[2 ** 32, 1]] }] }),
  ],
  ['a lifetime of 0', have({ expires: WALL })],
  ['a negative lifetime', have({ expires: WALL - 1 })],
  ['a lifetime of ten years', have({ expires: WALL + 10 * 365 * 86_400_000 })],
  ['a lifetime one over', have({ expires: WALL + GOSSIP_MAX_LIFETIME_MS + 1 })],
  ['one byte over the limit', new Uint8Array(LIMITS.gossip + 1)],
]
for (const [id, data] of malformed) {
  test(`${id}: is held against whoever forwarded it`, () => {
    assert.equal(verdictOf(new GossipCheck(), data), 'reject')
  })
}

test('a message of exactly the size limit is accepted', () => {
  const run: [number, number] = [1_000_000, 1_000_000]
  const filled = (runs: number, padding: number) =>
    have({
      blobs: [0, 1, 2].map((at) => ({
        blob,
        geometry: 'x'.repeat(Math.min(64, Math.max(0, padding - 64 * at))),
        state: 'wanting' as const,
        gained: Array.from({ length: at === 0 ? runs - 1_000 : 500 }, () => run),
      })),
    })
  let runs = 1_512
  while (filled(runs, 30).byteLength > LIMITS.gossip) runs--
  const missing = LIMITS.gossip - filled(runs, 30).byteLength
  const data = filled(runs, 30 + missing)
  assert.equal(data.byteLength, LIMITS.gossip)
  assert.equal(verdictOf(new GossipCheck(), data), 'accept')
})

test('an unknown topic is ignored without a penalty', () => {
  assert.equal(new GossipCheck().check('shoal/other/1', 'a', have(), 0, WALL).verdict, 'ignore')
})

test('hosts whose clocks differ by up to the tolerance hear each other, by sequence and not by time', () => {
  for (const skew of [-CLOCK_TOLERANCE_MS, -600_000, 600_000, CLOCK_TOLERANCE_MS]) {
    const check = new GossipCheck()
    assert.equal(
      verdictOf(check, have({ at: WALL + skew, expires: WALL + skew + 1_000 })),
      'accept',
      `${skew}`,
    )
    // Newer by sequence, stamped earlier: the author's clock was set back.
    const later = have({ sequence: 2, at: WALL + skew / 2, expires: WALL + skew / 2 + 1_000 })
    assert.equal(verdictOf(check, later), 'accept', `${skew}`)
  }
})

test('a stamp too far from our clock is not believed, and nobody is blamed: it may be our clock', () => {
  for (const skew of [-CLOCK_TOLERANCE_MS - 1, CLOCK_TOLERANCE_MS + 1, 365 * 86_400_000]) {
    const check = new GossipCheck()
    assert.equal(
      verdictOf(check, have({ at: WALL + skew, expires: WALL + skew + 1_000 })),
      'ignore',
      `${skew}`,
    )
    assert.equal(check.size, 0)
  }
})

test('a replay is never delivered; soon after it is nobody’s fault, late it is', () => {
  const check = new GossipCheck()
  assert.equal(verdictOf(check, have({ sequence: 7 })), 'accept')
  assert.equal(verdictOf(check, have({ sequence: 7 }), REORDER_MS), 'ignore')
  assert.equal(verdictOf(check, have({ sequence: 6 }), REORDER_MS), 'ignore')
  assert.equal(verdictOf(check, have({ sequence: 7 }), REORDER_MS + 1), 'reject')
})

test('of any messages of one author in any order, only ever growing sequences are accepted', () => {
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 1, max: 50 }), { maxLength: 60 }), (sequences) => {
      const check = new GossipCheck()
      let highest = 0
      for (const [at, sequence] of sequences.entries()) {
        const accepted = verdictOf(check, have({ sequence }), at) === 'accept'
        assert.equal(accepted, sequence > highest)
        highest = Math.max(highest, sequence)
      }
    }),
  )
})

test('authors and topics do not disturb each other’s sequences', () => {
  const check = new GossipCheck()
  assert.equal(verdictOf(check, have({ sequence: 9 }), 0, WALL, 'a'), 'accept')
  assert.equal(verdictOf(check, have({ sequence: 1 }), 0, WALL, 'b'), 'accept')
  const health = encodeMessage(
    {
      sequence: 1,
      at: WALL,
      expires: WALL + 1_000,
      uploadLoad: 0,
      cpuLoad: 0,
      diskFreeBytes: 0,
      memoryFreeBytes: 0,
      blobsHeld: 0,
      version: '1',
    },
    LIMITS.gossip,
  )
  assert.equal(check.check(GOSSIP_HEALTH_TOPIC, 'a', health, 0, WALL).verdict, 'accept')
  assert.equal(check.check(GOSSIP_HAVE_TOPIC, 'c', health, 0, WALL).verdict, 'reject')
})

test('an author is heard in bursts and then at a steady rate, and a flood of it reaches nobody', () => {
  const check = new GossipCheck()
  let accepted = 0
  // 10,000 messages a second for three seconds.
  for (let sequence = 1; sequence <= 30_000; sequence++) {
    if (verdictOf(check, have({ sequence }), sequence / 10) === 'accept') accepted++
  }
  const most = BURST_MESSAGES + 3 * MESSAGES_PER_SECOND
  assert.ok(accepted <= most + 1 && accepted >= most - 2, `${accepted} of at most ${most}`)
  assert.equal(verdictOf(check, have({ sequence: 40_000 }), 60_000), 'accept')
})

test('a million authors take no more memory than the limit', () => {
  const check = new GossipCheck()
  const data = have()
  for (let author = 0; author < 10_000; author++) verdictOf(check, data, author, WALL, `author-${author}`)
  assert.equal(check.size, 3 * MAX_AUTHORS)
})

const announcement = fc.array(
  fc.record({
    blob: fc.constantFrom(blob, parseBlobId(`git-sha1:${'1'.repeat(40)}`)),
    geometry: fc.string({ minLength: 0, maxLength: 64, unit: fc.constantFrom('s', ':', '9') }),
    state: fc.constantFrom('wanting' as const, 'complete' as const, 'gone' as const),
    gained: fc
      .tuple(fc.nat({ max: 2_000 }), fc.boolean())
      .map(([runs, large]) =>
        Array.from({ length: runs }, (_, at): [number, number] => (large ? [1_310_719, 1_310_720] : [at, 1])),
      ),
  }),
  { maxLength: 90, size: 'max' },
)

test('a split announcement says the same, and every part fits a message', () => {
  fc.assert(
    fc.property(announcement, (blobs) => {
      const parts = splitAnnouncement(blobs)
      for (const part of parts) {
        const message = {
          sequence: Number.MAX_SAFE_INTEGER,
          at: Number.MAX_SAFE_INTEGER,
          expires: Number.MAX_SAFE_INTEGER,
          blobs: part,
        }
        const decoded = decodeMessage(gossipHaveSchema, encodeMessage(message, LIMITS.gossip), LIMITS.gossip)
        assert.deepEqual(decoded.blobs, part)
      }
      const told = parts.flat()
      // Entries of one blob that were cut follow each other; joined they are what was given.
      let at = 0
      for (const whole of blobs) {
        const gained: (readonly [number, number])[] = []
        do {
          const piece = told[at++]
          assert.ok(piece)
          assert.deepEqual(
            { blob: piece.blob, geometry: piece.geometry, state: piece.state },
            { blob: whole.blob, geometry: whole.geometry, state: whole.state },
          )
          gained.push(...piece.gained)
        } while (gained.length < whole.gained.length)
        assert.deepEqual(gained, whole.gained)
      }
      assert.equal(at, told.length)
    }),
    { numRuns: 40 },
  )
})

test('nothing to announce is no message', () => {
  assert.deepEqual(splitAnnouncement([]), [])
})
