// Whom an uploader serves next: slots, whose turn it is, and how much may wait.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { STALL_MS } from '@shoal/agent/plan/download-plan.ts'
import {
  MAX_TURN_WAIT_MS,
  MAX_WAITING,
  MAX_WAITING_PER_PEER,
  TURN_WAIT_MS,
  UPLOAD_SLOTS,
  UploadOrder,
  type UploadRequest,
} from '@shoal/agent/plan/upload-order.ts'
import fc from 'fast-check'

function request(id: number, peer: string, chunk: string, urgent = false): UploadRequest {
  return { id, peer, chunk, urgent }
}

/** An order whose slots are all taken by requests 1001 and up for chunks nobody else asks for. */
function busyOrder(slots = UPLOAD_SLOTS): UploadOrder {
  const order = new UploadOrder(slots)
  for (let at = 0; at < slots; at++)
    assert.equal(order.arrived(request(1_001 + at, `early-${at}`, `early-${at}`), 0), 'send')
  return order
}

test('four requests are served at once and the next one waits until one of them is over', () => {
  const order = busyOrder()
  assert.equal(order.load, 1)
  assert.equal(order.arrived(request(1, 'a', 'x'), 0), 'wait')
  assert.equal(order.inLine, 5)
  assert.deepEqual(order.over(1_001, true, 100), [1])
  assert.equal(order.inLine, 4)
})

test('a chunk that one peer waits for or is being given is not promised to another, unless a client waits for it', () => {
  const order = busyOrder()
  assert.equal(order.arrived(request(1, 'a', 'x'), 0), 'wait')
  assert.equal(order.arrived(request(2, 'b', 'x'), 0), 'later')
  assert.equal(order.arrived(request(3, 'b', 'early-0'), 0), 'later')
  assert.equal(order.arrived(request(4, 'b', 'x', true), 0), 'wait')
  assert.equal(order.inLine, UPLOAD_SLOTS + 2, 'who hears `later` does not wait')
})

test('while slots are free nobody is sent away, whatever is asked for', () => {
  const order = new UploadOrder(4)
  for (let id = 1; id <= 4; id++) assert.equal(order.arrived(request(id, `peer-${id}`, 'same'), 0), 'send')
})

test('what a client waits for goes first, then chunks never sent before, then the peer that was given least', () => {
  const order = busyOrder(1)
  // `early-0` was given one chunk and asks for a new one; `b` was given none and asks for one that was sent before.
  assert.deepEqual(order.over(1_001, true, 10), [])
  assert.equal(order.arrived(request(2_000, 'c', 'z'), 10), 'send')
  assert.equal(order.arrived(request(1, 'b', 'early-0'), 11), 'wait')
  assert.equal(order.arrived(request(2, 'early-0', 'new'), 12), 'wait')
  assert.equal(order.arrived(request(3, 'd', 'other-new'), 13), 'wait')
  assert.equal(order.arrived(request(4, 'early-0', 'third-new', true), 14), 'wait')
  const served: number[] = []
  let last = 2_000
  for (let now = 20; now < 60; now += 10) {
    const [next] = order.over(last, true, now)
    assert.ok(next)
    served.push(next)
    last = next
  }
  assert.deepEqual(served, [4, 3, 2, 1])
})

test('of equals the one that has waited longest is first', () => {
  const order = busyOrder(1)
  for (let id = 1; id <= 5; id++) order.arrived(request(id, `peer-${id}`, `chunk-${id}`), id)
  assert.deepEqual(order.over(1_001, true, 10), [1])
  assert.deepEqual(order.over(1, true, 20), [2])
})

test('a peer may let eight requests wait and all together sixty-four; others hear that the host is busy', () => {
  const order = busyOrder()
  let id = 1
  for (let at = 0; at < MAX_WAITING_PER_PEER; at++)
    assert.equal(order.arrived(request(id++, 'greedy', `g-${at}`), 0), 'wait')
  assert.equal(order.arrived(request(id++, 'greedy', 'one more'), 0), 'busy')
  for (let at = MAX_WAITING_PER_PEER; at < MAX_WAITING; at++)
    assert.equal(order.arrived(request(id++, `peer-${at}`, `p-${at}`), 0), 'wait')
  assert.equal(order.arrived(request(id++, 'last', 'last'), 0), 'busy')
})

test('a request that waited in vain frees its place, and its end serves nobody', () => {
  const order = busyOrder()
  order.arrived(request(1, 'a', 'x'), 0)
  assert.deepEqual(order.over(1, false, 1_000), [])
  assert.equal(order.inLine, UPLOAD_SLOTS)
  assert.equal(order.arrived(request(2, 'b', 'x'), 1_000), 'wait', 'the chunk is free again')
  assert.deepEqual(order.over(99, true, 1_000), [], 'an unknown request is no news')
})

