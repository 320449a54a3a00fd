// Many plans in one small world: who asks the origin, who takes over, and that it always ends. Decisions only; no sockets.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ORIGIN, READER_PATIENCE_MS, STALL_MS } from '@shoal/agent/plan/download-plan.ts'
import { type ShareSeed, shareSeed } from '@shoal/agent/plan/origin-share.ts'
import { beforeInOrder } from '@shoal/agent/plan/seat-order.ts'
import { ChunkMap } from '@shoal/protocol/chunks.ts'
import type { Behaviour, WorldHost } from '../support/plan-host.ts'
import { TwinPlan } from '../support/plan-twin.ts'
import { CHUNK_BYTES, ORIGIN_FETCHERS, PlanWorld, type WorldOptions } from '../support/plan-world.ts'
import { seeds } from '../support/seed.ts'

/** Latest finish of the hosts that finished, in milliseconds. */
function lastFinish(world: PlanWorld): number {
  return Math.max(...world.hosts.map(({ finishedAt }) => finishedAt ?? 0))
}

function someOf(count: number, fits: (index: number) => boolean): ChunkMap {
  const map = new ChunkMap(count)
  for (let index = 0; index < count; index++) if (fits(index)) map.add(index)
  return map
}

function seedOf({ name }: WorldHost): ShareSeed {
  return shareSeed('blob', name)
}

/** Hosts that start within one second of each other. */
function crowd(options: WorldOptions, hosts: number, startWithinMs = 1_000): PlanWorld {
  const world = new PlanWorld(options)
  for (let at = 0; at < hosts; at++) world.addHost({ startAt: world.random.next() * startWithinMs })
  return world
}

test('two hosts that start at the same moment never ask the origin for the same chunk', (context) => {
  for (const seed of seeds(context, 10)) {
    const world = new PlanWorld({ seed, chunks: 100, originBytesPerSecond: 50e6 })
    world.addHost({ startAt: 5 })
    world.addHost({ startAt: 5 })
    assert.ok(world.run(600_000))
    assert.equal(world.originBytes, 100 * CHUNK_BYTES, `seed ${seed}`)
  }
})

for (const { id, tells, most } of [
  { id: 'all gossip', tells: true, most: 1.05 },
  { id: 'all gossip and all that hosts tell each other', tells: false, most: 1.25 },
])
  test(`with ${id} lost, asking again is enough to finish, and the origin gives little twice`, (context) => {
    for (const seed of seeds(context, 5)) {
      const world = crowd({ seed, chunks: 64, originBytesPerSecond: 100e6, gossip: false, tells }, 4)
      assert.ok(world.run(600_000), `seed ${seed}`)
      context.diagnostic(`seed ${seed}: amplification ${world.amplification.toFixed(3)}`)
      assert.ok(world.amplification <= most, `seed ${seed}: amplification ${world.amplification}`)
    }
  })

test('a chunk is asked of one source at a time, except near the end, and then of two', (context) => {
  for (const seed of seeds(context, 3)) {
    const world = crowd({ seed, chunks: 60, originBytesPerSecond: 100e6 }, 5)
    world.onDecision = (host, start) => {
      for (const { index, why } of start) {
        const sources = world.inFlight(host, index).map(({ source }) => source)
        const most = why === 'end-game' ? 2 : 1
        assert.ok(sources.length <= most, `seed ${seed}: chunk ${index} asked of ${sources.join()} (${why})`)
        assert.equal(new Set(sources).size, sources.length, 'the same source was asked twice')
      }
    }
    assert.ok(world.run(600_000))
  }
})

