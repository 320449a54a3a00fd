import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { test } from 'node:test'
import { blobDigest, createBlobDigest, loadHashing, sha256 } from '@shoal/agent/hashing.ts'

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex')
/** The input of the official BLAKE3 test vectors: bytes 0 to 250, over and over. */
const vectorInput = (length: number) => Uint8Array.from({ length }, (_, index) => index % 251)

// Source: BLAKE3 reference, test_vectors/test_vectors.json, first 32 bytes of `hash`.
const BLAKE3_VECTORS = [
  [0, 'af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262'],
  [1, '2d3adedff11b61f14c886e35afa036736dcd87a74d27b5c1510225d0f592e213'],
  [1024, '42214739f095a406f3fc83deb889744ac00df831c10daa55189b5d121c855af7'],
  [1025, 'd00278ae47eb27b34faecf67b4fe263f82d5412916c1ffd97c8cb7fb814b8444'],
] as const

test('BLAKE3 gives the official results, native and wasm', async () => {
  for (const want of ['fastest', 'wasm'] as const) {
    const { blake3, kind } = await loadHashing(want)
    for (const [length, digest] of BLAKE3_VECTORS)
      assert.equal(hex(blake3(vectorInput(length))), digest, `${kind}, ${length} bytes`)
  }
})

test('both BLAKE3 libraries agree on chunks, and on views into larger buffers', async () => {
  const [fast, wasm] = await Promise.all([loadHashing(), loadHashing('wasm')])
  assert.equal(wasm.kind, 'wasm')
  const large = Buffer.from(vectorInput(5 * 1024 * 1024))
  for (const view of [large, large.subarray(7, 4 * 1024 * 1024 + 7), large.subarray(3, 4)])
    assert.equal(hex(fast.blake3(view)), hex(wasm.blake3(view)), `${view.byteLength} bytes`)
})

test('a blob of a repository is named by the digest that git and LFS give it', () => {
  // `git hash-object` of "hello\n" and of nothing.
  assert.equal(blobDigest('git-sha1', Buffer.from('hello\n')), 'ce013625030ba8dba906f756967f9e9ca394464a')
  assert.equal(blobDigest('git-sha1', new Uint8Array()), 'e69de29bb2d1d6434b8b29ae775ad8c2e48c5391')
  assert.equal(
    blobDigest('sha256', new Uint8Array()),
    'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855',
  )
})

test('a digest fed in pieces equals the digest of the whole', () => {
  const bytes = vectorInput(100_000)
  for (const algorithm of ['sha256', 'git-sha1'] as const) {
    const digest = createBlobDigest(algorithm, bytes.byteLength)
    for (let at = 0; at < bytes.byteLength; at += 7919) digest.update(bytes.subarray(at, at + 7919))
    assert.equal(digest.hex(), blobDigest(algorithm, bytes), algorithm)
  }
  assert.equal(hex(sha256(bytes)), createHash('sha256').update(bytes).digest('hex'))
})
