// Where blobs are cut, and sets of chunks, against plain models of both.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  ChunkMap,
  chunkLength,
  chunksOf,
  DEFAULT_CHUNK_BYTES,
  fixedSlices,
  MAX_CHUNK_BYTES,
  MAX_CHUNKS,
  parseGeometry,
  toRuns,
} from '@shoal/protocol/chunks.ts'
import { asShoalError } from '@shoal/protocol/errors.ts'
import fc from 'fast-check'

const geometry = fc
  .record({ chunkBytes: fc.integer({ min: 1_024, max: 5_000 }), sizeBytes: fc.nat({ max: 300_000 }) })
  .map(({ chunkBytes, sizeBytes }) => fixedSlices(sizeBytes, chunkBytes))

function codeOf(work: () => unknown): string | undefined {
  try {
    work()
    return undefined
  } catch (error) {
    return asShoalError(error)?.code ?? (error as Error).name
  }
}

test('chunks cover a blob without gap or overlap, and none is empty', () => {
  fc.assert(
    fc.property(geometry, (cuts) => {
      let end = 0
      for (let index = 0; index < cuts.chunkCount; index++) {
        const range = cuts.range(index)
        assert.equal(range.start, end)
        assert.ok(range.end > range.start)
        assert.equal(chunkLength(cuts, index), range.end - range.start)
        assert.equal(cuts.indexAt(range.start), index)
        assert.equal(cuts.indexAt(range.end - 1), index)
        end = range.end
      }
      assert.equal(end, cuts.sizeBytes)
    }),
  )
})

test('the chunks of a range are exactly those that share a byte with it', () => {
  fc.assert(
    fc.property(geometry, fc.nat(), fc.nat(), (cuts, a, b) => {
      const size = cuts.sizeBytes
      const [start = 0, end = 0] = [a % (size + 1), b % (size + 1)].toSorted((x, y) => x - y)
      const { first, afterLast } = chunksOf(cuts, { start, end })
      for (let index = 0; index < cuts.chunkCount; index++) {
        const chunk = cuts.range(index)
        const shares = start < end && chunk.start < end && chunk.end > start
        assert.equal(index >= first && index < afterLast, shares, `chunk ${index} of ${start}-${end}`)
      }
    }),
  )
})

test('a geometry is given back by its text', () => {
  fc.assert(
    fc.property(geometry, (cuts) => {
      const again = parseGeometry(cuts.text)
      assert.deepEqual(
        [again.sizeBytes, again.chunkCount, again.text],
        [cuts.sizeBytes, cuts.chunkCount, cuts.text],
      )
    }),
  )
})

for (const { text, code } of [
  { text: '', code: 'bad-request' },
  { text: 'slices:4194304', code: 'bad-request' },
  { text: 'slices:4194304:-1', code: 'bad-request' },
  { text: 'slices:0:10', code: 'bad-request' },
  { text: 'slices:1023:10', code: 'bad-request' },
  { text: `slices:${MAX_CHUNK_BYTES + 1}:10`, code: 'bad-request' },
  { text: 'slices:4194304:99999999999999999999', code: 'bad-request' },
  { text: 'slices:4194304:9999999999999999', code: 'bad-request' },
  { text: `slices:1024:${1024 * MAX_CHUNKS + 1}`, code: 'too-large' },
  { text: 'slices:4194304:10\n', code: 'bad-request' },
  { text: ' slices:4194304:10', code: 'bad-request' },
  { text: 'slices:1e6:10', code: 'bad-request' },
  { text: 'xet:4194304:10', code: 'bad-request' },
]) {
  test(`the geometry ${JSON.stringify(text)} is refused`, () => {
    assert.equal(
      codeOf(() => parseGeometry(text)),
      code,
    )
  })
}

test('sizes and indices that make no sense are refused', () => {
  for (const size of [-1, 0.5, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 53])
    assert.equal(
      codeOf(() => fixedSlices(size)),
      'bad-request',
      `${size}`,
    )
  const cuts = fixedSlices(DEFAULT_CHUNK_BYTES * 2 + 1, DEFAULT_CHUNK_BYTES)
  assert.equal(cuts.chunkCount, 3)
  for (const index of [-1, 3, 0.5, Number.NaN]) assert.throws(() => cuts.range(index), RangeError)
  for (const offset of [-1, cuts.sizeBytes, 0.5]) assert.throws(() => cuts.indexAt(offset), RangeError)
})

test('small blobs are cut finer', () => {
  const MIB = 1024 * 1024
  const countOf = (mib: number) => fixedSlices(mib * MIB).chunkCount
  assert.deepEqual([1, 64, 256, 512, 1024, 1025].map(countOf), [1, 64, 256, 256, 512, 257])
  assert.equal(fixedSlices(256 * MIB + 1).text, `slices:${2 * MIB}:${256 * MIB + 1}`)
})

