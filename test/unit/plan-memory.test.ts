// Sizes of buffers for any amount of memory, and what they do when it runs short.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { silentLog } from '@shoal/agent/log.ts'
import { MemoryBudget } from '@shoal/agent/memory-budget.ts'
import { BASE_BYTES, planMemory } from '@shoal/agent/plan/memory-plan.ts'
import { LARGE_PIECE_BYTES, SMALL_PIECE_BYTES } from '@shoal/agent/plan/read-pace.ts'
import { ChunkBuffers } from '@shoal/agent/transfer/chunk-buffers.ts'
import { seededRandom } from '@shoal/protocol/time.ts'
import { seeds } from '../support/seed.ts'
import { virtualClock } from '../support/virtual-clock.ts'

const MIB = 1024 * 1024
const GIB = 1024 * MIB

test('unless told otherwise buffers take 76 MiB, however much memory the host has', () => {
  for (const hostBytes of [2 * GIB, 24 * GIB, 2048 * GIB]) {
    const plan = planMemory({ hostBytes })
    assert.deepEqual([plan.limitBytes, plan.limitFrom], [hostBytes, 'host'])
    assert.equal(plan.arrivingBytes + plan.readingBytes + plan.uploadingBytes, 76 * MIB)
  }
})

test('a container of 768 MiB changes nothing, one of 300 MiB makes buffers small, and the least still works', () => {
  const usual = planMemory({ hostBytes: 24 * GIB })
  const roomy = planMemory({ hostBytes: 24 * GIB, allowedBytes: 768 * MIB })
  assert.deepEqual({ ...roomy, limitBytes: 0, limitFrom: '' }, { ...usual, limitBytes: 0, limitFrom: '' })
  assert.deepEqual([roomy.limitBytes, roomy.limitFrom], [768 * MIB, 'container'])
  const tight = planMemory({ hostBytes: 24 * GIB, allowedBytes: 300 * MIB })
  assert.ok(tight.arrivingBytes < usual.arrivingBytes && tight.readingBytes < usual.readingBytes)
  const least = planMemory({ hostBytes: 24 * GIB, allowedBytes: 64 * MIB })
  assert.deepEqual([least.arrivingBytes, least.readingBytes], [16 * MIB, 4 * MIB])
})

test('a configured limit counts unless the container has less, and more of it gives larger buffers', () => {
  const facts = { hostBytes: 24 * GIB, configuredBytes: 8 * GIB }
  const plan = planMemory(facts)
  assert.deepEqual([plan.limitBytes, plan.limitFrom], [8 * GIB, 'settings'])
  assert.ok(plan.arrivingBytes > GIB)
  assert.deepEqual(planMemory({ ...facts, allowedBytes: GIB }).limitFrom, 'container')
  assert.equal(planMemory({ ...facts, downloadBufferBytes: 64_000_000 }).arrivingBytes, 64_000_000)
})

test('whatever the limit, buffers and base fit below it unless they are at their least', (t) => {
  for (const seed of seeds(t, 50)) {
    const configuredBytes = Math.floor(256 * MIB + seededRandom(seed).next() ** 3 * 64 * GIB)
    const plan = planMemory({ hostBytes: 1024 * GIB, configuredBytes })
    const buffers = plan.arrivingBytes + plan.readingBytes + plan.uploadingBytes
    assert.ok(
      BASE_BYTES + buffers <= configuredBytes || buffers <= 36 * MIB,
      `${configuredBytes} (SEED=${seed})`,
    )
  }
})

test('buffers of chunks never exceed their limit, lent and kept together', (t) => {
  for (const seed of seeds(t, 20)) {
    const random = seededRandom(seed)
    const limitBytes = 64 * MIB
    const buffers = new ChunkBuffers(limitBytes)
    const lent: Uint8Array[] = []
    for (let step = 0; step < 300; step++) {
      const bytes = [4 * MIB, 2 * MIB, MIB, 3 * MIB][Math.floor(random.next() * 4)] ?? MIB
      if (random.next() < 0.5 && buffers.room > 0) lent.push(buffers.take(bytes))
      else {
        const one = lent.pop()
        if (one !== undefined) buffers.give(one)
      }
      assert.ok(buffers.lentBytes + buffers.keptBytes <= limitBytes + 4 * MIB, `SEED=${seed}`)
    }
  }
})

test('above the threshold garbage is collected, pools give up what is free, and all goes on below it', async () => {
  const clock = virtualClock()
  const facts = { usedBytes: 100, collected: 0, afterCollecting: 900 }
  const budget = new MemoryBudget(
    { maxBytes: 1000, downloadBufferBytes: undefined, gcThreshold: 0.8 },
    {
      hostBytes: 24 * GIB,
      allowedBytes: undefined,
      usedBytes: () => facts.usedBytes,
      externalBytes: () => 0,
      collect: () => {
        facts.collected++
        facts.usedBytes = facts.afterCollecting
      },
    },
    { clock, log: silentLog },
  )
  await budget.start()
  const waking: string[] = []
  budget.arriving.give(budget.arriving.take(4 * MIB))
  assert.equal(budget.arriving.keptBytes, 4 * MIB)
  await clock.advance(1_000)
  assert.equal(budget.status().isShort, false)
  facts.usedBytes = 950
  await clock.advance(1_000)
  assert.deepEqual(
    [facts.collected, budget.status().isShort, budget.arriving.room, budget.arriving.keptBytes],
    [1, true, 0, 0],
  )
  assert.equal(budget.reading.take(LARGE_PIECE_BYTES).byteLength, SMALL_PIECE_BYTES)
  budget.arriving.whenGiven(() => waking.push('room again'))
  await clock.advance(1_000)
  assert.equal(facts.collected, 1, 'once in two seconds')
  facts.afterCollecting = 500
  await clock.advance(1_000)
  assert.deepEqual([facts.collected, budget.status().isShort, waking], [2, false, ['room again']])
  assert.ok(budget.arriving.room > 0)
  await budget.stop()
  assert.equal(clock.pending, 0)
})

test('garbage beside the pools is collected before it piles up, all of it only when the young of it was not enough', async () => {
  const clock = virtualClock()
  const facts = { externalBytes: 0, young: 0, all: 0, afterYoung: 0 }
  const budget = new MemoryBudget(
    { maxBytes: undefined, downloadBufferBytes: undefined, gcThreshold: 0.8 },
    {
      hostBytes: 24 * GIB,
      allowedBytes: undefined,
      usedBytes: () => 0,
      externalBytes: () => facts.externalBytes,
      collect: (what) => {
        facts[what]++
        facts.externalBytes = what === 'all' ? 0 : facts.afterYoung
      },
    },
    { clock, log: silentLog },
  )
  await budget.start()
  const lent = budget.arriving.take(4 * MIB)
  facts.externalBytes = 44 * MIB
  await clock.advance(1_000)
  assert.deepEqual([facts.young, facts.all], [0, 0], 'what is lent, to peers too, is no garbage')
  facts.externalBytes = 45 * MIB
  await clock.advance(100)
  assert.deepEqual([facts.young, facts.all], [1, 0], 'looked at ten times a second while bytes move')
  facts.externalBytes = facts.afterYoung = 100 * MIB
  await clock.advance(100)
  assert.deepEqual([facts.young, facts.all], [2, 1])
  budget.arriving.give(lent)
  await budget.stop()
})
