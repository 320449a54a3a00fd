// The order of downloads as a decision: class, operator, arrival; who waits for a place; who makes room in memory.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  DownloadQueue,
  highest,
  outranks,
  PRIORITIES,
  type Priority,
  roomFor,
} from '@shoal/agent/plan/download-queue.ts'
import { seededRandom } from '@shoal/protocol/time.ts'
import { seeds } from '../support/seed.ts'

function queueOf(
  places: number,
  rows: readonly (readonly [id: string, priority: Priority, files: number])[],
) {
  const queue = new DownloadQueue(places)
  for (const [id, priority, files] of rows) {
    queue.add(id, priority)
    for (let file = 0; file < files; file++) queue.waits(id)
  }
  return queue
}

function begun(queue: DownloadQueue): string[] {
  const ids: string[] = []
  for (let id = queue.next(); id !== undefined; id = queue.next()) ids.push(id)
  return ids
}

test('a client goes before a pull, a pull before a preheat, a preheat before a repair, and all before what nobody wants', () => {
  const ranked = [...PRIORITIES, undefined]
  for (const [at, one] of ranked.entries())
    for (const [other, two] of ranked.entries()) assert.equal(outranks(one, two), at < other)
  assert.equal(highest(['repair', 'pull', 'preheat']), 'pull')
  assert.equal(highest([]), undefined)
})

test('files begin in the order of class, then arrival, as many as there are places', () => {
  const queue = queueOf(3, [
    ['repair', 'repair', 2],
    ['warm', 'preheat', 2],
    ['one', 'pull', 2],
    ['two', 'pull', 2],
  ])
  assert.deepEqual(queue.order, ['one', 'two', 'warm', 'repair'])
  assert.deepEqual(begun(queue), ['one', 'one', 'two'])
  queue.ended('one')
  assert.deepEqual(begun(queue), ['two'])
  queue.ended('one')
  queue.ended('two')
  queue.ended('two')
  assert.deepEqual(begun(queue), ['warm', 'warm', 'repair'])
})

test('files of a lower class that run already do not keep a higher class waiting', () => {
  const queue = queueOf(2, [['warm', 'preheat', 5]])
  assert.deepEqual(begun(queue), ['warm', 'warm'])
  queue.add('one', 'pull')
  for (let file = 0; file < 3; file++) queue.waits('one')
  assert.deepEqual(begun(queue), ['one', 'one'])
  queue.ended('warm')
  assert.deepEqual(begun(queue), [], 'a preheat waits while pulls have the places')
})

test('the operator orders within a class, and never one class before another', () => {
  const rows = ['a', 'b', 'c', 'd'].map((id) => [id, 'pull', 1] as const)
  const queue = queueOf(1, [...rows, ['warm', 'preheat', 1]])
  queue.move(['d', 'b'], 'first')
  assert.deepEqual(queue.order, ['d', 'b', 'a', 'c', 'warm'])
  queue.move(['d'], 'last')
  assert.deepEqual(queue.order, ['b', 'a', 'c', 'd', 'warm'])
  queue.move(['d', 'nobody', 'd'], 1)
  assert.deepEqual(queue.order, ['b', 'd', 'a', 'c', 'warm'])
  queue.move(['warm'], 'first')
  assert.deepEqual(queue.order, ['b', 'd', 'a', 'c', 'warm'])
  queue.move(['b'], 99)
  assert.deepEqual(queue.order, ['d', 'a', 'c', 'b', 'warm'])
  assert.deepEqual(begun(queue), ['d'])
})

test('what is paused begins nothing and takes no place, until it goes on', () => {
  const queue = queueOf(1, [
    ['one', 'pull', 2],
    ['two', 'pull', 1],
  ])
  assert.equal(queue.setPaused('one', true), true)
  assert.equal(queue.setPaused('one', true), false)
  assert.equal(queue.isPaused('one'), true)
  assert.deepEqual(begun(queue), ['two'])
  queue.ended('two')
  assert.deepEqual(begun(queue), [])
  queue.setPaused('one', false)
  assert.deepEqual(begun(queue), ['one'])
  assert.equal(queue.runningOf('one'), 1)
  assert.equal(queue.setPaused('nobody', true), false)
})

test('a download that is removed gives its places back', () => {
  const queue = queueOf(1, [
    ['one', 'pull', 2],
    ['two', 'pull', 1],
  ])
  assert.deepEqual(begun(queue), ['one'])
  queue.remove('one')
  assert.deepEqual(begun(queue), ['two'])
  queue.waits('one')
  queue.ended('one')
  assert.equal(queue.next(), undefined)
})

test('memory for chunks goes to the highest that is busy; the others get what the plan always gives', () => {
  const busy = (priority: Priority | undefined) => ({ priority, busy: true })
  assert.equal(roomFor('pull', [busy('reader')], 9), 0)
  assert.equal(roomFor('pull', [{ priority: 'reader', busy: false }], 9), 9)
  assert.equal(roomFor('reader', [busy('reader'), busy('pull')], 9), 9)
  assert.equal(roomFor('repair', [busy('preheat')], 9), 0)
  assert.equal(roomFor(undefined, [busy('repair')], 9), 0)
  assert.equal(roomFor('repair', [busy(undefined)], 9), 9)
})

test('in any history no class has more files running than places while it could have waited, and nothing is lost', (t) => {
  for (const seed of seeds(t, 100)) {
    const random = seededRandom(seed)
    const pick = (below: number) => Math.floor(random.next() * below)
    const places = 1 + pick(4)
    const queue = new DownloadQueue(places)
    const left = new Map<string, { waiting: number; running: number; priority: Priority }>()
    for (let step = 0; step < 100; step++) {
      const ids = [...left.keys()]
      const id = ids[pick(ids.length + 1)]
      if (id === undefined) {
        const priority = PRIORITIES[1 + pick(3)] ?? 'pull'
        const fresh = `d${step}`
        queue.add(fresh, priority)
        left.set(fresh, { waiting: 3, running: 0, priority })
        for (let file = 0; file < 3; file++) queue.waits(fresh)
        continue
      }
      const chance = pick(4)
      const one = left.get(id)
      if (chance === 0) queue.move([id], pick(5))
      else if (chance === 1) queue.setPaused(id, pick(2) === 0)
      else if (one !== undefined && one.running > 0) {
        one.running--
        queue.ended(id)
      }
      for (const next of begun(queue)) {
        const one = left.get(next)
        assert.ok(one !== undefined && one.waiting > 0 && !queue.isPaused(next), `SEED=${seed}`)
        one.waiting--
        one.running++
      }
      for (const priority of PRIORITIES) {
        let running = 0
        for (const one of left.values()) if (one.priority === priority) running += one.running
        assert.ok(running <= places, `SEED=${seed}: ${running} of ${priority}`)
      }
    }
    for (const id of left.keys()) queue.setPaused(id, false)
    for (let turn = 0; turn < 400; turn++) {
      for (const next of begun(queue)) {
        const one = left.get(next)
        if (one !== undefined) {
          one.waiting--
          one.running++
        }
      }
      for (const [id, one] of left) for (; one.running > 0; one.running--) queue.ended(id)
    }
    for (const one of left.values()) assert.equal(one.waiting, 0, `SEED=${seed}: a file never began`)
  }
})