test('an empty blob has no chunks and no range has any', () => {
  const cuts = fixedSlices(0)
  assert.equal(cuts.chunkCount, 0)
  assert.deepEqual(chunksOf(cuts, { start: 0, end: 0 }), { first: 0, afterLast: 0 })
})

test('the largest blob the Hub takes has no more chunks than a map may', () => {
  assert.equal(fixedSlices(5 * 1024 ** 4).chunkCount, MAX_CHUNKS)
})

test('a chunk map does what a set of numbers does', () => {
  const step = fc.record({ add: fc.boolean(), index: fc.nat({ max: 80 }) })
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 80 }),
      fc.array(step, { maxLength: 120 }),
      fc.nat({ max: 90 }),
      (count, steps, from) => {
        const map = new ChunkMap(count)
        const model = new Set<number>()
        for (const { add, index } of steps) {
          if (index >= count) {
            assert.throws(() => (add ? map.add(index) : map.delete(index)), RangeError)
            continue
          }
          assert.equal(add ? map.add(index) : map.delete(index), add ? !model.has(index) : model.has(index))
          if (add) model.add(index)
          else model.delete(index)
        }
        assert.equal(map.held, model.size)
        assert.equal(map.complete, model.size === count)
        assert.deepEqual(
          [...map.indices()],
          [...model].toSorted((a, b) => a - b),
        )
        let missing = from
        while (missing < count && model.has(missing)) missing++
        assert.equal(map.firstMissing(from), Math.min(missing, count))
        for (let index = -1; index <= count; index++) assert.equal(map.has(index), model.has(index))
        const copy = map.clone()
        assert.deepEqual(ChunkMap.decode(map.encode(), count), copy)
        if (copy.add(0)) assert.equal(map.has(0), false, 'a clone is a copy')
      },
    ),
  )
})

test('the first common chunk of two maps is what their intersection says', () => {
  const indices = fc.array(fc.nat({ max: 99 }), { maxLength: 60 })
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 100 }),
      indices,
      indices,
      fc.nat({ max: 99 }),
      (count, here, there, from) => {
        const left = mapOf(count, here)
        const right = mapOf(count, there)
        const expected = Array.from({ length: count }, (_, index) => index).find(
          (index) => index >= from && left.has(index) && right.has(index),
        )
        assert.equal(left.firstCommon(right, from), expected ?? count)
      },
    ),
  )
})

test('a full map is full and survives encoding, at every count around a byte', () => {
  for (let count = 0; count <= 33; count++) {
    const map = ChunkMap.full(count)
    assert.ok(map.complete)
    assert.equal(map.firstMissing(), count)
    assert.deepEqual(ChunkMap.decode(map.encode(), count).held, count)
  }
})

test('a map of another length or with bits beyond its end is refused', () => {
  for (const [bytes, count] of [
    [[], 1],
    [[0], 0],
    [[0, 0], 8],
    [[0], 9],
    [[0b1000_0000], 7],
    [[0xff, 0b10], 9],
  ] as const)
    assert.equal(
      codeOf(() => ChunkMap.decode(Uint8Array.from(bytes), count)),
      'bad-message',
      `${bytes} of ${count}`,
    )
  for (const count of [-1, 0.5, MAX_CHUNKS + 1, Number.NaN, 2 ** 32])
    assert.equal(
      codeOf(() => new ChunkMap(count)),
      'bad-message',
    )
})

test('what is decoded does not change with the bytes it came from', () => {
  const bytes = Uint8Array.of(1)
  const map = ChunkMap.decode(bytes, 8)
  bytes[0] = 0xff
  assert.equal(map.held, 1)
  map.encode()[0] = 0xff
  assert.equal(map.held, 1)
})

test('runs list sorted indices without loss', () => {
  fc.assert(
    fc.property(fc.uniqueArray(fc.nat({ max: 300 })), (given) => {
      const sorted = given.toSorted((a, b) => a - b)
      const runs = toRuns(sorted)
      assert.deepEqual(
        runs.flatMap(([first, length]) => Array.from({ length }, (_, at) => first + at)),
        sorted,
      )
      for (const [place, [first, length]] of runs.entries()) {
        const next = runs[place + 1]
        assert.ok(length >= 1 && (next === undefined || next[0] > first + length), 'no two runs touch')
      }
    }),
  )
})

function mapOf(count: number, indices: readonly number[]): ChunkMap {
  const map = new ChunkMap(count)
  for (const index of indices) if (index < count) map.add(index)
  return map
}
