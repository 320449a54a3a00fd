// DownloadPlan, one decision at a time: what it starts, cancels and waits for, given plain facts and a time.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  ENDGAME_AFTER_MS,
  HOPE_MS,
  MAX_ENDGAME,
  ORIGIN,
  SLOW_STALL_MS,
  STALL_MS,
} from '@shoal/agent/plan/download-plan.ts'
import { BAN_MS, SourceScores } from '@shoal/agent/plan/source-score.ts'
import { ChunkMap } from '@shoal/protocol/chunks.ts'
import { seededRandom } from '@shoal/protocol/time.ts'
import { BYTES, mapOf, newPlan, shown, withoutOrigin, withPeer } from '../support/plan-facts.ts'

test('an aborted request is nobody’s fault: it is asked for again at once', () => {
  const plan = newPlan(2, { originDepth: 1 })
  const [assignment] = plan.next(1).start
  assert.ok(assignment)
  assert.equal(plan.failed(assignment.id, 'aborted', 2), false)
  assert.deepEqual(shown(plan.next(2)), ['0 origin owner'])
})

test('a peer that moves nothing for the stall time is replaced, and the time is waited for', () => {
  const plan = newPlan(1)
  for (const peer of ['a', 'b']) plan.peerState(peer, { holds: 'all', wanting: false }, 0)
  const [first] = plan.next(10).start
  assert.ok(first)
  plan.progress(first.id, 400)
  const waiting = plan.next(401)
  assert.deepEqual(waiting.start, [])
  assert.ok((waiting.wakeAt ?? 0) <= 400 + STALL_MS)
  const replaced = plan.next(400 + STALL_MS)
  assert.deepEqual(replaced.cancel, [first.id])
  assert.equal(replaced.start.length, 1)
  assert.notEqual(replaced.start[0]?.source, first.source)
})

test('a proven peer that is alive keeps a chunk that waits in its line for a while, and a silent one does not', () => {
  for (const { alive, replacedAt } of [
    { alive: true, replacedAt: 1 + SLOW_STALL_MS },
    { alive: false, replacedAt: 1 + STALL_MS },
  ]) {
    const scores = new SourceScores()
    scores.success('peer', BYTES, 50)
    const plan = newPlan(1, {}, scores)
    plan.setOrigin(false)
    plan.peerState('peer', { holds: 'all', wanting: false }, 0)
    const [first] = plan.next(1).start
    assert.ok(first)
    let now = 1
    for (let cancelled = false; !cancelled && now < 20_000; ) {
      const { cancel, wakeAt } = plan.next(now)
      cancelled = cancel.includes(first.id)
      if (cancelled) break
      now = Math.min(wakeAt ?? Number.POSITIVE_INFINITY, now + 500)
      if (alive) plan.peerGained('peer', [], now)
    }
    assert.equal(now, replacedAt, alive ? 'alive' : 'silent')
  }
})

test('wrong bytes ban their sender at once, cancel what else it was asked for and stop all further requests', () => {
  const scores = new SourceScores()
  for (let at = 0; at < 4; at++) scores.success('liar', BYTES, 10)
  const plan = newPlan(20, {}, scores)
  plan.peerState('liar', { holds: 'all', wanting: false }, 0)
  const { start } = plan.next(1)
  assert.ok(start.length > 1)
  const [first, ...others] = start.map(({ id }) => id)
  assert.equal(plan.failed(first ?? 0, 'chunk-corrupt', 2), true)
  const decision = plan.next(3)
  assert.deepEqual(decision.cancel, others)
  assert.ok(decision.start.every(({ source }) => source === ORIGIN))
  assert.ok(plan.next(BAN_MS).start.every(({ source }) => source === ORIGIN))
})

test('a peer that leaves takes its requests with it: the next decision cancels them and asks elsewhere', () => {
  const plan = newPlan(1)
  plan.peerState('a', { holds: 'all', wanting: false }, 0)
  const [first] = plan.next(1).start
  assert.ok(first)
  plan.removePeer('a')
  assert.equal(plan.flightCount, 0)
  const decision = plan.next(2)
  assert.deepEqual(decision.cancel, [first.id])
  assert.deepEqual(shown(decision), ['0 origin owner'])
  assert.deepEqual(plan.next(3).cancel, [], 'told once')
})

