// When a plan asks the origin, one decision at a time: its own share, takeover, pauses.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  CLAIM_MS,
  ORIGIN,
  ORIGIN_COOLDOWN_MS,
  ORIGIN_MAX_COOLDOWN_MS,
  STALL_MS,
  TAKEOVER_MS,
} from '@shoal/agent/plan/download-plan.ts'
import { ChunkMap } from '@shoal/protocol/chunks.ts'
import { BYTES, mapOf, newPlan, owned, shown } from '../support/plan-facts.ts'

test('a host alone asks the origin from the front, for one chunk at first and for more while that makes none slower', () => {
  const plan = newPlan(40)
  assert.deepEqual(shown(plan.next(1)), ['0 origin owner'])
  assert.deepEqual(plan.originClaims(), [0])
  // Every chunk takes 100 ms, however many are asked for.
  const open: number[] = []
  for (let now = 101; now < 1_000; now += 100) {
    for (const index of plan.originClaims()) plan.stored(index + 1, BYTES, now)
    plan.next(now)
    open.push(plan.flightCount)
  }
  assert.deepEqual(open, [2, 3, 4, 4, 4, 4, 4, 4, 4])
})

test('requests to the origin that only make each other wait become fewer again', () => {
  const plan = newPlan(200, { originDepth: 8 })
  const open: number[] = []
  let now = 1
  const queue = plan.next(now).start.map(({ id }) => id)
  // A line that brings one chunk each 100 ms, whatever is asked for.
  for (let round = 0; round < 60; round++) {
    now += 100
    plan.stored(queue.shift() ?? 0, BYTES, now)
    queue.push(...plan.next(now).start.map(({ id }) => id))
    open.push(queue.length)
  }
  assert.ok(Math.max(...open.slice(10)) <= 3, `open: ${open.join()}`)
  assert.ok(Math.min(...open) >= 1)
})

test('the origin is not asked before the time that peers have to answer, and that time is waited for', () => {
  const plan = newPlan(4, { originNotBefore: 250 })
  const early = plan.next(10)
  assert.deepEqual(early, { start: [], cancel: [], wakeAt: 250 })
  assert.equal(plan.next(250).start.length, 1)
})

test('a host asks for its own share, then from the far end of an active owner for all but what that comes to soon', () => {
  const plan = newPlan(40, { originDepth: 40 })
  plan.peerState('other', { holds: undefined, wanting: true }, 0)
  const mine = owned('self', ['self', 'other'], 40)
  const theirs = owned('other', ['self', 'other'], 40)
  const asked: number[] = []
  for (let now = 1; now < 1_000; now += 10) {
    plan.peerState('other', { holds: undefined, wanting: true, claimed: theirs.slice(0, 2) }, now)
    for (const { id, index } of plan.next(now).start) {
      asked.push(index)
      plan.stored(id, BYTES, now + 5)
    }
  }
  assert.deepEqual(asked.slice(0, mine.length), mine)
  // It leaves the two that are under way and four more.
  assert.deepEqual(asked.slice(mine.length), theirs.slice(6).toReversed())
})

test('nothing is brought for an owner that was not heard of for as long as its rest takes', () => {
  const plan = newPlan(40)
  plan.peerState('other', { holds: undefined, wanting: true, claimed: [] }, 0)
  const mine = owned('self', ['self', 'other'], 40)
  const asked: number[] = []
  for (let now = 1; now < 4_000; now += 10) {
    for (const { id, index } of plan.next(now).start) {
      asked.push(index)
      plan.stored(id, BYTES, now + 200)
    }
  }
  assert.deepEqual(asked, mine)
})

test('chunks that a peer says it is fetching from the origin are left to it, as long as it says so', () => {
  const plan = newPlan(4, { originDepth: 4 })
  plan.peerState('reader', { holds: undefined, wanting: false, claimed: [0, 1] }, 0)
  const asked = [1, 51].flatMap((now) => {
    const { start } = plan.next(now)
    for (const { id } of start) plan.stored(id, BYTES, now + 49)
    return start.map(({ index }) => index)
  })
  assert.deepEqual(asked, [2, 3])
  const waiting = plan.next(101)
  assert.deepEqual(waiting.start, [])
  assert.equal(waiting.wakeAt, CLAIM_MS)
  assert.deepEqual(
    plan.next(CLAIM_MS).start.map(({ index }) => index),
    [0, 1],
  )
})

