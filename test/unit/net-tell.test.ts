// How much what is to be told is cut: every message fits, and together they say the same.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { splitTell } from '@shoal/agent/net/tell-client.ts'
import { MAX_CHUNKS } from '@shoal/protocol/chunks.ts'
import { parseBlobId } from '@shoal/protocol/ids.ts'
import {
  decodeMessage,
  encodeMessage,
  haveAskSchema,
  LIMITS,
  type Tell,
  tellSchema,
} from '@shoal/protocol/messages.ts'
import { seededRandom } from '@shoal/protocol/time.ts'

const seed = Number(process.env.SEED ?? 20_260_918)
const blobOf = (at: number) => parseBlobId(`sha256:${at.toString(16).padStart(64, '0')}`)

test('a split tell says the same, and every part is a message that a host takes', (t) => {
  t.diagnostic(`seed ${seed}`)
  const random = seededRandom(seed)
  const below = (limit: number) => Math.floor(random.next() * limit)
  for (let round = 0; round < 40; round++) {
    const blobs: Tell['blobs'] = Array.from({ length: below(40) }, (_, at) => ({
      blob: blobOf(at),
      geometry: 'g'.repeat(below(65)),
      state: 'wanting',
      gained: Array.from({ length: below(2) * below(2_000) }, (): [number, number] => [
        MAX_CHUNKS - 1 - below(100),
        MAX_CHUNKS - below(100),
      ]),
      ...(below(2) === 0
        ? {}
        : { claimed: Array.from({ length: below(257) }, () => MAX_CHUNKS - 1 - below(9)) }),
    }))
    const parts = splitTell(blobs).map(
      (part) => decodeMessage(tellSchema, encodeMessage({ blobs: part }, LIMITS.tell), LIMITS.tell).blobs,
    )
    assert.ok(parts.every((part) => part.length > 0))
    const told = parts.flat()
    for (const one of blobs) {
      const entries = told.filter((entry) => entry.blob === one.blob)
      assert.deepEqual(
        entries.flatMap((entry) => entry.gained),
        one.gained,
      )
      assert.deepEqual(
        entries.map((entry) => entry.claimed),
        entries.map((_, at) => (at === 0 ? one.claimed : undefined)),
      )
      assert.ok(entries.every(({ geometry, state }) => geometry === one.geometry && state === one.state))
    }
    assert.deepEqual(
      [...new Set(told.map((entry) => entry.blob))],
      blobs.map((one) => one.blob),
    )
  }
})

test('of more claims than a message takes, the first are told', () => {
  const claimed = Array.from({ length: 1_000 }, (_, at) => at)
  const [part] = splitTell([{ blob: blobOf(1), geometry: 'g', state: 'wanting', gained: [], claimed }])
  assert.deepEqual(part?.[0]?.claimed, claimed.slice(0, 256))
})

test('nothing to tell is no message', () => {
  assert.deepEqual(splitTell([]), [])
})

test('a question of a host that does not know of subscribing is still one', () => {
  const ask = { blob: blobOf(1), geometry: 'g', want: true }
  const encoded = encodeMessage(ask, LIMITS.haveAsk)
  assert.deepEqual(decodeMessage(haveAskSchema, encoded, LIMITS.haveAsk), ask)
  // Not to subscribe is to leave it out: the message of today is then the one of before.
  assert.deepEqual(encodeMessage({ ...ask, subscribe: undefined }, LIMITS.haveAsk), encoded)
})
