// Glob patterns: as Python's fnmatch reads them, because that is what huggingface_hub's users write.
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { matches, takes } from '@shoal/agent/plan/file-filter.ts'
import fc from 'fast-check'

/** Pattern, path, what Python 3.11 `fnmatch.fnmatchcase` says (with `*` added to a pattern that ends in `/`). */
const TABLE: readonly (readonly [pattern: string, path: string, expected: boolean])[] = JSON.parse(
  readFileSync(new URL('../fixtures/fnmatch.json', import.meta.url), 'utf8'),
)

test('patterns match what Python matches', () => {
  assert.ok(TABLE.length > 1_000)
  for (const [pattern, path, expected] of TABLE)
    assert.equal(matches(pattern, path), expected, JSON.stringify([pattern, path]))
})

/** The plainest reading of `*` and `?`: slow, and short enough to be believed. */
function plainly(pattern: readonly string[], path: readonly string[]): boolean {
  const [first, ...rest] = pattern
  if (first === undefined) return path.length === 0
  if (first === '*') return plainly(rest, path) || (path.length > 0 && plainly(pattern, path.slice(1)))
  return path.length > 0 && (first === '?' || first === path[0]) && plainly(rest, path.slice(1))
}

test('stars and question marks match whatever the plainest matcher matches', () => {
  const text = (alphabet: string) =>
    fc.array(fc.constantFrom(...alphabet), { maxLength: 8 }).filter((letters) => letters.at(-1) !== '/')
  fc.assert(
    fc.property(text('ab/*?😀'), text('ab/😀'), (pattern, path) => {
      assert.equal(matches(pattern.join(''), path.join('')), plainly(pattern, path))
    }),
    { numRuns: 2_000 },
  )
})

test('a path without special characters matches itself alone, and what is built around it', () => {
  const path = fc.string({ minLength: 1, unit: 'grapheme' }).filter((text) => !/[*?[\]/]/.test(text))
  fc.assert(
    fc.property(path, path, (one, other) => {
      assert.ok(matches(one, one))
      assert.equal(matches(one, other), one === other)
      assert.ok(matches(`*${one}`, `${other}/${one}`))
      assert.ok(matches(`${one}/`, `${one}/${other}`))
      assert.ok(!matches(`${one}/`, one))
      assert.ok(matches(`[!/]*`, one))
    }),
  )
})

test('a pattern full of stars is answered at once', () => {
  const startedAt = performance.now()
  assert.equal(matches(`${'*a'.repeat(500)}b`, 'a'.repeat(4_000)), false)
  assert.ok(performance.now() - startedAt < 2_000)
})

test('a pull takes what some include names and no exclude does', () => {
  const rows: readonly (readonly [include: string[], exclude: string[], path: string, taken: boolean])[] = [
    [[], [], 'a.bin', true],
    [['*.safetensors'], [], 'a.bin', false],
    [['*.safetensors', '*.bin'], [], 'a.bin', true],
    [[], ['*.bin'], 'a.bin', false],
    [['a.*'], ['*.bin'], 'a.bin', false],
    [['a.*'], ['*.bin'], 'a.json', true],
    [['onnx/'], ['*_int8*'], 'onnx/model_int8.onnx', false],
  ]
  for (const [include, exclude, path, taken] of rows)
    assert.equal(takes({ include, exclude }, path), taken, JSON.stringify([include, exclude, path]))
})
