// The scenarios: how a world is set up, what befalls it, and what the outcome must not exceed. A scenario is an assertion; how to run one
// is simulation.ts.

import { tellGapMs } from '@shoal/agent/plan/gossip-interval.ts'
import { shareSeed } from '@shoal/agent/plan/origin-share.ts'
import { beforeInOrder } from '@shoal/agent/plan/seat-order.ts'
import { ChunkMap } from '@shoal/protocol/chunks.ts'
import type { SimHost } from './host.ts'
import type { Limit, Result } from './results.ts'
import { BLOB, type WorldOptions } from './stage.ts'
import type { World } from './world.ts'

export interface Setting {
  readonly hosts: number
  readonly chunks: number
  readonly bytesPerSecond: number
  readonly chunkBytes: number
}

/** What a scenario has added to a world, beside the hosts. */
export interface Staged {
  /** Hosts that have to be done; absent: all. */
  readonly counted?: () => readonly SimHost[]
  readonly sourceBytesPerSecond?: number
  /** Worked out when the world has stopped. */
  readonly extra?: () => readonly Limit[]
}

export interface Scenario {
  readonly says: string
  readonly hosts: number
  /** Divides the origin's rate. */
  readonly originSlowness?: number
  readonly options?: (setting: Setting) => Partial<WorldOptions>
  /** Called when all hosts are there, before any has joined. */
  readonly stage?: (world: World, setting: Setting) => Staged
  readonly limits: (result: Result) => readonly Limit[]
}

const ROUNDS = 5
/** After so long halves that can reach each other again have asked each other what they hold. */
const MEETING_MS = 1_000
/** Of hosts that a fault befalls. */
const FEW = 0.05

export const SCENARIOS: Readonly<Record<string, Scenario>> = {
  'flash-crowd': {
    says: 'all hosts want the blob at once and nobody has it',
    hosts: 100,
    limits: (result) => [
      { what: 'last host / bound', most: crowdLimit(result.hosts), measured: result.ratio },
      { what: 'amplification', most: 1.02, measured: result.amplification },
      ...always(result),
      ...(result.hosts > 1_000 ? [] : [gossipLimit(result)]),
    ],
  },
  kraken: {
    says: '2,600 hosts at once: the figure that Kraken publishes for its p99 is 1.8 x',
    hosts: 2_600,
    limits: (result) => [
      { what: 'p99 / bound', most: 1.5, measured: result.p99 },
      { what: 'amplification', most: 1.02, measured: result.amplification },
      ...always(result),
    ],
  },
  'thin-line': {
    says: "the origin gives a tenth of one host's rate",
    hosts: 100,
    originSlowness: 10,
    limits: (result) => [
      { what: 'last host / (F/u_s)', most: 1.02, measured: result.ratio },
      { what: 'amplification', most: 1.02, measured: result.amplification },
      ...always(result),
    ],
  },
  'stale-gossip': {
    says: 'news of hosts come five rounds late, and one in twenty hosts, an owner among them, is dead from the start',
    hosts: 100,
    options: stale,
    stage: (world) => killSome(world, 1_000),
    limits: (result) => [
      { what: 'amplification', most: 1.1, measured: result.amplification },
      ...always(result),
    ],
  },
  'stale-gossip-killed': {
    says: 'the same, but they die half-way',
    hosts: 100,
    options: stale,
    stage: (world, setting) => killSome(world, idealMs(setting) / 2),
    limits: (result) => [
      { what: 'amplification', most: 1.1, measured: result.amplification },
      ...always(result),
    ],
  },
  partition: {
    says: 'the swarm is two halves from the start that cannot reach each other, and then can',
    hosts: 100,
    stage: partition,
    limits: (result) => [
      { what: 'amplification', most: 2.1, measured: result.amplification },
      ...always(result),
    ],
  },
  'late-joiner': {
    says: 'three hosts have the blob, a fourth wants it',
    hosts: 4,
    stage: lateJoiner,
    limits: (result) => [
      { what: 'bytes from the origin', most: 0, measured: result.amplification },
      { what: 'last host / bound', most: 1.15, measured: result.ratio },
      { what: 'duplicates', most: 0.01, measured: result.duplicates },
    ],
  },
  churn: {
    says: 'one host in ten leaves, one in twenty dies, and as many come late',
    hosts: 100,
    stage: churn,
    limits: (result) => [
      { what: 'amplification', most: 1.1, measured: result.amplification },
      { what: 'hosts not done', most: 0, measured: result.unfinished },
      ...always(result),
    ],
  },
  'rolling-restart': {
    says: 'every host is stopped once, one after the other, and comes back after two seconds with what it had stored',
    hosts: 100,
    stage: rollingRestart,
    limits: (result) => [
      { what: 'last host / bound', most: 1.35, measured: result.ratio },
      { what: 'amplification', most: 1.1, measured: result.amplification },
      { what: 'hosts not done', most: 0, measured: result.unfinished },
    ],
  },
  sleep: {
    says: 'one host in twenty, an owner among them, stands still for 30 seconds and wakes up',
    hosts: 100,
    stage: sleep,
    limits: (result) => [
      { what: 'last host that did not sleep / bound', most: 1.35, measured: result.ratio },
      { what: 'amplification', most: 1.1, measured: result.amplification },
      ...always(result),
    ],
  },
}