test('of eighty chunks at most one is asked of the origin by two hosts, and only the first in order have a part', (context) => {
  for (const seed of seeds(context, 3)) {
    const world = crowd({ seed, chunks: 80, originBytesPerSecond: 100e6 }, 6)
    const askers = new Map<number, string[]>()
    world.onDecision = (host, start) => {
      for (const { index, source } of start)
        if (source === ORIGIN) askers.set(index, [...(askers.get(index) ?? []), host.name])
    }
    assert.ok(world.run(600_000))
    const twice = [...askers].filter(([, names]) => names.length > 1)
    assert.ok(twice.length <= 1, `seed ${seed}: ${twice.join(' ')}`)
    const shares = world.hosts
      .toSorted((a, b) => (beforeInOrder(seedOf(a), seedOf(b)) ? -1 : 1))
      .map(({ originBytes }) => originBytes / CHUNK_BYTES)
    const [seated, others] = [shares.slice(0, ORIGIN_FETCHERS), shares.slice(ORIGIN_FETCHERS)]
    assert.ok(Math.min(...seated) >= 10, `seed ${seed}: each takes its part: ${shares.join()}`)
    // One that began before others were there had a seat for that long.
    assert.ok(Math.max(...others) <= 8, `seed ${seed}: the others take none: ${shares.join()}`)
  }
})

test('a late host takes everything from three that hold all, and nothing from the origin', (context) => {
  for (const seed of seeds(context, 3)) {
    const world = new PlanWorld({ seed, chunks: 200 })
    for (let at = 0; at < 3; at++) world.addHost({ held: ChunkMap.full(200) })
    const late = world.addHost({ startAt: 100 })
    assert.ok(world.run(600_000))
    assert.equal(late.originBytes, 0)
    const seconds = ((late.finishedAt ?? 0) - 100) / 1000
    const bound = (200 * CHUNK_BYTES) / 100e6
    assert.ok(seconds <= bound * 1.1 + 0.3, `${seconds} s against ${bound} s`)
  }
})

test('when an owner dies without a word the others take over its share within seconds', (context) => {
  for (const seed of seeds(context, 5)) {
    const quiet = crowd({ seed, chunks: 80, originBytesPerSecond: 50e6 }, 4)
    assert.ok(quiet.run(600_000))
    const world = crowd({ seed, chunks: 80, originBytesPerSecond: 50e6 }, 4)
    const [, victim] = world.hosts
    assert.ok(victim)
    world.at(2_500, () => world.die(victim))
    assert.ok(world.run(600_000), `seed ${seed}: the others did not finish`)
    const lostMs = lastFinish(world) - lastFinish(quiet)
    context.diagnostic(
      `seed ${seed}: ${Math.round(lostMs)} ms lost, amplification ${world.amplification.toFixed(3)}`,
    )
    assert.ok(lostMs < 8_000, `seed ${seed}: ${lostMs} ms`)
    // What the dead host fetched and told nobody of is fetched once more.
    assert.ok(world.originBytes <= 80 * CHUNK_BYTES * 1.02 + victim.originBytes, `seed ${seed}`)
  }
})

test('when an owner leaves its share passes on at once', (context) => {
  for (const seed of seeds(context, 3)) {
    const world = crowd({ seed, chunks: 80, originBytesPerSecond: 50e6 }, 4)
    const [, victim] = world.hosts
    assert.ok(victim)
    let leftAt = 0
    world.at(2_500, () => {
      leftAt = world.now
      world.leave(victim)
    })
    assert.ok(world.run(600_000), `seed ${seed}`)
    const gaps = world.hosts
      .flatMap(({ stored }) => stored.filter(({ source }) => source === ORIGIN).map(({ at }) => at))
      .toSorted((a, b) => a - b)
      .filter((at) => at > leftAt)
    const longest = Math.max(...gaps.map((at, place) => at - (gaps[place - 1] ?? leftAt)))
    assert.ok(longest < 2_000, `seed ${seed}: the origin was idle for ${longest} ms`)
  }
})