test('an owner that brings and claims nothing is passed over after the takeover time, and not before', () => {
  const plan = newPlan(20, { originDepth: 20 })
  plan.peerState('other', { holds: undefined, wanting: true }, 0)
  const theirs = owned('other', ['self', 'other'], 20)
  let now = 1
  for (let round = 0; round < 20; round++)
    for (const { id } of plan.next(now).start) plan.stored(id, BYTES, ++now)
  // It answered once more since: it is alive and has nothing to show.
  plan.peerState('other', { holds: undefined, wanting: true, claimed: [] }, 500)
  const decision = plan.next(501)
  assert.deepEqual(decision.start, [])
  assert.equal(decision.wakeAt, 500 + TAKEOVER_MS)
  assert.ok(theirs.includes(plan.next(500 + TAKEOVER_MS).start[0]?.index ?? -1))
})

test('an owner that is alive but brings nothing is waited for longer than a silent one, and not for ever', () => {
  const plan = newPlan(40, { originDepth: 1 })
  plan.peerState('other', { holds: undefined, wanting: true }, 0)
  const theirs = owned('other', ['self', 'other'], 40)
  let now = 1
  for (; now < 60_000; now += 1_400) {
    plan.peerState('other', { holds: undefined, wanting: true, claimed: [] }, now)
    const { start } = plan.next(now)
    if (start.some(({ index }) => theirs.includes(index))) break
    for (const { id } of start) plan.stored(id, BYTES, now + 1_400)
  }
  assert.ok(now > 2 * TAKEOVER_MS && now <= 3 * TAKEOVER_MS + 1_400, `after ${now} ms`)
})

test('an owner that gains chunks of its share keeps its share', () => {
  const plan = newPlan(60, { originDepth: 1 })
  plan.peerState('other', { holds: undefined, wanting: true }, 0)
  const theirs = owned('other', ['self', 'other'], 60)
  const asked: number[] = []
  for (let now = 1; now < 40_000; now += 1_000) {
    plan.peerGained('other', theirs.splice(0, 1), now)
    for (const { id, index, source } of plan.next(now).start) {
      if (source === ORIGIN) asked.push(index)
      plan.stored(id, BYTES, now + 900)
    }
  }
  assert.deepEqual(asked, owned('self', ['self', 'other'], 60))
})

test('a peer gaining only what others brought does not count as an owner at work', () => {
  const plan = newPlan(60, { originDepth: 60 })
  plan.peerState('other', { holds: undefined, wanting: true }, 0)
  const mine = owned('self', ['self', 'other'], 60)
  let now = 1
  for (let round = 0; round < 30; round++)
    for (const { id } of plan.next(now).start) plan.stored(id, BYTES, ++now)
  for (; now < 1_000 + TAKEOVER_MS; now += 500) plan.peerGained('other', mine.splice(0, 1), now)
  assert.ok(plan.next(now).start.length > 0, 'its share passes on although it keeps announcing chunks')
})

test('while this host cannot reach the origin, the silence of others says nothing about them', () => {
  const plan = newPlan(40, { originDepth: 2 })
  plan.peerState('other', { holds: undefined, wanting: true }, 0)
  const mine = new Set(owned('self', ['self', 'other'], 40))
  let now = 1
  for (let round = 0; round < 12; round++) {
    const { start, wakeAt } = plan.next(now)
    for (const { id, index } of start) {
      assert.ok(mine.has(index), `chunk ${index} is not ours`)
      plan.failed(id, 'origin-unreachable', now + 1)
    }
    now = Math.max(now + 2, wakeAt ?? 0)
  }
  assert.ok(now > TAKEOVER_MS * 5)
})

