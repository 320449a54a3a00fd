// Whom a host hears of a blob from: few in a large mesh, chosen so that all are connected, near ones first, and leaders know each other.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { CHOSEN_NEIGHBOURS, type Distance, MAX_NEIGHBOURS, Neighbours } from '@shoal/agent/plan/neighbours.ts'
import { shareSeed } from '@shoal/agent/plan/origin-share.ts'
import { beforeInOrder } from '@shoal/agent/plan/seat-order.ts'
import { seededRandom } from '@shoal/protocol/time.ts'
import { seeds } from '../support/seed.ts'

const SEATS = 4

interface Host {
  readonly name: string
  readonly site: number
  readonly neighbours: Neighbours
}

/** Hosts that each know about `known` others and have asked those they chose. */
function mesh(
  seed: number,
  count: number,
  known: number,
  sites = 1,
): { hosts: Host[]; chosen: Map<string, string[]> } {
  const random = seededRandom(seed)
  const hosts: Host[] = Array.from({ length: count }, (_, at) => ({
    name: `host-${at}`,
    site: at % sites,
    neighbours: new Neighbours(`blob-${seed}`, `host-${at}`, SEATS),
  }))
  const distance = (a: Host, b: Host): Distance => (a.site === b.site ? 1 : 2)
  for (const host of hosts)
    for (let at = 0; at < known; at++) {
      const other = known >= count ? hosts[at] : hosts[Math.floor(random.next() * count)]
      if (other === undefined || other === host) continue
      host.neighbours.heard(other.name, distance(host, other))
      other.neighbours.heard(host.name, distance(other, host))
    }
  const chosen = new Map<string, string[]>()
  const byName = new Map(hosts.map((host) => [host.name, host]))
  for (const host of hosts) {
    const names = host.neighbours.choose()
    chosen.set(host.name, names)
    for (const name of names) {
      const other = byName.get(name)
      if (other === undefined) continue
      if (!other.neighbours.accept(host.name, distance(other, host))) host.neighbours.refused(name)
    }
  }
  return { hosts, chosen }
}

function reachedFrom(hosts: readonly Host[]): Set<string> {
  const byName = new Map(hosts.map((host) => [host.name, host]))
  const [first] = hosts
  const reached = new Set<string>(first === undefined ? [] : [first.name])
  for (const name of reached) for (const next of byName.get(name)?.neighbours.all() ?? []) reached.add(next)
  return reached
}

test('in a small mesh everybody is a neighbour of everybody', (context) => {
  for (const seed of seeds(context, 3)) {
    const { hosts } = mesh(seed, 12, 12)
    for (const { neighbours } of hosts) assert.equal(neighbours.count, 11)
  }
})

test('of a thousand hosts each has about twenty neighbours, and a chain of them leads from each to all', (context) => {
  for (const seed of seeds(context, 2)) {
    const { hosts } = mesh(seed, 1_000, 100)
    assert.equal(reachedFrom(hosts).size, 1_000, `seed ${seed}`)
    const counts = hosts.map(({ neighbours }) => neighbours.count)
    const mean = counts.reduce((sum, count) => sum + count, 0) / counts.length
    context.diagnostic(
      `seed ${seed}: ${mean.toFixed(1)} neighbours, ${Math.min(...counts)} to ${Math.max(...counts)}`,
    )
    assert.ok(mean >= CHOSEN_NEIGHBOURS && mean <= 26, `seed ${seed}: ${mean}`)
    assert.ok(
      Math.min(...counts) >= CHOSEN_NEIGHBOURS - 2 && Math.max(...counts) <= MAX_NEIGHBOURS + 2 * SEATS,
    )
  }
})

test('two hosts that know the same others mostly choose each other without having asked', () => {
  const names = Array.from({ length: 200 }, (_, at) => `host-${at}`)
  const chosen = new Map(
    names.map((name) => {
      const neighbours = new Neighbours('blob', name, SEATS)
      for (const other of names) neighbours.heard(other, 1)
      return [name, new Set(neighbours.choose())]
    }),
  )
  let mutual = 0
  let all = 0
  for (const [name, set] of chosen)
    for (const other of set) {
      all++
      if (chosen.get(other)?.has(name) === true) mutual++
    }
  // Chosen by lot it would be 16 of 200.
  assert.ok(mutual / all > 0.6, `${mutual} of ${all}`)
})