test('an owner with a slow line of its own is relieved by the others', (context) => {
  for (const seed of seeds(context, 3)) {
    const world = new PlanWorld({ seed, chunks: 120, originBytesPerSecond: 200e6 })
    for (let at = 0; at < 4; at++)
      world.addHost({ startAt: at * 100, originBytesPerSecond: at === 2 ? 1e6 : 50e6 })
    assert.ok(world.run(3_600_000))
    const alone = (120 * CHUNK_BYTES) / 50e6
    context.diagnostic(
      `seed ${seed}: ${Math.round(lastFinish(world))} ms, a host alone ${Math.round(alone * 1000)} ms, ` +
        `amplification ${world.amplification.toFixed(3)}`,
    )
    // Its share alone would take it 126 s.
    assert.ok(lastFinish(world) < alone * 1000 * 2.5, `seed ${seed}: ${lastFinish(world)} ms`)
    assert.ok(world.amplification <= 1.1, `seed ${seed}: amplification ${world.amplification}`)
  }
})

test('after an outage of the origin the hosts still share it', (context) => {
  for (const seed of seeds(context, 3)) {
    const world = crowd({ seed, chunks: 120, originBytesPerSecond: 50e6 }, 6)
    world.at(3_000, () => world.failOrigin('origin-unreachable'))
    world.at(33_000, () => world.failOrigin(undefined))
    assert.ok(world.run(600_000), `seed ${seed}`)
    // What was half here when the origin went away is lost in this world; whole chunks are what counts.
    const brought = world.hosts.flatMap(({ stored }) => stored.filter(({ source }) => source === ORIGIN))
    context.diagnostic(`seed ${seed}: ${brought.length} chunks from the origin, of 120`)
    assert.ok(brought.length <= 123, `seed ${seed}: ${brought.length} chunks`)
  }
})

test('a peer that moves nothing is replaced within two seconds', (context) => {
  for (const seed of seeds(context, 3)) {
    const world = new PlanWorld({ seed, chunks: 40 })
    const stuck = world.addHost({ held: ChunkMap.full(40) })
    world.addHost({ held: ChunkMap.full(40) })
    world.behave(stuck, 'stuck')
    const host = world.addHost()
    assert.ok(world.run(60_000))
    for (const { index, at } of host.started.filter(({ source }) => source === stuck.name)) {
      const again = host.started.find((other) => other.index === index && other.at > at)
      assert.ok(
        again !== undefined && again.at - at <= STALL_MS + 200,
        `chunk ${index}: ${again?.at} after ${at}`,
      )
    }
    assert.equal(host.originBytes, 0)
  }
})

test('three liars among ten cost one bad chunk each and no wrong decision after', (context) => {
  for (const seed of seeds(context, 3)) {
    const world = new PlanWorld({ seed, chunks: 100 })
    for (let at = 0; at < 10; at++) {
      const peer = world.addHost({ held: ChunkMap.full(100) })
      if (at < 3) world.behave(peer, 'liar')
    }
    const host = world.addHost()
    assert.ok(world.run(600_000))
    assert.ok(host.corruptChunks <= 3, `seed ${seed}: ${host.corruptChunks} bad chunks`)
    for (const liar of world.hosts.slice(0, 3)) {
      const asked = host.started.filter(({ source }) => source === liar.name)
      assert.ok(asked.length <= 1, `seed ${seed}: ${liar.name} was asked ${asked.length} times`)
    }
  }
})

test('a peer that starts to lie after it was trusted sends at most three bad chunks more', (context) => {
  for (const seed of seeds(context, 5)) {
    const world = new PlanWorld({ seed, chunks: 200 })
    const liar = world.addHost({ held: ChunkMap.full(200) })
    world.addHost({ held: ChunkMap.full(200) })
    const host = world.addHost()
    world.at(3_000, () => world.behave(liar, 'liar'))
    assert.ok(world.run(600_000))
    assert.ok(host.corruptChunks >= 1 && host.corruptChunks <= 3, `seed ${seed}: ${host.corruptChunks}`)
  }
})

