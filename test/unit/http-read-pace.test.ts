// Sizes of pieces for clients of any speed, and the memory they may use together.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ReadBuffers } from '@shoal/agent/http/read-buffers.ts'
import {
  LARGE_PIECE_BYTES,
  MIDDLE_PIECE_BYTES,
  PROVES_NOTHING_BYTES,
  ReadPace,
  SMALL_PIECE_BYTES,
} from '@shoal/agent/plan/read-pace.ts'

/** Sends `bytes` to a client that takes so many a millisecond. @returns the largest piece it was given */
function sendAll(pace: ReadPace, bytes: number, bytesPerMs: number): number {
  let largest = 0
  for (let sent = 0; sent < bytes; ) {
    const piece = pace.pieceBytes
    largest = Math.max(largest, piece)
    pace.took(piece, piece / bytesPerMs)
    sent += piece
  }
  return largest
}

test('what the kernel takes for any client earns no large piece; a fast client gets one after that', () => {
  const pace = new ReadPace()
  assert.equal(sendAll(pace, PROVES_NOTHING_BYTES, Number.POSITIVE_INFINITY), MIDDLE_PIECE_BYTES)
  assert.equal(sendAll(pace, LARGE_PIECE_BYTES, 1_000_000), LARGE_PIECE_BYTES)
})

test('a client that becomes slow gets small pieces from the next one on, and large ones again when it is fast', () => {
  const pace = new ReadPace()
  sendAll(pace, 64 * 1024 * 1024, 1_000_000)
  assert.equal(pace.pieceBytes, LARGE_PIECE_BYTES)
  pace.took(LARGE_PIECE_BYTES, 60_000)
  assert.equal(pace.pieceBytes, SMALL_PIECE_BYTES)
  sendAll(pace, 4 * 1024 * 1024, 1_000_000)
  assert.equal(pace.pieceBytes, LARGE_PIECE_BYTES)
})

test('a client of 5 MB/s is never given more than 256 KiB at once', () => {
  assert.equal(sendAll(new ReadPace(), 256 * 1024 * 1024, 5_000), MIDDLE_PIECE_BYTES)
})

test('buffers lent never exceed the budget, but for the smallest', () => {
  const buffers = new ReadBuffers(5 * 1024 * 1024)
  assert.equal(buffers.take(LARGE_PIECE_BYTES).byteLength, LARGE_PIECE_BYTES)
  assert.equal(buffers.takeSecond()?.byteLength, LARGE_PIECE_BYTES)
  assert.equal(buffers.takeSecond(), undefined)
  for (let left = 0; left < 4; left++)
    assert.equal(buffers.take(LARGE_PIECE_BYTES).byteLength, MIDDLE_PIECE_BYTES)
  assert.equal(buffers.take(LARGE_PIECE_BYTES).byteLength, SMALL_PIECE_BYTES)
  assert.equal(buffers.lentBytes, 5 * 1024 * 1024 + SMALL_PIECE_BYTES)
})

test('a short range takes the smallest buffer that holds it', () => {
  const buffers = new ReadBuffers(8 * 1024 * 1024)
  assert.equal(buffers.take(1).byteLength, SMALL_PIECE_BYTES)
  assert.equal(buffers.take(SMALL_PIECE_BYTES + 1).byteLength, MIDDLE_PIECE_BYTES)
  assert.equal(buffers.take(MIDDLE_PIECE_BYTES + 1).byteLength, LARGE_PIECE_BYTES)
})

test('a buffer that is given back is lent again; one that its last user may still read never is', () => {
  const buffers = new ReadBuffers(8 * 1024 * 1024)
  const first = buffers.take(LARGE_PIECE_BYTES)
  buffers.give(first)
  assert.equal(buffers.take(LARGE_PIECE_BYTES), first)
  buffers.drop(first)
  assert.notEqual(buffers.take(LARGE_PIECE_BYTES), first)
  assert.equal(buffers.lentBytes, LARGE_PIECE_BYTES)
})
