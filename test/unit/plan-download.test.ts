// DownloadPlan, one decision at a time: what it starts, cancels and waits for, given plain facts and a time.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  CLAIM_MS,
  DownloadPlan,
  ENDGAME_AFTER_MS,
  HOPE_MS,
  MAX_ENDGAME,
  ORIGIN,
  ORIGIN_COOLDOWN_MS,
  ORIGIN_MAX_COOLDOWN_MS,
  type PlanSettings,
  READER_PATIENCE_MS,
  READER_YIELD_MS,
  STALL_MS,
  TAKEOVER_MS,
  WINDOW_CHUNKS,
} from '@shoal/agent/plan/download-plan.ts'
import { ownerOf, shareSeed } from '@shoal/agent/plan/origin-share.ts'
import { BAN_MS, SourceScores } from '@shoal/agent/plan/source-score.ts'
import { ChunkMap } from '@shoal/protocol/chunks.ts'
import { seededRandom } from '@shoal/protocol/time.ts'

const BYTES = 4 * 1024 * 1024

function newPlan(
  chunks: number,
  settings: Partial<PlanSettings> = {},
  scores = new SourceScores(),
): DownloadPlan {
  return new DownloadPlan(
    {
      blob: 'blob',
      self: 'self',
      held: new ChunkMap(chunks),
      whole: true,
      originDepth: 4,
      totalDepth: 16,
      originNotBefore: 0,
      ...settings,
    },
    scores,
  )
}

function mapOf(count: number, ...indices: number[]): ChunkMap {
  const map = new ChunkMap(count)
  for (const index of indices) map.add(index)
  return map
}

function shown(decision: ReturnType<DownloadPlan['next']>): string[] {
  return decision.start.map(({ index, source, why }) => `${index} ${source} ${why}`)
}

/** Chunks that `host` owns among these hosts. */
function owned(host: string, hosts: readonly string[], chunks: number): number[] {
  const seeds = hosts.map((name) => shareSeed('blob', name))
  return Array.from({ length: chunks }, (_, index) => index).filter((index) => ownerOf(index, seeds) === host)
}

test('a host alone asks the origin from the front, with few requests at first and more as chunks arrive', () => {
  const plan = newPlan(20)
  const first = plan.next(1)
  assert.deepEqual(shown(first), ['0 origin owner', '1 origin owner'])
  assert.deepEqual(plan.originClaims(), [0, 1])
  for (const { id } of first.start) plan.stored(id, BYTES, 100)
  assert.equal(plan.next(100).start.length, 4)
  assert.equal(plan.flightCount, 4)
})

test('the origin is not asked before the time that peers have to answer, and that time is waited for', () => {
  const plan = newPlan(4, { originNotBefore: 250 })
  const early = plan.next(10)
  assert.deepEqual(early, { start: [], cancel: [], wakeAt: 250 })
  assert.equal(plan.next(250).start.length, 2)
})

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
  assert.deepEqual(indices, [60, 61])
  for (const [place, { id }] of plan.next(1).start.entries()) assert.ok(id + place < 0)
  const wide = newPlan(100, { whole: false, originDepth: 16 })
  wide.want(1, 60, 100, 0)
  let now = 1
  const asked = new Set<number>()
  for (let round = 0; round < 8 && asked.size < 9; round++) {
    for (const { id, index } of wide.next(now).start) {
      asked.add(index)
      if (asked.size < 6) wide.stored(id, BYTES, ++now)
    }
  }
  assert.ok(asked.has(99), `asked for ${[...asked].join()}`)
  assert.ok(!asked.has(60 + WINDOW_CHUNKS))
})

test('a download of a part fetches only what readers want, and stops when they leave', () => {
  const plan = newPlan(100, { whole: false })
  assert.deepEqual(plan.next(1), { start: [], cancel: [], wakeAt: undefined })
  plan.want(1, 10, 12, 1)
  const decision = plan.next(2)
  assert.deepEqual(shown(decision), ['10 origin window', '11 origin window'])
  for (const { id } of decision.start) plan.stored(id, BYTES, 50)
  assert.deepEqual(plan.next(51).start, [])
  plan.want(1, 50, 60, 52)
  plan.unwant(1)
  assert.deepEqual(plan.next(53).start, [])
})

