// The dialler: how often, how many at once, and when it stops. On a virtual clock.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Dialer } from '@shoal/agent/net/dialer.ts'
import { newIdentity } from '@shoal/agent/net/identity.ts'
import { PeerBook } from '@shoal/agent/net/peer-book.ts'
import { ShoalError } from '@shoal/protocol/errors.ts'
import type { PeerId } from '@shoal/protocol/ids.ts'
import { createTasks } from '@shoal/protocol/service.ts'
import { seededRandom } from '@shoal/protocol/time.ts'
import { virtualClock } from '../support/virtual-clock.ts'

const [alice, bob, carol] = Array.from({ length: 3 }, () => newIdentity().peer) as [PeerId, PeerId, PeerId]

const at = (host: string) => `/ip4/${host}/tcp/8002`

interface World {
  readonly dials: { readonly at: number; readonly addresses: readonly string[] }[]
  readonly connected: Set<PeerId>
  answer: (addresses: readonly string[]) => Promise<PeerId | 'self'>
}

async function withDialer(
  run: (parts: {
    book: PeerBook
    dialer: Dialer
    world: World
    advance: (ms: number) => Promise<void>
    now: () => number
  }) => Promise<void>,
): Promise<void> {
  const clock = virtualClock()
  const failures: unknown[] = []
  const tasks = createTasks((_name, error) => failures.push(error))
  const book = new PeerBook(seededRandom(5))
  const refuse = () => Promise.reject(new ShoalError('peer-unreachable', 'nobody there'))
  const world: World = { dials: [], connected: new Set(), answer: refuse }
  const dialer = new Dialer({
    book,
    tasks,
    clock,
    isSettled: (peer) => world.connected.has(peer),
    choose: (due) => (world.connected.size >= 3 ? [] : due),
    dial: async (addresses) => {
      world.dials.push({ at: clock.now(), addresses })
      const answer = await world.answer(addresses)
      if (answer !== 'self') world.connected.add(answer)
      return answer
    },
    onFailed: () => {},
  })
  dialer.start()
  try {
    await run({ book, dialer, world, advance: clock.advance, now: clock.now })
  } finally {
    await tasks.stop()
    assert.deepEqual(failures, [])
    assert.equal(clock.pending, 0)
  }
}

test('the dialler tries an absent host ever more seldom, and connects when it is back', async () => {
  await withDialer(async ({ book, dialer, world, advance, now }) => {
    book.learn(alice, [at('10.0.0.1')], 'static', now())
    dialer.wake()
    await advance(600_000)
    assert.ok(
      world.dials.length >= 12 && world.dials.length <= 24,
      `${world.dials.length} dials in ten minutes`,
    )
    world.answer = async () => alice
    await advance(60_000)
    assert.ok(world.connected.has(alice))
    const done = world.dials.length
    await advance(600_000)
    assert.equal(world.dials.length, done, 'a connected host is left alone')
  })
})

test('the dialler dials a lost host again within two seconds', async () => {
  await withDialer(async ({ book, dialer, world, advance, now }) => {
    world.answer = async () => alice
    book.learn(alice, [at('10.0.0.1')], 'told', now())
    dialer.wake()
    await advance(100)
    world.connected.delete(alice)
    book.lost(alice, now(), false)
    dialer.wake()
    await advance(2_000)
    assert.ok(world.connected.has(alice))
    assert.equal(world.dials.length, 2)
  })
})

test('an address that turns out to be this host itself is forgotten', async () => {
  await withDialer(async ({ book, dialer, world, advance, now }) => {
    world.answer = async () => 'self'
    book.learnAddress(at('10.0.0.7'), now())
    dialer.wake()
    await advance(300_000)
    assert.equal(world.dials.length, 1)
  })
})

test('no more than eight dials run at once, and a full host dials nobody', async () => {
  await withDialer(async ({ book, dialer, world, advance, now }) => {
    let running = 0
    let most = 0
    let release = () => {}
    const gate = new Promise<void>((resolve) => {
      release = resolve
    })
    world.answer = async () => {
      most = Math.max(most, ++running)
      await gate
      running--
      throw new ShoalError('peer-unreachable', 'nobody there')
    }
    for (let host = 1; host <= 30; host++) book.learnAddress(at(`10.0.1.${host}`), now())
    dialer.wake()
    await advance(1_000)
    assert.equal(most, 8)
    release()
    await advance(1_000)
    assert.equal(most, 8)
    assert.ok(world.dials.length >= 30)
    for (const peer of [alice, bob, carol]) world.connected.add(peer)
    const done = world.dials.length
    await advance(300_000)
    assert.equal(world.dials.length, done)
  })
})

test('dials that take too long are made two at a time, and eight again when they work', async () => {
  await withDialer(async ({ book, dialer, world, advance, now }) => {
    const running: { readonly endsAt: number; readonly end: () => void }[] = []
    let most = 0
    let tookMs = 3_000
    world.answer = async () => {
      const { promise, resolve } = Promise.withResolvers<void>()
      running.push({ endsAt: now() + tookMs, end: resolve })
      most = Math.max(most, running.length)
      await promise
      if (tookMs > 100) throw new ShoalError('peer-unreachable', 'no answer')
      return alice
    }
    const mostWithin = async (ms: number): Promise<number> => {
      most = 0
      for (let passed = 0; passed < ms; passed += 100) {
        await advance(100)
        for (const one of running.splice(0)) {
          if (one.endsAt <= now()) one.end()
          else running.push(one)
        }
      }
      return most
    }
    for (let host = 1; host <= 60; host++) book.learnAddress(at(`10.0.1.${host}`), now())
    dialer.wake()
    assert.equal(await mostWithin(10_000), 8)
    assert.equal(await mostWithin(10_000), 2)
    tookMs = 100
    assert.equal(await mostWithin(20_000), 8)
    tookMs = 3_000
    await mostWithin(10_000)
    for (const one of running.splice(0)) one.end()
  })
})