test('a chunk that was stored before word of its cancellation came counts as stored', () => {
  const plan = newPlan(1)
  plan.peerState('a', { holds: 'all', wanting: false }, 0)
  const [first] = plan.next(1).start
  assert.ok(first)
  plan.removePeer('a')
  const [second] = plan.next(2).start
  assert.ok(second)
  assert.deepEqual(plan.stored(first.id, BYTES, 3), [second.id])
  assert.ok(plan.complete)
  assert.deepEqual(plan.stored(first.id, BYTES, 4), [])
})

test('reports about unknown assignments change nothing', () => {
  const plan = newPlan(2)
  assert.deepEqual(plan.stored(99, BYTES, 1), [])
  assert.equal(plan.failed(99, 'chunk-corrupt', 1), false)
  plan.progress(99, 1)
  plan.removePeer('nobody')
  plan.peerGained('nobody', [0, 1], 1)
  assert.equal(plan.knowsPeer('nobody'), false)
  assert.equal(plan.peerCount(), 0)
})

test('indices beyond the blob in an announcement are passed over', () => {
  const plan = newPlan(4)
  plan.peerState('peer', { holds: undefined, wanting: true }, 0)
  plan.peerGained('peer', [3, 4, 1_000_000], 1)
  assert.deepEqual(
    plan
      .next(2)
      .start.filter(({ source }) => source === 'peer')
      .map(({ index }) => index),
    [3],
  )
})

test('near the end a chunk that is late since its first bytes is asked of a second peer, the first to bring it wins and the other is cancelled', () => {
  const scores = new SourceScores()
  scores.success('slow', BYTES, 50)
  scores.success('fast', BYTES, 50)
  const plan = newPlan(1, {}, scores)
  plan.peerState('slow', { holds: 'all', wanting: false }, 0)
  const [first] = plan.next(1).start
  assert.equal(first?.source, 'slow')
  plan.peerState('fast', { holds: 'all', wanting: false }, 2)
  // So long it waited in line, which says nothing about how fast it comes.
  plan.progress(first?.id ?? 0, 301)
  const waiting = plan.next(302)
  assert.deepEqual(waiting.start, [])
  assert.equal(waiting.wakeAt, 301 + ENDGAME_AFTER_MS)
  plan.progress(first?.id ?? 0, 301 + ENDGAME_AFTER_MS)
  const [second] = plan.next(301 + ENDGAME_AFTER_MS).start
  assert.deepEqual([second?.source, second?.why], ['fast', 'end-game'])
  assert.deepEqual(plan.stored(second?.id ?? 0, BYTES, 900), [first?.id])
  assert.equal(plan.flightCount, 0)
})

test('few chunks are asked for twice near the end, however many are late', () => {
  const scores = new SourceScores()
  const peers = Array.from({ length: 12 }, (_, at) => `peer-${at}`)
  for (const peer of peers) for (let at = 0; at < 4; at++) scores.success(peer, BYTES, 50)
  const plan = newPlan(10, { totalDepth: 40 }, scores)
  for (const peer of peers) plan.peerState(peer, { holds: 'all', wanting: false }, 0)
  const first = plan.next(1).start
  assert.equal(first.length, 10)
  for (const now of [100, 1_500]) for (const { id } of first) plan.progress(id, now)
  assert.equal(plan.next(1_501).start.length, MAX_ENDGAME)
})

test('what is held from an earlier run is not asked for again', () => {
  const held = mapOf(6, 0, 2, 4)
  const plan = newPlan(6, { held, originDepth: 6 })
  const asked: number[] = []
  let now = 1
  while (!plan.complete && now < 100) {
    for (const { id, index } of plan.next(now).start) {
      asked.push(index)
      plan.stored(id, BYTES, ++now)
    }
  }
  assert.deepEqual(asked, [1, 3, 5])
  assert.equal(held.held, 3, 'the plan keeps its own map')
  assert.deepEqual(plan.next(100), { start: [], cancel: [], wakeAt: undefined })
})

test('no more is started than there is room for', () => {
  const plan = newPlan(50, { originDepth: 16 })
  for (const peer of ['a', 'b', 'c', 'd']) plan.peerState(peer, { holds: 'all', wanting: false }, 0)
  plan.want(1, 0, 50, 0)
  assert.equal(plan.next(1, 0).start.length, 0)
  assert.equal(plan.next(1, 3).start.length, 3)
  assert.equal(plan.next(1, 3).start.length, 1, 'one peer was left')
})

