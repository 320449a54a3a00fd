// How many requests are kept open over one line: enough to fill it, and few more.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { LineDepth } from '@shoal/agent/plan/line-depth.ts'
import fc from 'fast-check'

/** Keeps a line of this rate and delay busy. @returns depths, one for every request that ended */
function used(line: LineDepth, chunkMs: number, delayMs: number, requests: number): number[] {
  const depths: number[] = []
  let now = 0
  let freeAt = 0
  const open: { readonly startedAt: number; readonly endsAt: number }[] = []
  const fill = () => {
    while (open.length < line.depth) {
      freeAt = Math.max(freeAt, now + delayMs) + chunkMs
      open.push({ startedAt: now, endsAt: freeAt })
    }
  }
  for (let done = 0; done < requests; done++) {
    fill()
    const first = open.shift()
    if (first === undefined) break
    now = first.endsAt
    line.ended(now - first.startedAt, open.length + 1)
    depths.push(line.depth)
  }
  return depths
}

test('on a line without delay, where requests only wait for each other, two are kept open', () => {
  const depths = used(new LineDepth(1, 16), 100, 0, 200)
  assert.ok(Math.max(...depths.slice(20)) <= 3, depths.join())
})

test('on a line with much delay as many are kept open as fill it', () => {
  // 20 ms of sending and 200 ms of delay: eleven fill it.
  const depths = used(new LineDepth(1, 32), 20, 200, 400)
  const late = depths.slice(200)
  assert.ok(Math.min(...late) >= 9 && Math.max(...late) <= 26, late.join())
})

test('requests that are all as quick as the first, however many, are raised to the most', () => {
  const line = new LineDepth(1, 6)
  for (let at = 0; at < 20; at++) line.ended(50, line.depth)
  assert.equal(line.depth, 6)
})

test('a quick answer while few were open says nothing about more', () => {
  const line = new LineDepth(4, 16)
  for (let at = 0; at < 20; at++) line.ended(50, 1)
  assert.equal(line.depth, 4)
})

test('a line that has become slow for good is trusted again after a while', () => {
  const line = new LineDepth(1, 8)
  for (let at = 0; at < 20; at++) line.ended(10, line.depth)
  for (let at = 0; at < 30; at++) line.ended(100, line.depth)
  assert.equal(line.depth, 1, 'at first it looks overfull')
  for (let at = 0; at < 400; at++) line.ended(100, line.depth)
  assert.ok(line.depth > 1, `${line.depth}`)
})

test('the depth is never under one nor over the most, whatever is measured', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: -2, max: 40 }),
      fc.integer({ min: -2, max: 20 }),
      fc.array(fc.tuple(fc.double({ min: 0, max: 1e7, noNaN: true }), fc.nat(40))),
      (first, most, ends) => {
        const line = new LineDepth(first, most)
        for (const [tookMs, open] of ends) {
          line.ended(tookMs, open)
          assert.ok(Number.isInteger(line.depth) && line.depth >= 1 && line.depth <= Math.max(1, most))
        }
      },
    ),
  )
})
