// How large the pieces of an answer are: what a stream carries in 20 ms, by what is known to have arrived.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { LARGEST_PIECE_BYTES, PiecePace, SMALLEST_PIECE_BYTES } from '@shoal/agent/net/piece-pace.ts'

const CHUNK = 4 * 1024 * 1024

test('before anything is known pieces are small', () => {
  assert.equal(new PiecePace().pieceBytes, SMALLEST_PIECE_BYTES)
  assert.equal(new PiecePace(1_000).pieceBytes, 1_000)
})

test('after one answer over a fast link pieces are as large as they get, over a slow one as small', () => {
  for (const [tookMs, pieceBytes] of [
    [0, LARGEST_PIECE_BYTES],
    [10, LARGEST_PIECE_BYTES],
    [160, CHUNK / 8],
    [1_000, 83_886],
    [33_000, SMALLEST_PIECE_BYTES],
  ] as const) {
    const pace = new PiecePace()
    pace.arrived(CHUNK, tookMs)
    assert.equal(pace.pieceBytes, pieceBytes, `${tookMs} ms`)
  }
})

test('a refusal or a short last chunk says nothing about the link', () => {
  const pace = new PiecePace()
  pace.arrived(CHUNK, 10)
  pace.arrived(0, 5_000)
  pace.arrived(100, 5_000)
  assert.equal(pace.pieceBytes, LARGEST_PIECE_BYTES)
  pace.arrived(CHUNK, 33_000)
  assert.equal(pace.pieceBytes, SMALLEST_PIECE_BYTES)
})
