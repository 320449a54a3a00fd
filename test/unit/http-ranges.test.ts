// Range, If-Range and If-None-Match: rows of everything clients and attackers send, and a property against a plain reading.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { listsEtag, rangeStands, readRange } from '@shoal/agent/http/ranges.ts'
import fc from 'fast-check'

const SEED = Number(process.env.SEED ?? 20_260_102)

/** `start-end` half-open, `…+` when open-ended, else the kind. */
function shown(header: string | undefined, size: number): string {
  const answer = readRange(header, size)
  if (answer.kind !== 'part') return answer.kind
  return `${answer.range.start}-${answer.range.end}${answer.openEnded ? '+' : ''}`
}

const ROWS: readonly (readonly [header: string | undefined, size: number, expected: string])[] = [
  [undefined, 10, 'whole'],
  ['bytes=0-0', 10, '0-1'],
  ['bytes=0-', 10, '0-10+'],
  ['bytes=3-', 10, '3-10+'],
  ['bytes=2-5', 10, '2-6'],
  ['bytes=2-99', 10, '2-10'],
  ['bytes=9-9', 10, '9-10'],
  ['bytes=-1', 10, '9-10'],
  ['bytes=-10', 10, '0-10'],
  ['bytes=-99', 10, '0-10'],
  ['bytes=-0', 10, 'unsatisfiable'],
  ['bytes=10-', 10, 'unsatisfiable'],
  ['bytes=10-10', 10, 'unsatisfiable'],
  ['bytes=9007199254740992-', 10, 'unsatisfiable'],
  ['bytes=18446744073709551616-', 10, 'unsatisfiable'],
  ['bytes=0-18446744073709551616', 10, '0-10'],
  ['bytes=-18446744073709551616', 10, '0-10'],
  ['bytes=5-4', 10, 'whole'],
  ['bytes=0-0,2-3', 10, 'whole'],
  [`bytes=${'0-0,'.repeat(10_000)}0-0`, 10, 'whole'],
  ['bytes=0-0, bytes=1-1', 10, 'whole'],
  [`bytes=${'9'.repeat(15_000)}-`, 10, 'whole'],
  ['bytes=bbef02', 10, 'whole'],
  ['bytes=-', 10, 'whole'],
  ['bytes=', 10, 'whole'],
  ['bytes=1', 10, 'whole'],
  ['bytes=-1-2', 10, 'whole'],
  ['bytes=0x1-0x2', 10, 'whole'],
  ['bytes=1.5-2', 10, 'whole'],
  ['items=0-1', 10, 'whole'],
  ['Bytes=0-1', 10, '0-2'],
  [' bytes=0-1 ', 10, '0-2'],
  ['bytes=0-0', 0, 'empty'],
  ['bytes=0-', 0, 'empty'],
  ['bytes=-5', 0, 'empty'],
  [undefined, 0, 'whole'],
]

for (const [header, size, expected] of ROWS) {
  const row = `${(header ?? 'none').slice(0, 40)} of ${size}`
  test(`range ${row} is ${expected}`, () => assert.equal(shown(header, size), expected, row))
}

test('a satisfiable range lies inside the file and is what was asked, cut at its end', () => {
  fc.assert(
    fc.property(fc.nat(2 ** 40), fc.nat(2 ** 40), fc.nat(2 ** 40), (from, length, size) => {
      const answer = readRange(`bytes=${from}-${from + length}`, size)
      if (size === 0) assert.equal(answer.kind, 'empty')
      else if (from >= size) assert.equal(answer.kind, 'unsatisfiable')
      else {
        assert.ok(answer.kind === 'part')
        assert.deepEqual(answer.range, { start: from, end: Math.min(from + length + 1, size) })
      }
    }),
    { seed: SEED },
  )
})

test('If-None-Match finds a tag in a list, weak or strong or bare, and nothing else', () => {
  for (const header of ['"abc"', 'W/"abc"', '"x", W/"abc"', '*', 'abc', ' "x" ,"abc" '])
    assert.ok(listsEtag(header, 'abc'), header)
  for (const header of ['"abcd"', '"x"', '', 'W/', '"ab c"']) assert.ok(!listsEtag(header, 'abc'), header)
  assert.ok(!listsEtag(undefined, 'abc'))
})

test('If-Range lets a range stand only for the same strong tag', () => {
  assert.ok(rangeStands(undefined, 'abc'))
  assert.ok(rangeStands('"abc"', 'abc'))
  for (const header of ['W/"abc"', '"abd"', 'Wed, 21 Oct 2015 07:28:00 GMT', ''])
    assert.ok(!rangeStands(header, 'abc'), header)
})