test('near hosts come first, but a fourth of the places is open to all, so that no site is an island', (context) => {
  for (const seed of seeds(context, 3)) {
    const { hosts, chosen } = mesh(seed, 400, 400, 4)
    assert.equal(reachedFrom(hosts).size, 400, `seed ${seed}`)
    let near = 0
    let far = 0
    for (const { name, site } of hosts)
      for (const other of chosen.get(name) ?? [])
        if (Number(other.slice(5)) % 4 === site) near++
        else far++
    context.diagnostic(`seed ${seed}: ${near} near, ${far} far`)
    assert.ok(near / (near + far) >= 0.7, `seed ${seed}: ${near} near, ${far} far`)
    assert.ok(far / (near + far) >= 0.08, `seed ${seed}: ${near} near, ${far} far`)
  }
})

test('the first in order of a site know each other, however many neighbours they have', (context) => {
  for (const seed of seeds(context, 3)) {
    const { hosts } = mesh(seed, 300, 300)
    const leaders = hosts
      .toSorted((a, b) =>
        beforeInOrder(shareSeed(`blob-${seed}`, a.name), shareSeed(`blob-${seed}`, b.name)) ? -1 : 1,
      )
      .slice(0, 2 * SEATS)
    for (const one of leaders)
      for (const other of leaders)
        assert.ok(
          one === other || one.neighbours.has(other.name),
          `seed ${seed}: ${one.name} lacks ${other.name}`,
        )
  }
})

test('hosts of another site lead nobody here', () => {
  const neighbours = new Neighbours('blob', 'self', 1)
  for (let at = 0; at < 20; at++) neighbours.heard(`far-${at}`, 2)
  assert.ok(neighbours.mayLead(0))
  for (let at = 0; at < 20; at++) assert.equal(neighbours.isLeader(`far-${at}`), false)
})

test('a host that cannot be reached is not asked for a place, until it can', () => {
  const neighbours = new Neighbours('blob', 'self', SEATS)
  neighbours.heard('other', 1, false)
  assert.deepEqual(neighbours.choose(), [])
  neighbours.heard('other', 1)
  assert.deepEqual(neighbours.choose(), ['other'])
  assert.deepEqual(neighbours.choose(), [], 'it is not asked twice')
})

test('who leaves or refuses makes room for another', () => {
  for (const end of ['gone', 'refused'] as const) {
    const neighbours = new Neighbours('blob', 'self', SEATS)
    for (let at = 0; at < 200; at++) neighbours.heard(`host-${at}`, 1)
    const [first = ''] = neighbours.choose()
    neighbours[end](first)
    assert.equal(neighbours.has(first), false)
    const again = neighbours.choose()
    assert.equal(again.length, 1, end)
    assert.notEqual(again[0], first)
  }
})

test('strangers cannot grow the list beyond its bounds, whatever names they take', () => {
  const blob = 'blob'
  const self = 'self'
  const neighbours = new Neighbours(blob, self, SEATS)
  const own = shareSeed(blob, self)
  // Names that all are before this host, each before the one that came last: the worst there is.
  const names = Array.from({ length: 4_000 }, (_, at) => shareSeed(blob, `stranger-${at}`)).toSorted(
    (a, b) => (beforeInOrder(a, b) ? 1 : -1),
  )
  let accepted = 0
  for (const seed of [
    ...names.filter((one) => beforeInOrder(own, one)),
    ...names.filter((one) => beforeInOrder(one, own)),
  ]) {
    if (neighbours.accept(seed.host, 1)) accepted++
    neighbours.choose()
  }
  assert.ok(neighbours.count <= MAX_NEIGHBOURS + 2 * SEATS, `${neighbours.count} neighbours`)
  assert.ok(accepted >= MAX_NEIGHBOURS)
  assert.equal(neighbours.accept(self, 1), false, 'a host is no neighbour of itself')
})
