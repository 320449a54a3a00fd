// Whom hosts are connected with: few of many, about the same number each, and nobody is left outside. A mesh of a thousand is
// played out with the choices alone: who learns of whom as over the wire, who is dialled, whom a full host ends it with.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { newIdentity } from '@shoal/agent/net/identity.ts'
import {
  CHOSEN_CONNECTIONS,
  chooseCloses,
  chooseDials,
  KEPT_CONNECTIONS,
  NEAR_CONNECTIONS,
  type OpenConnection,
  pairWeight,
  VISIT_MS,
  VISITOR_CONNECTIONS,
} from '@shoal/agent/plan/connection-choice.ts'
import type { PeerId } from '@shoal/protocol/ids.ts'
import { type Random, seededRandom } from '@shoal/protocol/time.ts'
import fc from 'fast-check'
import { seeds } from '../support/seed.ts'

const peers = Array.from({ length: 400 }, () => newIdentity().peer)
const [self] = peers as [PeerId]
const others = peers.slice(1)
const waiting = others.map((peer) => ({ peer, isGiven: false, failures: 0 }))
const nobody = () => false

test('both of a pair give it the same weight, and weights are spread evenly', () => {
  const weights = others.map((peer) => pairWeight(self, peer))
  assert.deepEqual(
    weights,
    others.map((peer) => pairWeight(peer, self)),
  )
  const low = weights.filter((weight) => weight < 2 ** 31).length
  assert.ok(low > 140 && low < 260, `${low} of ${weights.length} in the lower half`)
})

test('in a small mesh everybody is dialled, in a large one 48 hosts, always the same ones', () => {
  assert.equal(chooseDials(self, waiting.slice(0, 40), { all: 0, near: 0 }, nobody).length, 40)
  const chosen = chooseDials(self, waiting, { all: 0, near: 0 }, nobody)
  assert.equal(chosen.length, CHOSEN_CONNECTIONS)
  assert.deepEqual(chooseDials(self, waiting.toReversed(), { all: 0, near: 0 }, nobody), chosen)
  assert.equal(chooseDials(self, waiting, { all: 40, near: 0 }, nobody).length, 8)
  assert.deepEqual(chooseDials(self, waiting, { all: CHOSEN_CONNECTIONS, near: 0 }, nobody), [])
})

test('half of those chosen are near, and near ones are still dialled by a host that found only far ones at first', () => {
  const near = new Set<string>(others.slice(0, 100))
  const isNear = (peer: string) => near.has(peer)
  const count = (chosen: readonly { readonly peer: string }[]) =>
    chosen.filter(({ peer }) => near.has(peer)).length
  const chosen = chooseDials(self, waiting, { all: 0, near: 0 }, isNear)
  assert.equal(chosen.length, CHOSEN_CONNECTIONS)
  assert.ok(count(chosen) >= NEAR_CONNECTIONS && count(chosen) <= 40, `${count(chosen)} near`)
  const later = chooseDials(self, waiting, { all: CHOSEN_CONNECTIONS, near: 4 }, isNear)
  assert.deepEqual([later.length, count(later)], [20, 20])
  assert.deepEqual(
    chooseDials(self, waiting, { all: CHOSEN_CONNECTIONS + NEAR_CONNECTIONS, near: 0 }, isNear),
    [],
  )
})

test('the operator’s hosts are dialled however many others there are, failing ones last', () => {
  const given = [
    { peer: undefined, isGiven: true, failures: 3 },
    { peer: others[0], isGiven: true, failures: 0 },
  ]
  const chosen = chooseDials(self, [...waiting.slice(1), ...given], { all: 46, near: 0 }, nobody)
  assert.equal(chosen[0], given[1])
  assert.deepEqual([chosen.length, chosen.at(-1)], [4, given[0]])
  assert.equal(chooseDials(self, given, { all: KEPT_CONNECTIONS - 1, near: 0 }, nobody).length, 1)
  assert.deepEqual(chooseDials(self, given, { all: KEPT_CONNECTIONS, near: 0 }, nobody), [])
})

test('a full host ends as many connections as it has too many, never given, dialled or brand-new ones, those in use last', () => {
  const connection = fc.record({
    isGiven: fc.boolean(),
    isInbound: fc.boolean(),
    isNear: fc.boolean(),
    isInUse: fc.boolean(),
    ageMs: fc.integer({ min: 0, max: 4 * VISIT_MS }),
  })
  fc.assert(
    fc.property(fc.array(connection, { maxLength: KEPT_CONNECTIONS + VISITOR_CONNECTIONS }), (drawn) => {
      const open: OpenConnection[] = drawn.map((one, at) => ({ ...one, peer: others[at] ?? self }))
      const closed = new Set(chooseCloses(self, open))
      const mayClose = open.filter(
        ({ isGiven, isInbound, ageMs }) => !isGiven && isInbound && ageMs >= VISIT_MS,
      )
      const surplus = Math.max(0, open.length - KEPT_CONNECTIONS)
      assert.equal(closed.size, Math.min(surplus, mayClose.length))
      assert.equal(mayClose.filter(({ peer }) => closed.has(peer)).length, closed.size)
      const kept = mayClose.filter(({ peer }) => !closed.has(peer))
      if (kept.some(({ isInUse }) => !isInUse))
        assert.ok(open.every(({ peer, isInUse }) => !closed.has(peer) || !isInUse))
    }),
    { numRuns: 200 },
  )
})