test('requests in all never exceed the total depth', () => {
  const plan = newPlan(50, { totalDepth: 3 })
  for (const peer of ['a', 'b', 'c', 'd']) plan.peerState(peer, { holds: 'all', wanting: false }, 0)
  plan.want(1, 0, 50, 0)
  assert.equal(plan.next(1).start.length, 3)
  assert.equal(plan.next(2).start.length, 0)
})

test('deciding stays cheap with 35,000 chunks and twenty peers', (context) => {
  const chunks = 35_000
  const random = seededRandom(11)
  const scores = new SourceScores()
  const plan = newPlan(chunks, {}, scores)
  const peers = Array.from({ length: 20 }, (_, at) => `peer-${at}`)
  for (const peer of peers) {
    const map = new ChunkMap(chunks)
    for (let index = 0; index < chunks; index++) if (random.next() < 0.02) map.add(index)
    plan.peerState(peer, { holds: map, wanting: true, claimed: [] }, 0)
  }
  const flights: number[] = []
  let calls = 0
  let spentMs = 0
  for (let now = 1; now < 1_500; now++) {
    const from = performance.now()
    const { start } = plan.next(now)
    spentMs += performance.now() - from
    calls++
    for (const { id } of start) flights.push(id)
    const done = flights.splice(Math.floor(random.next() * flights.length), 1)[0]
    if (done !== undefined) plan.stored(done, BYTES, now)
    const peer = peers[Math.floor(random.next() * peers.length)] ?? ''
    plan.peerGained(peer, [Math.floor(random.next() * chunks)], now)
  }
  const meanMs = spentMs / calls
  context.diagnostic(`next() took ${(meanMs * 1000).toFixed(0)} µs on the average over ${calls} calls`)
  assert.ok(meanMs < 5, `${meanMs} ms`)
})

test('a blob without chunks is complete and asks for nothing', () => {
  const plan = newPlan(0)
  assert.ok(plan.complete)
  assert.deepEqual(plan.next(1), { start: [], cancel: [], wakeAt: undefined })
  assert.equal(plan.hopeless(1), false)
})

for (const { id, expected, make } of [
  { id: 'the origin may still be asked', expected: false, make: () => newPlan(4) },
  { id: 'nobody else is there', expected: true, make: () => withoutOrigin(newPlan(4)) },
  {
    id: 'a peer has a missing chunk',
    expected: false,
    make: () => withPeer(withoutOrigin(newPlan(4)), { holds: mapOf(4, 1), wanting: false }),
  },
  {
    id: 'a peer has only what is here already',
    expected: true,
    make: () =>
      withPeer(withoutOrigin(newPlan(4, { held: mapOf(4, 1) })), { holds: mapOf(4, 1), wanting: false }),
  },
  {
    id: 'a peer that has nothing is fetching it',
    expected: false,
    make: () => withPeer(withoutOrigin(newPlan(4)), { holds: undefined, wanting: true }),
  },
  {
    id: 'a peer has a chunk that no reader wants',
    expected: true,
    make: () => {
      const plan = withPeer(withoutOrigin(newPlan(4, { whole: false })), {
        holds: mapOf(4, 1),
        wanting: false,
      })
      plan.want(1, 2, 4, 0)
      return plan
    },
  },
  {
    id: 'no reader wants anything',
    expected: false,
    make: () => withoutOrigin(newPlan(4, { whole: false })),
  },
  { id: 'all is here', expected: false, make: () => withoutOrigin(newPlan(4, { held: ChunkMap.full(4) })) },
]) {
  test(`a download is ${expected ? '' : 'not '}hopeless when ${id}`, () => {
    assert.equal(make().hopeless(10), expected)
  })
}

test('a peer whose fetching shows nothing for long is no hope, and the moment is waited for', () => {
  const plan = withPeer(withoutOrigin(newPlan(4)), { holds: undefined, wanting: true })
  assert.equal(plan.hopeless(HOPE_MS - 1), false)
  assert.equal(plan.next(1).wakeAt, HOPE_MS)
  assert.equal(plan.hopeless(HOPE_MS), true)
})
