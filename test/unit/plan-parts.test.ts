// The parts of the plan by themselves: picker, share of the origin, scores.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ChunkPicker } from '@shoal/agent/plan/chunk-picker.ts'
import { OwnerTable, ownerOf, shareSeed, shareWeight } from '@shoal/agent/plan/origin-share.ts'
import {
  BAN_MS,
  BUSY_COOLDOWN_MS,
  BUSY_PATIENCE_MS,
  COOLDOWN_MS,
  FIRST_DEPTH,
  MAX_COOLDOWN_MS,
  MAX_PEER_DEPTH,
  PROVEN_BUSY_PATIENCE_MS,
  SourceScores,
} from '@shoal/agent/plan/source-score.ts'
import { ChunkMap } from '@shoal/protocol/chunks.ts'
import { ERROR_TABLE, type ErrorCode, errorRow } from '@shoal/protocol/errors.ts'
import fc from 'fast-check'

const hosts = fc.uniqueArray(fc.stringMatching(/^[a-z0-9]{1,12}$/), { minLength: 1, maxLength: 12 })

test('every chunk has one owner, whatever order the hosts are listed in', () => {
  fc.assert(
    fc.property(hosts, fc.nat({ max: 1_000_000 }), (names, index) => {
      const seeds = names.map((name) => shareSeed('blob', name))
      const owner = ownerOf(index, seeds)
      assert.ok(owner !== undefined && names.includes(owner))
      assert.equal(ownerOf(index, seeds.toReversed()), owner)
    }),
  )
})

test('when a host leaves only its own chunks change owner, and to their heirs', () => {
  fc.assert(
    fc.property(hosts, (names) => {
      const seeds = names.map((name) => shareSeed('blob', name))
      const [gone, ...rest] = seeds
      const table = new OwnerTable(64)
      for (const seed of seeds) table.add(seed)
      for (let index = 0; index < 64; index++) {
        const before = ownerOf(index, seeds)
        const after = ownerOf(index, rest)
        if (before !== gone?.host) assert.equal(after, before)
        else assert.equal(after, table.heir(index))
      }
    }),
  )
})

test('the table of owners agrees with the plain rule while hosts come and go', () => {
  const change = fc.record({ name: fc.constantFrom('a', 'b', 'c', 'd', 'e', 'f'), joins: fc.boolean() })
  fc.assert(
    fc.property(fc.array(change, { maxLength: 40 }), fc.integer({ min: 0, max: 50 }), (changes, chunks) => {
      const table = new OwnerTable(chunks)
      const present = new Set<string>()
      for (const { name, joins } of changes) {
        if (joins) {
          table.add(shareSeed('blob', name))
          present.add(name)
        } else {
          table.remove(name)
          present.delete(name)
        }
        const seeds = [...present].map((host) => shareSeed('blob', host))
        assert.deepEqual(new Set(table.hosts()), present)
        const counted = new Map([...present].map((host) => [host, [] as number[]]))
        for (let index = 0; index < chunks; index++) {
          const owner = ownerOf(index, seeds)
          assert.equal(table.owner(index), owner)
          const rest = seeds.filter(({ host }) => host !== owner)
          assert.equal(table.heir(index), ownerOf(index, rest))
          if (owner !== undefined) counted.get(owner)?.push(index)
        }
        for (const [host, indices] of counted) assert.deepEqual(table.chunksOf(host), indices)
      }
    }),
  )
})

test('shares are even to within a quarter for ten hosts and a thousand chunks', () => {
  const seeds = Array.from({ length: 10 }, (_, at) => shareSeed('sha256:00', `12D3KooWHost${at}`))
  const counts = new Map<string, number>()
  for (let index = 0; index < 1_000; index++) {
    const owner = ownerOf(index, seeds) ?? ''
    counts.set(owner, (counts.get(owner) ?? 0) + 1)
  }
  for (const [host, count] of counts) assert.ok(count > 75 && count < 125, `${host} owns ${count}`)
})

