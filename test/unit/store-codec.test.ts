import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  decodeJournal,
  decodeSidecarHeader,
  decodeSidecarRecord,
  encodeChunkSlot,
  encodeJournalHeader,
  encodeSidecar,
  encodeSyncSlot,
  SLOT_BYTES,
  sidecarRecordRange,
} from '@shoal/agent/store/chunk-codec.ts'
import { decodeRow, encodeRow } from '@shoal/agent/store/index-db.ts'
import { fixedSlices } from '@shoal/protocol/chunks.ts'
import { parseBlobId } from '@shoal/protocol/ids.ts'
import type { ChunkVoucher } from '@shoal/protocol/messages.ts'
import fc from 'fast-check'

const seed = Number(process.env.SEED ?? Math.floor(performance.timeOrigin) % 2 ** 31)
console.log(`SEED=${seed}`)
const params = { seed, numRuns: 300 } as const

const blob = parseBlobId(`sha256:${'ab'.repeat(32)}`)
const otherBlob = parseBlobId(`sha256:${'cd'.repeat(32)}`)
const geometry = fixedSlices(64 * 1024, 1024)

function voucherOf(index: number): ChunkVoucher {
  return {
    digest: new Uint8Array(32).fill(index),
    author: new Uint8Array(32).fill(100 + (index % 3)),
    signature: new Uint8Array(64).fill(200 - index),
  }
}

function journalOf(indices: readonly number[], syncedAfter: number): Buffer {
  const header = encodeJournalHeader(blob, geometry)
  const slots = indices.map((index) => encodeChunkSlot(header.seed, index, voucherOf(index)))
  const before = slots.slice(0, syncedAfter)
  const sync = encodeSyncSlot(header.seed, before.length)
  return Buffer.concat([header.bytes, ...before, sync, ...slots.slice(syncedAfter)])
}

const written = fc
  .uniqueArray(fc.integer({ min: 0, max: 63 }), { minLength: 1, maxLength: 64 })
  .chain((indices) => fc.tuple(fc.constant(indices), fc.integer({ min: 0, max: indices.length })))

function sameVoucher(a: ChunkVoucher | undefined, b: ChunkVoucher): boolean {
  return (
    a !== undefined &&
    Buffer.compare(a.digest, b.digest) === 0 &&
    Buffer.compare(a.author, b.author) === 0 &&
    Buffer.compare(a.signature, b.signature) === 0
  )
}

/** Nothing but chunks that were written, each as it was written; nothing synced that was not. */
function assertNothingInvented(bytes: Buffer, indices: readonly number[], syncedAfter: number): void {
  const content = decodeJournal(bytes, blob)
  if (content === undefined) return
  for (const [index, { voucher, slot }] of content.chunks) {
    assert.ok(indices.includes(index), `chunk ${index} was never written`)
    assert.ok(sameVoucher(voucher, voucherOf(index)), `voucher of chunk ${index}`)
    if (slot < content.syncedSlots)
      assert.ok(indices.indexOf(index) < syncedAfter, `chunk ${index} was not synced`)
  }
}

test('a journal gives back every chunk that was written and which of them were synced', () => {
  fc.assert(
    fc.property(written, ([indices, syncedAfter]) => {
      const content = decodeJournal(journalOf(indices, syncedAfter), blob)
      assert.deepEqual([...(content?.chunks.keys() ?? [])].sort(), [...indices].sort())
      assert.equal(content?.syncedSlots, syncedAfter)
      assertNothingInvented(journalOf(indices, syncedAfter), indices, syncedAfter)
    }),
    params,
  )
})

test('a journal cut anywhere keeps the chunks before the cut and invents none', () => {
  fc.assert(
    fc.property(written, fc.double({ min: 0, max: 1, noNaN: true }), ([indices, syncedAfter], where) => {
      const whole = journalOf(indices, syncedAfter)
      const cut = Math.floor(where * whole.byteLength)
      assertNothingInvented(whole.subarray(0, cut), indices, syncedAfter)
      const content = decodeJournal(whole.subarray(0, cut), blob)
      if (content === undefined) return
      const slots = Math.floor((cut - content.headerBytes) / SLOT_BYTES)
      const chunksBefore = slots > syncedAfter ? slots - 1 : slots
      assert.equal(content.chunks.size, chunksBefore)
    }),
    params,
  )
})

