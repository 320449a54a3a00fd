// Waiting for a turn: who gets it, and that nobody who gave up keeps a place.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { DownloadTurns } from '@shoal/agent/download-turns.ts'

const never = new AbortController().signal
const settled = () => new Promise<void>((resolve) => setImmediate(resolve))

function turnsOf(places: number, ids: readonly string[]) {
  const turns = new DownloadTurns(places)
  const got: string[] = []
  for (const id of ids) turns.add(id, 'pull', false)
  const take = (id: string, signal = never) =>
    turns.take(id, signal).then((end) => {
      got.push(id)
      return end
    })
  return { turns, got, take }
}

test('a turn that ends goes to the first in order, whoever asked sooner', async () => {
  const { turns, got, take } = turnsOf(1, ['a', 'b', 'c'])
  const endC = await take('c')
  const waiting = [take('b'), take('a')]
  await settled()
  assert.deepEqual(got, ['c'])
  endC()
  endC()
  const endA = await waiting[1]
  assert.deepEqual(got, ['c', 'a'])
  endA?.()
  await waiting[0]
  assert.deepEqual(got, ['c', 'a', 'b'])
  assert.equal(turns.runningOf('b'), 1)
})

test('whoever gives up waiting leaves no trace: its turn goes to the next', async () => {
  const { got, take } = turnsOf(1, ['a', 'b'])
  const end = await take('a')
  const abort = new AbortController()
  const given = assert.rejects(take('a', abort.signal), { code: 'aborted' })
  const other = take('b')
  abort.abort()
  await given
  end()
  await other
  assert.deepEqual(got, ['a', 'b'])
  await assert.rejects(take('b', AbortSignal.abort()), { code: 'aborted' })
})

test('a pause keeps turns from being given, not those that were; resuming gives them at once', async () => {
  const { turns, got, take } = turnsOf(2, ['a'])
  await take('a')
  assert.equal(turns.setPaused('a', true), true)
  const second = take('a')
  await settled()
  assert.deepEqual(got, ['a'])
  turns.setPaused('a', false)
  await second
  assert.deepEqual(got, ['a', 'a'])
})

test('a download that is removed makes room, and moving one lets it go first', async () => {
  const { turns, got, take } = turnsOf(1, ['a', 'b', 'c'])
  await take('a')
  const [b, c] = [take('b'), take('c')]
  turns.move(['c'], 'first')
  assert.deepEqual(turns.order, ['c', 'a', 'b'])
  turns.remove('a')
  await c
  turns.remove('c')
  await b
  assert.deepEqual(got, ['a', 'c', 'b'])
})