test('a turn is waited for at least a second, as long as three chunks take, and never until it looks like a stall', () => {
  const order = busyOrder(1)
  assert.equal(order.turnWaitMs, TURN_WAIT_MS)
  order.arrived(request(1, 'a', 'x'), 0)
  order.over(1_001, true, 400)
  assert.equal(order.turnWaitMs, 1_200)
  order.over(1, true, 100_000)
  assert.equal(order.turnWaitMs, MAX_TURN_WAIT_MS)
  assert.ok(MAX_TURN_WAIT_MS < STALL_MS)
})

test('what was broken off says nothing about how long a chunk takes', () => {
  const order = busyOrder(1)
  order.over(1_001, false, 60_000)
  assert.equal(order.turnWaitMs, TURN_WAIT_MS)
})

test('a lone seeder sends every chunk once before any twice, whoever asks for what', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 2, max: 6 }),
      fc.integer({ min: 1, max: 20 }),
      fc.integer(),
      (peers, chunks, salt) => {
        const order = new UploadOrder()
        const sent: number[] = []
        const open = new Map<number, { readonly peer: number; readonly chunk: number }>()
        const lacks = Array.from(
          { length: peers },
          () => new Set(Array.from({ length: chunks }, (_, at) => at)),
        )
        let id = 1
        const sending: number[] = []
        // Every peer asks for all it lacks, in its own order; one sent away asks again the next time.
        for (let now = 0; now < 4 * peers * chunks; now++) {
          for (let peer = 0; peer < peers; peer++)
            for (let at = 0; at < chunks; at++) {
              const chunk = (at + peer * 3 + (salt >>> 1)) % chunks
              const isOpen = [...open.values()].some((one) => one.peer === peer && one.chunk === chunk)
              if (isOpen || lacks[peer]?.has(chunk) !== true) continue
              const verdict = order.arrived(request(id, `${peer}`, `${chunk}`), now)
              if (verdict === 'busy' || verdict === 'later') continue
              open.set(id, { peer, chunk })
              if (verdict === 'send') sending.push(id)
              id++
            }
          const done = sending.shift()
          if (done === undefined) break
          const one = open.get(done)
          open.delete(done)
          if (one === undefined) continue
          lacks[one.peer]?.delete(one.chunk)
          sent.push(one.chunk)
          sending.push(...order.over(done, true, now))
          assert.ok(order.inLine <= UPLOAD_SLOTS + MAX_WAITING)
        }
        assert.equal(sent.length, peers * chunks, 'everybody gets everything')
        // The first four find the slots free and may ask for the same; after them a new chunk always comes first.
        const slack = UPLOAD_SLOTS
        assert.ok(
          new Set(sent.slice(0, chunks + slack)).size >= Math.min(chunks, chunks + slack - UPLOAD_SLOTS),
        )
      },
    ),
    { numRuns: 60 },
  )
})

test('however requests come and go, slots are never exceeded and none stands free while somebody waits', () => {
  const step = fc.record({
    peer: fc.integer({ min: 0, max: 9 }),
    chunk: fc.integer({ min: 0, max: 30 }),
    urgent: fc.boolean(),
    ends: fc.option(fc.nat(30)),
    wasSent: fc.boolean(),
  })
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 5 }), fc.array(step, { maxLength: 200 }), (slots, steps) => {
      const order = new UploadOrder(slots)
      const sending = new Map<number, string>()
      const waiting = new Map<number, string>()
      for (const [id, { peer, chunk, urgent, ends, wasSent }] of steps.entries()) {
        const wasFull = sending.size === slots
        const wasUnderWay = [...sending.values(), ...waiting.values()].includes(`${chunk}`)
        const verdict = order.arrived(request(id, `${peer}`, `${chunk}`, urgent), id)
        if (verdict === 'send') sending.set(id, `${chunk}`)
        if (verdict === 'wait') waiting.set(id, `${chunk}`)
        assert.equal(verdict === 'send', !wasFull)
        assert.ok(verdict !== 'wait' || !wasUnderWay || urgent)
        if (ends !== null) {
          const ended = [...sending.keys(), ...waiting.keys()][ends]
          if (ended !== undefined) {
            sending.delete(ended)
            waiting.delete(ended)
            for (const next of order.over(ended, wasSent, id)) {
              const known = waiting.get(next)
              assert.ok(known !== undefined, 'only who waits is served')
              waiting.delete(next)
              sending.set(next, known)
            }
          }
        }
        assert.ok(sending.size <= slots && (sending.size === slots || waiting.size === 0))
        assert.equal(order.inLine, sending.size + waiting.size)
        assert.equal(order.load, sending.size / slots)
      }
    }),
    { numRuns: 200 },
  )
})