test('owners and weights are what hosts of the first version work out', () => {
  // Hosts of different versions must agree, or both ask the origin: these values never change.
  const seeds = ['alpha', 'beta', 'gamma'].map((host) => shareSeed('sha256:abc', host))
  assert.deepEqual(
    seeds.map(({ seed }) => seed),
    [1_276_808_998, 1_826_222_364, 4_235_169_063],
  )
  assert.equal(shareWeight(1, 0), 2_980_047_484)
  assert.equal(
    Array.from({ length: 16 }, (_, index) => (ownerOf(index, seeds) ?? '')[0]).join(''),
    'gagggbabgagabgag',
  )
})

test('the picker offers what is open and held by the source, and the rarest of it', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 200 }),
      fc.nat(),
      fc.array(fc.nat({ max: 199 })),
      fc.array(fc.nat({ max: 199 })),
      fc.array(fc.nat({ max: 199 })),
      (count, rotation, heldHere, heldThere, copies) => {
        const held = mapOf(count, heldHere)
        const theirs = mapOf(count, heldThere)
        const picker = new ChunkPicker(held, rotation)
        for (const index of theirs.indices()) picker.addCopy(index)
        for (const index of copies) if (index < count) picker.addCopy(index)
        const open = Array.from({ length: count }, (_, index) => index).filter((index) => !held.has(index))
        const candidates = open.filter((index) => theirs.has(index))
        assert.equal(picker.openCount, open.length)
        assert.equal(picker.openIn(theirs), candidates.length)
        const picked = picker.rarest(theirs)
        if (candidates.length === 0) assert.equal(picked, undefined)
        else {
          const fewest = Math.min(...candidates.map((index) => picker.copies(index)))
          assert.ok(picked !== undefined && candidates.includes(picked))
          assert.equal(picker.copies(picked), fewest)
        }
        const fromAll = picker.rarest('all')
        if (open.length === 0) assert.equal(fromAll, undefined)
        else
          assert.equal(picker.copies(fromAll ?? -1), Math.min(...open.map((index) => picker.copies(index))))
      },
    ),
  )
})

test('the picker tells whether opening and closing changed anything, and lists open chunks in order', () => {
  const picker = new ChunkPicker(mapOf(10, [3]), 4)
  assert.equal(picker.close(3), false)
  assert.equal(picker.close(4), true)
  assert.equal(picker.close(4), false)
  assert.equal(picker.open(4), true)
  assert.equal(picker.open(4), false)
  assert.equal(picker.nextOpen(3), 4)
  assert.equal(picker.nextOpen(0, mapOf(10, [3, 8])), 8)
  assert.equal(picker.nextOpen(9, mapOf(10, [3, 8])), 10)
  assert.equal(
    picker.rarest('all', (index) => index === 7),
    7,
  )
  assert.equal(
    picker.rarest('all', () => false),
    undefined,
  )
})

test('hosts with different seeds do not pick the same chunks first', () => {
  const picks = Array.from({ length: 20 }, (_, host) => {
    const picker = new ChunkPicker(new ChunkMap(1_000), shareSeed('blob', `host-${host}`).seed)
    return picker.rarest('all')
  })
  assert.ok(new Set(picks).size >= 18, picks.join())
})

test('an empty blob has nothing to pick', () => {
  const picker = new ChunkPicker(new ChunkMap(0), 12_345)
  assert.equal(picker.rarest('all'), undefined)
  assert.equal(picker.nextOpen(0), 0)
})

for (const code of Object.keys(ERROR_TABLE) as ErrorCode[]) {
  test(`a source's ${code} is judged by the error table`, () => {
    const scores = new SourceScores()
    const row = errorRow(code)
    const banned = scores.failure('peer', code, 1_000)
    const view = scores.view('peer', 1_000)
    assert.equal(banned, row.ban === true, 'only what the table bans is banned')
    assert.equal(scores.banned('peer', 1_000), banned)
    if (banned) assert.equal(view.usableAt, 1_000 + BAN_MS)
    else if (row.blame === 'source' || code === 'peer-refused')
      assert.equal(view.usableAt, 1_000 + COOLDOWN_MS)
    else if (code === 'aborted') assert.equal(view.usable, true)
    else {
      assert.equal(view.usableAt, 1_000 + BUSY_COOLDOWN_MS)
      assert.equal(view.trusted, true, 'who is not to blame is still counted on')
    }
  })
}