test('a peer that claims what it lacks costs few requests and no more than a second', (context) => {
  for (const seed of seeds(context, 3)) {
    const world = new PlanWorld({ seed, chunks: 100 })
    const boaster = world.addHost({
      held: someOf(100, (index) => index % 10 === 0),
      whole: false,
      startAt: 9e9,
    })
    world.behave(boaster, 'false-map')
    const host = world.addHost()
    assert.ok(world.run(600_000))
    const asked = host.started.filter(({ source }) => source === boaster.name).length
    assert.ok(asked - 10 <= 8, `seed ${seed}: asked ${asked} times for the 10 chunks it has`)
    assert.ok(lastFinish(world) < ((100 * CHUNK_BYTES) / 100e6) * 1000 + 3_000, `${lastFinish(world)} ms`)
  }
})

for (const behaviour of ['busy', 'refuses'] as const) {
  test(`when the only holder ${behaviour === 'busy' ? 'is busy for ever' : 'refuses'}, the origin is asked after seconds`, () => {
    const world = new PlanWorld({ seed: 1, chunks: 30 })
    const holder = world.addHost({ held: ChunkMap.full(30) })
    world.behave(holder, behaviour)
    const host = world.addHost()
    assert.ok(world.run(60_000))
    const first = host.started.find(({ source }) => source === ORIGIN)
    assert.ok((first?.at ?? Number.POSITIVE_INFINITY) < 6_500, `first asked at ${first?.at}`)
  })
}

test('a busy holder that serves now and then is waited for', (context) => {
  const world = new PlanWorld({ seed: 7, chunks: 60 })
  world.addHost({ held: ChunkMap.full(60), uploadSlots: 2, upBytesPerSecond: 50e6 })
  for (let at = 0; at < 4; at++) world.addHost({ startAt: at * 50 })
  assert.ok(world.run(600_000))
  context.diagnostic(`${(world.originBytes / CHUNK_BYTES).toFixed(0)} chunks from the origin`)
  assert.ok(world.originBytes <= 3 * CHUNK_BYTES)
})

test('a reader that wants only a part owns nothing and is not waited for', () => {
  const world = new PlanWorld({ seed: 3, chunks: 100, originBytesPerSecond: 50e6 })
  const reader = world.addHost({ whole: false })
  const puller = world.addHost()
  world.at(500, () => world.tell(reader, (plan) => plan.want(1, 90, 95, world.now)))
  assert.ok(world.run(600_000, () => puller.finishedAt !== undefined))
  assert.deepEqual(
    [...reader.held.indices()],
    [90, 91, 92, 93, 94],
    'a reader fetches its window and no more',
  )
  const gaps = puller.stored.map(({ at }, place) => at - (puller.stored[place - 1]?.at ?? at))
  assert.ok(Math.max(...gaps) < 1_000, `the puller waited ${Math.max(...gaps)} ms for a reader`)
  assert.ok(world.amplification <= 1.05)
})

test('a reader far ahead of a pull by another host gets its bytes at the speed of the origin', () => {
  const world = new PlanWorld({ seed: 5, chunks: 400, originBytesPerSecond: 100e6 })
  world.addHost({ originBytesPerSecond: 20e6 })
  const reader = world.addHost({ startAt: 3_000 })
  let next = 200
  const read = () => {
    while (next < 400 && reader.held.has(next)) next++
    if (next < 400) world.tell(reader, (plan) => plan.want(1, next, 400, world.now))
    world.at(world.now + 20, read)
  }
  world.at(3_300, read)
  assert.ok(world.run(600_000, () => next >= 260))
  const seconds = (world.now - 3_300) / 1000
  const alone = (60 * CHUNK_BYTES) / 100e6
  assert.ok(seconds < alone * 2 + 2, `60 chunks took ${seconds} s, alone ${alone} s`)
})