test('a failing origin is left alone for longer and longer, up to a limit, and a success forgets it', () => {
  const plan = newPlan(8, { originDepth: 1 })
  let now = 1
  const pauses: number[] = []
  for (let round = 0; round < 8; round++) {
    const [assignment] = plan.next(now).start
    assert.ok(assignment, `round ${round}`)
    plan.failed(assignment.id, 'origin-unreachable', now)
    const { wakeAt = 0, start } = plan.next(now)
    assert.deepEqual(start, [])
    pauses.push(wakeAt - now)
    now = wakeAt
  }
  assert.deepEqual(
    pauses,
    [1, 2, 4, 8, 16, 30, 30, 30].map((times) => Math.min(times * ORIGIN_COOLDOWN_MS, ORIGIN_MAX_COOLDOWN_MS)),
  )
  const [assignment] = plan.next(now).start
  assert.ok(assignment)
  plan.stored(assignment.id, BYTES, now + 10)
  const [next] = plan.next(now + 10).start
  assert.ok(next)
  plan.failed(next.id, 'origin-unreachable', now + 20)
  assert.equal(plan.next(now + 20).wakeAt, now + 20 + ORIGIN_COOLDOWN_MS)
})

test('a stalled request to the origin is left alone unless a peer has the chunk now', () => {
  const plan = newPlan(1)
  const [first] = plan.next(1).start
  assert.ok(first)
  assert.deepEqual(plan.next(STALL_MS + 1).cancel, [])
  plan.peerState('peer', { holds: 'all', wanting: false }, STALL_MS + 2)
  const decision = plan.next(STALL_MS + 3)
  assert.deepEqual(decision.cancel, [first.id])
  assert.deepEqual(
    decision.start.map(({ source }) => source),
    ['peer'],
  )
})

test('a peer that lacks what it claimed is no longer asked for that chunk, and still for the others', () => {
  for (const holds of ['all', mapOf(3, 0, 1, 2)] as const) {
    const plan = newPlan(3)
    plan.setOrigin(false)
    plan.peerState('peer', { holds, wanting: false }, 0)
    const asked: number[] = []
    let now = 1
    for (let round = 0; round < 10; round++) {
      const { start, wakeAt } = plan.next(now)
      for (const { id, index } of start) {
        asked.push(index)
        if (index === asked[0]) plan.failed(id, 'peer-lacks-chunk', now)
        else plan.stored(id, BYTES, now)
      }
      now = Math.max(now + 1, Math.min(wakeAt ?? now, now + 2_000))
    }
    assert.equal(new Set(asked).size, 3)
    assert.equal(asked.length, 3, `asked for ${asked.join()}`)
  }
})

test('discarded chunks are fetched again; those in doubt only from the origin, whoever owns or holds them', () => {
  const plan = newPlan(4, { held: ChunkMap.full(4) })
  plan.peerState('peer', { holds: 'all', wanting: true }, 0)
  assert.ok(plan.complete)
  plan.discarded([1])
  assert.ok(!plan.complete)
  const [again] = plan.next(1).start
  assert.deepEqual([again?.index, again?.source], [1, 'peer'])
  plan.stored(again?.id ?? 0, BYTES, 2)
  plan.discarded([2], true)
  const [doubted] = plan.next(3).start
  assert.deepEqual([doubted?.index, doubted?.source], [2, ORIGIN])
  plan.failed(doubted?.id ?? 0, 'origin-unreachable', 4)
  assert.deepEqual(plan.next(5).start, [], 'no peer takes its place')
  plan.discarded([2], true)
  const later = plan.next(ORIGIN_COOLDOWN_MS + 10)
  assert.deepEqual(shown(later), ['2 origin owner'])
})

test('an origin that refuses for good is not asked again, until it is allowed anew', () => {
  for (const code of ['origin-refused', 'repo-gated', 'file-not-found', 'origin-changed'] as const) {
    const plan = newPlan(4, { originDepth: 1 })
    const [first] = plan.next(1).start
    plan.failed(first?.id ?? 0, code, 2)
    assert.equal(plan.hopeless(3), true, code)
    assert.deepEqual(plan.next(ORIGIN_MAX_COOLDOWN_MS * 2).start, [], code)
    plan.setOrigin(true)
    assert.equal(plan.next(ORIGIN_MAX_COOLDOWN_MS * 2).start.length, 1, code)
  }
})