function crowdLimit(hosts: number): number {
  if (hosts <= 10) return 1.15
  if (hosts <= 100) return 1.2
  return hosts <= 1_000 ? 1.25 : 1.35
}

function always(result: Result): readonly Limit[] {
  return [
    { what: 'duplicate bytes', most: 0.01, measured: result.duplicates },
    { what: 'busiest uploader / mean', most: 3, measured: result.uploaderMaxOverMean },
    { what: 'hosts not done', most: 0, measured: result.unfinished },
  ]
}

function gossipLimit(result: Result): Limit {
  return { what: 'gossip, B/s a host', most: 10_000, measured: result.gossipBytesPerSecondPerHost }
}

function idealMs({ chunks, chunkBytes, bytesPerSecond }: Setting): number {
  return (chunks * chunkBytes * 1_000) / bytesPerSecond
}

function stale(): Partial<WorldOptions> {
  const roundMs = ROUNDS * tellGapMs(24)
  return { gossipDelayMs: [1_000, roundMs], tellDelayMs: [roundMs, roundMs] }
}

/** The hosts in the blob's order: the first have the seats at the origin. */
function inOrder(world: World): readonly SimHost[] {
  return world.hosts
    .map((host) => ({ host, seed: shareSeed(BLOB, host.name) }))
    .toSorted((a, b) => (beforeInOrder(a.seed, b.seed) ? -1 : 1))
    .map(({ host }) => host)
}

/** One in twenty: the first in order, and others by chance. */
function victims(world: World): ReadonlySet<SimHost> {
  const chosen = new Set(inOrder(world).slice(0, 1))
  while (chosen.size < Math.ceil(world.hosts.length * FEW)) chosen.add(someHost(world))
  return chosen
}

function someHost(world: World): SimHost {
  const host = world.hosts[Math.floor(world.random.next() * world.hosts.length)]
  if (host === undefined) throw new Error('a world without hosts')
  return host
}

function living(world: World): Staged {
  return { counted: () => world.hosts.filter(({ left, behaviour }) => !left && behaviour !== 'dead') }
}

function killSome(world: World, atMs: number): Staged {
  for (const host of victims(world)) world.events.at(atMs, () => world.die(host))
  return living(world)
}

function partition(world: World, setting: Setting): Staged {
  let isHealed = false
  world.isCut = (a, b) => !isHealed && b !== undefined && a.number % 2 !== b.number % 2
  const heldAtHealing = new ChunkMap(setting.chunks)
  /** Requests to the origin that left before the halves could know of each other. */
  const before = new Set<string>()
  const noteRequests = () => {
    for (const host of world.hosts)
      for (const { from, index } of host.requests.values())
        if (from === undefined) before.add(`${host.name} ${index}`)
  }
  world.events.at(idealMs(setting), () => {
    isHealed = true
    for (const host of world.hosts) for (const index of host.held.indices()) heldAtHealing.add(index)
    world.meet()
    noteRequests()
    world.events.at(world.now + MEETING_MS, noteRequests)
  })
  let again = 0
  world.onStored = (host, index, from) => {
    if (from !== undefined || !isHealed || !heldAtHealing.has(index)) return
    if (!before.has(`${host.name} ${index}`)) again++
  }
  return { extra: () => [{ what: 'chunks fetched again after the healing', most: 0, measured: again }] }
}

function lateJoiner(world: World, { bytesPerSecond }: Setting): Staged {
  const [joiner, ...seeders] = world.hosts
  for (const seeder of seeders) world.complete(seeder)
  return {
    counted: () => (joiner === undefined ? [] : [joiner]),
    sourceBytesPerSecond: bytesPerSecond * seeders.length,
  }
}

function churn(world: World, setting: Setting): Staged {
  const lastMs = idealMs(setting)
  const count = world.hosts.length
  for (let step = 0; step < Math.ceil(count * 0.15); step++) {
    const host = someHost(world)
    world.events.at(world.random.next() * lastMs, () =>
      step % 3 === 0 ? world.die(host) : world.leave(host),
    )
  }
  return living(world)
}

function rollingRestart(world: World, setting: Setting): Staged {
  const stepMs = idealMs(setting) / world.hosts.length
  for (const host of world.hosts) {
    const at = (host.number + 0.5) * stepMs
    world.events.at(at, () => world.leave(host))
    world.events.at(at + 2_000, () => world.restart(host))
  }
  return {}
}

function sleep(world: World, setting: Setting): Staged {
  const sleepers = victims(world)
  const at = idealMs(setting) / 3
  for (const host of sleepers) {
    world.events.at(at, () => world.pause(host))
    world.events.at(at + 30_000, () => world.resume(host))
  }
  return { counted: () => world.hosts.filter((host) => !sleepers.has(host)) }
}