interface Host {
  readonly peer: PeerId
  readonly known: Set<Host>
  /** To whom, and whether we dialled. */
  readonly links: Map<Host, boolean>
}

const TOLD = 32

function join(one: Host, other: Host): void {
  one.links.set(other, true)
  other.links.set(one, false)
  one.known.add(other)
  other.known.add(one)
}

function part(one: Host, other: Host): void {
  one.links.delete(other)
  other.links.delete(one)
}

/** What an asked peer tells: a random choice of those it is connected with. */
function ask(one: Host, other: Host, random: Random): void {
  const told = [...other.links.keys()]
  for (let count = 0; count < TOLD && told.length > 0; count++) {
    const [host] = told.splice(Math.floor(random.next() * told.length), 1)
    if (host !== undefined && host !== one) one.known.add(host)
  }
}

/** One look of the dialler: true if somebody was dialled. */
function look(one: Host, random: Random, turnedAway: Set<Host>): boolean {
  const byPeer = new Map([...one.known].map((host) => [host.peer, host]))
  const due = [...one.known]
    .filter((host) => !one.links.has(host) && !turnedAway.has(host))
    .map(({ peer }) => ({ peer, isGiven: false, failures: 0 }))
  const chosen = chooseDials(one.peer, due, { all: one.links.size, near: 0 }, nobody).slice(0, 24)
  for (const { peer } of chosen) {
    const other = byPeer.get(peer)
    if (other === undefined) continue
    if (other.links.size >= KEPT_CONNECTIONS + VISITOR_CONNECTIONS) {
      turnedAway.add(other)
      continue
    }
    join(one, other)
    ask(one, other, random)
    ask(other, one, random)
    if (other.links.size <= KEPT_CONNECTIONS) continue
    const open = [...other.links].map(([host, isOut]) => ({
      peer: host.peer,
      isGiven: false,
      isInbound: !isOut,
      isNear: false,
      isInUse: false,
      ageMs: VISIT_MS,
    }))
    const closed = new Set<string>(chooseCloses(other.peer, open))
    for (const host of [...other.links.keys()]) if (closed.has(host.peer)) part(other, host)
    if (!one.links.has(other)) turnedAway.add(other)
  }
  return chosen.length > 0
}

function reached(from: Host): { readonly count: number; readonly steps: number } {
  const seen = new Set([from])
  let edge = [from]
  let steps = 0
  for (; edge.length > 0; steps++) {
    edge = edge.flatMap((host) => [...host.links.keys()].filter((next) => !seen.has(next) && seen.add(next)))
  }
  return { count: seen.size, steps: steps - 1 }
}

test('in a mesh of a thousand that grew host by host from one, each has links enough, none too many, and all are three steps apart', (t) => {
  for (const seed of seeds(t, 1)) {
    const random = seededRandom(seed)
    const hosts: Host[] = Array.from({ length: 1_000 }, (_, at) => ({
      peer: (peers[at] ?? newIdentity().peer) as PeerId,
      known: new Set(),
      links: new Map(),
    }))
    const [first] = hosts as [Host]
    const settle = (host: Host): void => {
      const turnedAway = new Set<Host>()
      for (let round = 0; round < 40 && look(host, random, turnedAway); round++);
    }
    for (const host of hosts) {
      // All that it knows is the same one host, full or not.
      if (host !== first) host.known.add(first)
      settle(host)
      assert.ok(host.links.size >= Math.min(40, host.known.size), `a newcomer has ${host.links.size} links`)
    }
    // Those that full hosts hung up on look for others.
    for (const host of hosts) if (host.links.size < CHOSEN_CONNECTIONS) settle(host)
    const degrees = hosts.map(({ links }) => links.size).toSorted((a, b) => a - b)
    t.diagnostic(`links: ${degrees[0]} to ${degrees.at(-1)}, median ${degrees[500]}`)
    assert.ok((degrees[0] ?? 0) >= 40, `${degrees[0]} links at least`)
    assert.ok((degrees.at(-1) ?? 0) <= KEPT_CONNECTIONS, `${degrees.at(-1)} links at most`)
    const { count, steps } = reached(first)
    assert.equal(count, hosts.length)
    assert.ok(steps <= 3, `${steps} steps`)
  }
})