test('a download of a part becomes one of the whole', () => {
  const plan = newPlan(10, { whole: false })
  plan.fetchWhole()
  assert.equal(plan.whole, true)
  assert.deepEqual(shown(plan.next(1)), ['0 origin owner', '1 origin owner'])
})

test('a host asks the origin for its own share only while the other owner is active', () => {
  const plan = newPlan(40, { originDepth: 40 })
  plan.peerState('other', { holds: undefined, wanting: true }, 0)
  const mine = owned('self', ['self', 'other'], 40)
  const asked: number[] = []
  for (let now = 1; now < 1_000; now += 10) {
    for (const { id, index } of plan.next(now).start) {
      asked.push(index)
      plan.stored(id, BYTES, now + 5)
    }
  }
  assert.deepEqual(asked, mine)
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

test('chunks that a peer says it is fetching from the origin are left to it, as long as it says so', () => {
  const plan = newPlan(4, { originDepth: 4 })
  plan.peerState('reader', { holds: undefined, wanting: false, claimed: [0, 1] }, 0)
  const first = plan.next(1)
  assert.deepEqual(
    first.start.map(({ index }) => index),
    [2, 3],
  )
  for (const { id } of first.start) plan.stored(id, BYTES, 100)
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
  assert.equal(decision.wakeAt, 1 + TAKEOVER_MS)
  assert.ok(theirs.includes(plan.next(1 + TAKEOVER_MS).start[0]?.index ?? -1))
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

test('near the end a late chunk is asked of a second peer, the first to bring it wins and the other is cancelled', () => {
  const scores = new SourceScores()
  scores.success('slow', BYTES, 50)
  scores.success('fast', BYTES, 50)
  const plan = newPlan(1, {}, scores)
  plan.peerState('slow', { holds: 'all', wanting: false }, 0)
  const [first] = plan.next(1).start
  assert.equal(first?.source, 'slow')
  plan.peerState('fast', { holds: 'all', wanting: false }, 2)
  const waiting = plan.next(3)
  assert.deepEqual(waiting.start, [])
  assert.equal(waiting.wakeAt, 1 + ENDGAME_AFTER_MS)
  plan.progress(first?.id ?? 0, 1 + ENDGAME_AFTER_MS)
  const [second] = plan.next(1 + ENDGAME_AFTER_MS).start
  assert.deepEqual([second?.source, second?.why], ['fast', 'end-game'])
  assert.deepEqual(plan.stored(second?.id ?? 0, BYTES, 600), [first?.id])
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
  for (const { id } of first) plan.progress(id, 1_500)
  assert.equal(plan.next(1_501).start.length, MAX_ENDGAME)
})

test('a reader leaves a chunk to its owner for a moment, then goes to the origin itself', () => {
  const plan = newPlan(40, { whole: false })
  plan.peerState('owner', { holds: undefined, wanting: true }, 0)
  plan.want(1, 5, 40, 100)
  const waiting = plan.next(101)
  assert.deepEqual(waiting.start, [])
  assert.equal(waiting.wakeAt, 100 + READER_YIELD_MS)
  const decision = plan.next(100 + READER_YIELD_MS)
  assert.deepEqual(
    shown(decision),
    ['5 origin window', '6 origin window'],
    'and does not wait for each chunk anew',
  )
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

test('a blob without chunks is complete and asks for nothing', () => {
  const plan = newPlan(0)
  assert.ok(plan.complete)
  assert.deepEqual(plan.next(1), { start: [], cancel: [], wakeAt: undefined })
  assert.equal(plan.hopeless(1), false)
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

function withoutOrigin(plan: DownloadPlan): DownloadPlan {
  plan.setOrigin(false)
  return plan
}

function withPeer(plan: DownloadPlan, state: Parameters<DownloadPlan['peerState']>[1]): DownloadPlan {
  plan.peerState('peer', state, 0)
  return plan
}
