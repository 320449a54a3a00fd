// What a plan does for those who read while it downloads, one decision at a time.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  ORIGIN,
  READER_PATIENCE_MS,
  READER_YIELD_MS,
  WINDOW_CHUNKS,
} from '@shoal/agent/plan/download-plan.ts'
import { SourceScores } from '@shoal/agent/plan/source-score.ts'
import { BYTES, mapOf, newPlan, shown } from '../support/plan-facts.ts'

test('a reader gets its window first and in order, before the rarest chunks', () => {
  const plan = newPlan(100, { totalDepth: 10 })
  for (const peer of ['a', 'b', 'c']) plan.peerState(peer, { holds: 'all', wanting: false }, 0)
  const scores = new SourceScores()
  for (const peer of ['a', 'b', 'c']) for (let at = 0; at < 4; at++) scores.success(peer, BYTES, 100)
  const trusted = newPlan(100, { totalDepth: 10 }, scores)
  for (const peer of ['a', 'b', 'c']) trusted.peerState(peer, { holds: 'all', wanting: false }, 0)
  trusted.want(1, 40, 100, 0)
  const windows = trusted.next(1).start.filter(({ why }) => why === 'window')
  assert.deepEqual(
    windows.map(({ index }) => index),
    [40, 41, 42, 43, 44, 45, 46, 47],
  )
  // Peers that have proven nothing get one request each; the window still comes first.
  plan.want(1, 40, 100, 0)
  assert.deepEqual(
    plan.next(1).start.map(({ index }) => index),
    [40, 41, 42],
  )
})

test('a reader near the end has the last chunk asked for early', () => {
  const plan = newPlan(100, { whole: false })
  plan.want(1, 60, 100, 0)
  const indices = plan.next(1).start.map(({ index }) => index)
  assert.deepEqual(
    indices,
    [60, 61],
    'two, though the line is not measured yet: what is waited for and the next',
  )
  assert.deepEqual(plan.next(1).start, [])
  const wide = newPlan(100, { whole: false, originDepth: 16 })
  wide.want(1, 60, 100, 0)
  let now = 1
  const asked = new Set<number>()
  for (let round = 0; round < 8 && asked.size < 9; round++) {
    const { start } = wide.next(now)
    now += 10
    for (const { id, index } of start) {
      asked.add(index)
      if (asked.size < 6) wide.stored(id, BYTES, now)
    }
  }
  assert.ok(asked.has(99), `asked for ${[...asked].join()}`)
  assert.ok(!asked.has(60 + WINDOW_CHUNKS))
})

test('a download of a part fetches only what readers want, and stops when they leave', () => {
  const plan = newPlan(100, { whole: false })
  assert.deepEqual(plan.next(1), { start: [], cancel: [], wakeAt: undefined })
  plan.want(1, 10, 12, 1)
  const asked = [2, 50].flatMap((now) => {
    const decision = plan.next(now)
    for (const { id } of decision.start) plan.stored(id, BYTES, now + 48)
    return shown(decision)
  })
  assert.deepEqual(asked, ['10 origin window', '11 origin window'])
  assert.deepEqual(plan.next(99).start, [])
  plan.want(1, 50, 60, 100)
  plan.unwant(1)
  assert.deepEqual(plan.next(101).start, [])
})

test('a download of a part becomes one of the whole', () => {
  const plan = newPlan(10, { whole: false })
  plan.fetchWhole()
  assert.equal(plan.whole, true)
  assert.deepEqual(shown(plan.next(1)), ['0 origin owner'])
})

test('a host that only reads a part neither owns chunks nor counts as an owner', () => {
  const reader = newPlan(40, { whole: false })
  reader.peerState('other', { holds: undefined, wanting: true }, 0)
  reader.want(1, 0, 40, 0)
  assert.deepEqual(reader.next(1).start, [], 'the puller owns all of it')
  const puller = newPlan(40)
  puller.peerState('reader', { holds: mapOf(40, 7), wanting: false }, 0)
  assert.ok(puller.next(1).start.some(({ index, source }) => index === 0 && source === ORIGIN))
})

test('a reader leaves a chunk to its owner for a moment, then goes to the origin itself', () => {
  const plan = newPlan(40, { whole: false })
  plan.peerState('owner', { holds: undefined, wanting: true }, 0)
  plan.want(1, 5, 40, 100)
  const waiting = plan.next(101)
  assert.deepEqual(waiting.start, [])
  assert.equal(waiting.wakeAt, 100 + READER_YIELD_MS)
  const decision = plan.next(100 + READER_YIELD_MS)
  assert.deepEqual(shown(decision), ['5 origin window', '6 origin window'])
  plan.stored(decision.start[0]?.id ?? 0, BYTES, 1_300)
  plan.want(1, 6, 40, 1_300)
  assert.deepEqual(shown(plan.next(1_300)), ['7 origin window'], 'and does not wait for each chunk anew')
})

test('a reader waits longer for a chunk that somebody has or is fetching, but not for ever', () => {
  for (const state of [
    { holds: undefined, wanting: true, claimed: [5] },
    { holds: 'all', wanting: false },
  ] as const) {
    const scores = new SourceScores()
    const plan = newPlan(40, { whole: false }, scores)
    plan.peerState('peer', state, 0)
    plan.want(1, 5, 6, 100)
    let now = 101
    let asked: number | undefined
    while (asked === undefined && now < 20_000) {
      if (now % 2_000 < 10) plan.peerState('peer', state, now)
      for (const { id, source } of plan.next(now).start) {
        if (source === ORIGIN) asked = now
        else plan.failed(id, 'peer-busy', now)
      }
      now += 10
    }
    assert.ok(asked !== undefined && asked <= 100 + READER_PATIENCE_MS + 20, `asked at ${asked}`)
    assert.ok(asked > 100 + READER_YIELD_MS + 1_000)
  }
})

test('a reader stuck behind a trickling peer gets its chunk from another source', () => {
  const plan = newPlan(4, { whole: false })
  plan.peerState('trickle', { holds: 'all', wanting: false }, 0)
  plan.want(1, 0, 1, 0)
  const [first] = plan.next(1).start
  assert.equal(first?.source, 'trickle')
  let second: string | undefined
  let now = 1
  for (; second === undefined && now < 20_000; now += 500) {
    plan.progress(first?.id ?? 0, now)
    second = plan.next(now).start[0]?.source
  }
  assert.equal(second, ORIGIN)
  assert.ok(now <= READER_PATIENCE_MS + 1_000, `${now} ms`)
})
