// Files that stay open for the next reader: how many, how long, and never past a change of what lies there.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { StoredReader } from '@shoal/agent/store/blob-reader.ts'
import { MAX_IDLE, OpenBlobs } from '@shoal/agent/store/open-blobs.ts'
import { parseBlobId } from '@shoal/protocol/ids.ts'
import { virtualClock } from '../support/virtual-clock.ts'

const BLOB = parseBlobId(`sha256:${'a'.repeat(64)}`)

function world() {
  const clock = virtualClock()
  const counts = { opened: 0, closed: 0, looks: 0 }
  const state = { intact: true }
  const open = async (): Promise<StoredReader> => {
    counts.opened++
    return {
      sizeBytes: 10,
      geometry: undefined,
      read: async () => {},
      voucher: async () => undefined,
      isIntact: async () => {
        counts.looks++
        return state.intact
      },
      close: async () => {
        counts.closed++
      },
    }
  }
  return { clock, counts, state, open, blobs: new OpenBlobs(clock) }
}

test('a thousand readers one after the other open the file once, and it closes 10 s after the last', async () => {
  const { clock, counts, open, blobs } = world()
  for (let reader = 0; reader < 1000; reader++) await (await blobs.take(BLOB, open)).close()
  assert.deepEqual(counts, { opened: 1, closed: 0, looks: 0 })
  await clock.advance(9_999)
  assert.equal(counts.closed, 0)
  await clock.advance(1)
  assert.equal(counts.closed, 1)
  assert.equal(clock.pending, 0)
})

test('a file that was replaced under its name is opened anew, and its readers keep the old one until they close', async () => {
  const { clock, counts, state, open, blobs } = world()
  const before = await blobs.take(BLOB, open)
  await clock.advance(1_000)
  state.intact = false
  const after = await blobs.take(BLOB, open)
  assert.deepEqual(counts, { opened: 2, closed: 0, looks: 1 })
  await before.close()
  await before.close()
  assert.equal(counts.closed, 1)
  await after.close()
  assert.equal(counts.closed, 1)
})

test('what is forgotten closes at once when nobody reads it, else with its last reader', async () => {
  const { counts, open, blobs } = world()
  await (await blobs.take(BLOB, open)).close()
  blobs.forget(BLOB)
  assert.equal(counts.closed, 1)
  const reader = await blobs.take(BLOB, open)
  blobs.forget(BLOB)
  assert.equal(counts.closed, 1)
  await reader.close()
  assert.equal(counts.closed, 2)
})

test('a file that is being opened while its blob is removed is good for that reader only', async () => {
  const { counts, open, blobs } = world()
  const reader = await blobs.take(BLOB, async () => {
    const opened = await open()
    blobs.forget(BLOB)
    return opened
  })
  await (await blobs.take(BLOB, open)).close()
  assert.equal(counts.opened, 2)
  await reader.close()
  assert.equal(counts.closed, 1)
})

test('however many blobs are read, few files stay open afterwards', async () => {
  const { counts, open, blobs } = world()
  for (let number = 0; number < MAX_IDLE + 20; number++) {
    const blob = parseBlobId(`sha256:${String(number).padStart(64, '0')}`)
    await (await blobs.take(blob, open)).close()
  }
  assert.equal(counts.opened - counts.closed, MAX_IDLE)
})