test('a reader never waits much longer than its patience when every other host is stuck', () => {
  const world = new PlanWorld({ seed: 6, chunks: 40, originBytesPerSecond: 50e6 })
  for (let at = 0; at < 12; at++) world.behave(world.addHost({ held: ChunkMap.full(40) }), 'stuck')
  const host = world.addHost({ whole: false })
  world.at(300, () => world.tell(host, (plan) => plan.want(1, 0, 40, world.now)))
  assert.ok(
    world.run(60_000, () => host.held.has(0)),
    'the first chunk never came',
  )
  assert.ok(world.now - 300 <= READER_PATIENCE_MS + STALL_MS + 500, `it came after ${world.now - 300} ms`)
})

/** Seeds in which hosts once waited for ever. */
const FAILED_ONCE = [103, 225, 297, 376]

/** A small world with everything going wrong in it, drawn from its seed. */
function troubledWorld(seed: number): PlanWorld {
  const world = new PlanWorld({
    seed,
    chunks: 8 + ((seed * 7) % 60),
    originBytesPerSecond: [5e6, 50e6, 200e6][seed % 3] ?? 50e6,
    makePlan: (settings, scores) => new TwinPlan(settings, scores),
  })
  const chance = (share: number) => world.random.next() < share
  const oneOf = <T>(values: readonly T[], otherwise: T) =>
    values[Math.floor(world.random.next() * values.length)] ?? otherwise
  const { chunks } = world.options
  for (let at = 0; at < 2 + (seed % 6); at++) {
    const held = chance(0.3) ? someOf(chunks, () => chance(0.4)) : new ChunkMap(chunks)
    world.addHost({
      held,
      startAt: world.random.next() * 2_000,
      whole: at === 0 || chance(0.8),
      uploadSlots: oneOf([1, 2, 4, 8], 8),
      upBytesPerSecond: oneOf([2e6, 20e6, 100e6], 100e6),
      originBytesPerSecond: oneOf([1e6, 20e6, 100e6], 100e6),
    })
  }
  const wrong: readonly Behaviour[] = ['stuck', 'liar', 'false-map', 'busy', 'refuses', 'honest', 'honest']
  for (const host of world.hosts.slice(1)) {
    const at = world.random.next() * 8_000
    const turn = world.random.next()
    if (turn < 0.3) world.at(at, () => world.behave(host, oneOf(wrong, 'honest')))
    else if (turn < 0.4) world.at(at, () => world.leave(host))
    else if (turn < 0.5) world.at(at, () => world.die(host))
  }
  if (chance(0.3)) {
    world.at(world.random.next() * 3_000, () => world.failOrigin('origin-unreachable'))
    world.at(3_000 + world.random.next() * 8_000, () => world.failOrigin(undefined))
  }
  for (const host of world.hosts.filter(({ whole }) => !whole || chance(0.3))) {
    const from = Math.floor(world.random.next() * chunks)
    world.at(2_500, () => world.tell(host, (plan) => plan.want(1, from, chunks, world.now)))
  }
  return world
}

function glanceEvery(world: PlanWorld, intervalMs: number): void {
  const waits = (host: WorldHost) =>
    host.finishedAt === undefined && !host.left && host.behaviour !== 'dead' && !host.pumpQueued
  const glance = () => {
    for (const host of world.hosts) {
      const due = (host.wakeAt ?? Number.POSITIVE_INFINITY) <= world.now
      if (host.plan instanceof TwinPlan && waits(host) && !due) host.plan.glance(world.now)
    }
    world.at(world.now + intervalMs, glance)
  }
  world.at(0, glance)
}

test('whatever goes wrong every living host finishes, acting at events and at wakeAt only', (context) => {
  for (const seed of new Set([...seeds(context, 60), ...FAILED_ONCE])) {
    const world = troubledWorld(seed)
    glanceEvery(world, 137)
    assert.ok(
      world.run(900_000),
      `seed ${seed}: ${world.hosts.map((host) => `${host.name} ${host.behaviour} ${host.held.held}`).join(', ')}`,
    )
  }
})

test('the same seed gives the same run', () => {
  const trace = () => {
    const world = troubledWorld(12)
    world.run(900_000)
    return world.hosts.map(({ started }) => started)
  }
  assert.deepEqual(trace(), trace())
})