test('cooldowns double with every failure in a row, up to a limit, and a success forgets them', () => {
  const scores = new SourceScores()
  let now = 0
  const pauses: number[] = []
  for (let at = 0; at < 9; at++) {
    scores.failure('peer', 'peer-timeout', now)
    const { usableAt } = scores.view('peer', now)
    pauses.push(usableAt - now)
    now = usableAt
  }
  assert.deepEqual(
    pauses,
    [1, 2, 4, 8, 16, 32, 64, 128, 256].map((times) => Math.min(times * COOLDOWN_MS, MAX_COOLDOWN_MS)),
  )
  scores.success('peer', 1_000, 10)
  scores.failure('peer', 'peer-timeout', now)
  assert.equal(scores.view('peer', now).usableAt, now + COOLDOWN_MS)
})

test('a peer that proves itself may be asked for more at once, up to a limit, and starts anew after a failure', () => {
  const scores = new SourceScores()
  assert.equal(scores.view('peer', 0).depth, FIRST_DEPTH)
  for (let at = 0; at < 10; at++) scores.success('peer', 4_000_000, 100)
  assert.equal(scores.view('peer', 0).depth, MAX_PEER_DEPTH)
  scores.failure('peer', 'peer-busy', 0)
  assert.equal(scores.view('peer', 0).depth, MAX_PEER_DEPTH - 1)
  scores.failure('peer', 'peer-timeout', 0)
  assert.equal(scores.view('peer', 0).depth, FIRST_DEPTH)
})

test('the rate is smoothed and never infinite', () => {
  const scores = new SourceScores()
  scores.success('peer', 1_000_000, 1_000)
  assert.equal(scores.view('peer', 0).rateBytesPerSecond, 1_000_000)
  scores.success('peer', 2_000_000, 1_000)
  assert.ok(Math.abs(scores.view('peer', 0).rateBytesPerSecond - 1_300_000) < 1)
  scores.success('quick', 1_000_000, 0)
  assert.ok(Number.isFinite(scores.view('quick', 0).rateBytesPerSecond))
})

test('a peer that is busy every time is not counted on after a while, until it is left alone or answers', () => {
  const scores = new SourceScores()
  let now = 5
  for (; now < 5 + BUSY_PATIENCE_MS; now += BUSY_COOLDOWN_MS) {
    assert.ok(scores.view('peer', now).trusted, `at ${now}`)
    scores.failure('peer', 'peer-busy', now)
    assert.equal(scores.view('peer', now).trustedUntil, 5 + BUSY_PATIENCE_MS)
  }
  assert.equal(scores.view('peer', now).trusted, false)
  assert.equal(scores.view('peer', now + 10_000).trusted, true)
  scores.success('peer', 1, 1)
  assert.equal(scores.view('peer', now).trusted, true)
})

test('a peer that has served before is waited for longer while it is busy', () => {
  const scores = new SourceScores()
  scores.success('peer', 1_000_000, 100)
  let now = 5
  for (; now < 5 + PROVEN_BUSY_PATIENCE_MS; now += BUSY_COOLDOWN_MS) {
    assert.ok(scores.view('peer', now).trusted, `at ${now}`)
    scores.failure('peer', 'peer-busy', now)
  }
  assert.equal(scores.view('peer', now).trusted, false)
})

test('scores are kept of a bounded number of sources, the one unheard of for longest going first', () => {
  const scores = new SourceScores()
  scores.success('first', 1_000, 1)
  scores.success('second', 1_000, 1)
  for (let at = 0; at < 1_023; at++) {
    scores.success('second', 1_000, 1)
    scores.success(`other-${at}`, 1_000, 1)
  }
  assert.equal(scores.view('first', 0).rateBytesPerSecond, 0)
  assert.ok(scores.view('second', 0).rateBytesPerSecond > 0)
})

function mapOf(count: number, indices: readonly number[]): ChunkMap {
  const map = new ChunkMap(count)
  for (const index of indices) if (index < count) map.add(index)
  return map
}
