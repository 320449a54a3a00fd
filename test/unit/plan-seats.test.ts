// Who has a seat at the origin for a blob: everybody works out the same, and who leaves makes room.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { shareSeed } from '@shoal/agent/plan/origin-share.ts'
import { beforeInOrder, SeatOrder } from '@shoal/agent/plan/seat-order.ts'
import fc from 'fast-check'

const names = fc.uniqueArray(fc.stringMatching(/^[a-z0-9]{1,8}$/), { minLength: 1, maxLength: 30 })

function seatedOf(order: SeatOrder): string[] {
  return order.seated().map(({ host }) => host)
}

function orderOf(seats: number, hosts: readonly string[], blob = 'blob'): SeatOrder {
  const order = new SeatOrder(seats)
  for (const host of hosts) order.add(shareSeed(blob, host))
  return order
}

test('hosts that hear of each other in different orders agree on who has a seat and who is next', () => {
  fc.assert(
    fc.property(names, fc.integer({ min: 1, max: 6 }), fc.infiniteStream(fc.nat()), (hosts, seats, salts) => {
      const shuffled = hosts
        .map((host) => ({ host, salt: salts.next().value }))
        .toSorted((a, b) => a.salt - b.salt)
        .map(({ host }) => host)
      const [one, other] = [orderOf(seats, hosts), orderOf(seats, shuffled)]
      assert.deepEqual(seatedOf(one), seatedOf(other))
      assert.equal(seatedOf(one).length, Math.min(seats, hosts.length))
      for (const host of hosts) assert.equal(one.isNear(host), other.isNear(host))
      assert.equal(
        one.firstWaiting(() => true),
        other.firstWaiting(() => true),
      )
    }),
  )
})

test('who leaves makes room for the next in order, and nobody else moves', () => {
  fc.assert(
    fc.property(names, fc.integer({ min: 1, max: 6 }), fc.nat(), (hosts, seats, pick) => {
      const order = orderOf(seats, hosts)
      const before = seatedOf(order)
      const next = order.firstWaiting(() => true)
      const leaver = before[pick % before.length] ?? ''
      order.remove(leaver)
      assert.equal(order.changed, true)
      const rest = before.filter((host) => host !== leaver)
      assert.deepEqual(seatedOf(order), next === undefined ? rest : [...rest, next])
      assert.equal(order.changed, false)
    }),
  )
})

test('the arrival or loss of a host without a seat changes nothing for those that have one', () => {
  const hosts = Array.from({ length: 20 }, (_, at) => `host-${at}`)
  const order = orderOf(4, hosts)
  const seated = seatedOf(order)
  const last = hosts
    .map((host) => shareSeed('blob', host))
    .toSorted((a, b) => (beforeInOrder(a, b) ? -1 : 1))
    .at(-1)
  assert.ok(last)
  order.remove(last.host)
  assert.equal(order.changed, false)
  order.add(last)
  order.add(last)
  assert.equal(order.changed, false)
  assert.deepEqual(seatedOf(order), seated)
  assert.equal(order.isNear(last.host), false)
})

test('a host that is told of twice has one seat, and one that was never there leaves none', () => {
  const order = orderOf(2, ['a', 'a', 'b'])
  assert.equal(seatedOf(order).length, 2)
  order.remove('nobody')
  assert.equal(order.changed, false)
})

test('the order is strict: of two hosts exactly one is before the other, also when their seeds are equal', () => {
  fc.assert(
    fc.property(fc.nat(3), fc.nat(3), names, (seedA, seedB, [hostA = 'a']) => {
      const [a, b] = [
        { host: hostA, seed: seedA },
        { host: `${hostA}x`, seed: seedB },
      ]
      assert.notEqual(beforeInOrder(a, b), beforeInOrder(b, a))
      assert.equal(beforeInOrder(a, a), false)
    }),
  )
})

test('seats of different blobs fall to different hosts, so that no host does the work for all', () => {
  const hosts = Array.from({ length: 20 }, (_, at) => `host-${at}`)
  const counts = new Map<string, number>()
  for (let blob = 0; blob < 400; blob++)
    for (const host of seatedOf(orderOf(4, hosts, `blob-${blob}`)))
      counts.set(host, (counts.get(host) ?? 0) + 1)
  // 80 each on the average.
  for (const host of hosts) {
    const count = counts.get(host) ?? 0
    assert.ok(count >= 40 && count <= 130, `${host} has ${count} seats`)
  }
})

test('there is always one seat', () => {
  assert.equal(seatedOf(orderOf(0, ['a', 'b'])).length, 1)
})