test('a journal with flipped bits loses chunks and invents none', () => {
  fc.assert(
    fc.property(
      written,
      fc.array(fc.nat(), { minLength: 1, maxLength: 8 }),
      ([indices, syncedAfter], flips) => {
        const bytes = journalOf(indices, syncedAfter)
        for (const flip of flips) {
          const bit = flip % (bytes.byteLength * 8)
          bytes[bit >> 3] = (bytes[bit >> 3] ?? 0) ^ (1 << (bit & 7))
        }
        assertNothingInvented(bytes, indices, syncedAfter)
      },
    ),
    params,
  )
})

test('a journal followed by zeros or noise, as a power loss leaves it, invents no chunk', () => {
  fc.assert(
    fc.property(
      written,
      fc.oneof(fc.uint8Array({ maxLength: 600 }), fc.constant(new Uint8Array(SLOT_BYTES * 3))),
      ([indices, syncedAfter], tail) => {
        const whole = journalOf(indices, syncedAfter)
        assertNothingInvented(Buffer.concat([whole, tail]), indices, syncedAfter)
        assert.equal(decodeJournal(Buffer.concat([whole, tail]), blob)?.chunks.size, indices.length)
      },
    ),
    params,
  )
})

test('records of one journal are worth nothing in another', () => {
  const header = encodeJournalHeader(otherBlob, geometry)
  const foreign = encodeChunkSlot(header.seed, 3, voucherOf(3))
  const own = journalOf([1], 1)
  assert.deepEqual([...(decodeJournal(Buffer.concat([own, foreign]), blob)?.chunks.keys() ?? [])], [1])
  assert.equal(decodeJournal(own, otherBlob), undefined)
})

test('a sidecar gives back each voucher and its authors once', () => {
  const bytes = encodeSidecar(blob, geometry.sizeBytes, geometry, (index) =>
    index === 5 ? undefined : voucherOf(index),
  )
  const header = decodeSidecarHeader(bytes, blob)
  assert.ok(header !== undefined)
  assert.equal(header.authors.length, 3)
  assert.equal(header.sizeBytes, geometry.sizeBytes)
  for (let index = 0; index < geometry.chunkCount; index++) {
    const { start, length } = sidecarRecordRange(header, index)
    const voucher = decodeSidecarRecord(header, index, bytes.subarray(start, start + length))
    if (index === 5) assert.equal(voucher, undefined)
    else assert.ok(sameVoucher(voucher, voucherOf(index)), `chunk ${index}`)
  }
  assert.equal(decodeSidecarHeader(bytes, otherBlob), undefined)
})

test('a damaged sidecar gives a right voucher or none', () => {
  fc.assert(
    fc.property(fc.nat(), fc.nat(), (flip, cut) => {
      const bytes = encodeSidecar(blob, geometry.sizeBytes, geometry, voucherOf)
      const bit = flip % (bytes.byteLength * 8)
      bytes[bit >> 3] = (bytes[bit >> 3] ?? 0) ^ (1 << (bit & 7))
      const damaged = bytes.subarray(0, cut % 5 === 0 ? cut % bytes.byteLength : undefined)
      const header = decodeSidecarHeader(damaged, blob)
      if (header === undefined) return
      assert.equal(header.sizeBytes, geometry.sizeBytes)
      let lost = 0
      for (let index = 0; index < geometry.chunkCount; index++) {
        const { start, length } = sidecarRecordRange(header, index)
        const voucher = decodeSidecarRecord(header, index, damaged.subarray(start, start + length))
        if (voucher === undefined) lost++
        else assert.ok(sameVoucher(voucher, voucherOf(index)), `chunk ${index}`)
      }
      if (damaged.byteLength === bytes.byteLength) assert.ok(lost <= 1, `${lost} lost by one bit`)
    }),
    params,
  )
})

test('an index row comes back as it was put', () => {
  fc.assert(
    fc.property(fc.string(), fc.jsonValue(), (key, value) => {
      // JSON knows no negative zero.
      const plain: unknown = JSON.parse(JSON.stringify(value))
      assert.deepEqual(decodeRow(key, encodeRow(key, value)), plain)
    }),
    params,
  )
})

test('an index row with any bit flipped, cut anywhere or under another key is a miss', () => {
  fc.assert(
    fc.property(fc.string(), fc.jsonValue(), fc.nat(), (key, value, where) => {
      const row = encodeRow(key, value)
      const bit = where % (row.byteLength * 8)
      const flipped = Uint8Array.from(row)
      flipped[bit >> 3] = (flipped[bit >> 3] ?? 0) ^ (1 << (bit & 7))
      assert.equal(decodeRow(key, flipped), undefined, `bit ${bit}`)
      assert.equal(decodeRow(key, row.subarray(0, where % row.byteLength)), undefined)
      assert.equal(decodeRow(`${key}x`, row), undefined)
    }),
    params,
  )
})
