import assert from 'node:assert/strict'
import { test } from 'node:test'
import { crc32 } from 'node:zlib'
import { crc32Of } from '@shoal/agent/store/crc32.ts'
import { seededRandom } from '@shoal/protocol/time.ts'
import { seeds } from '../support/seed.ts'

test('any part of any bytes with any start value has the CRC that zlib gives it', (t) => {
  for (const seed of seeds(t, 20)) {
    const random = seededRandom(seed)
    const whole = (below: number) => Math.floor(random.next() * below)
    const bytes = Buffer.from(Array.from({ length: 1 + whole(300) }, () => whole(256)))
    for (let round = 0; round < 50; round++) {
      const start = whole(bytes.byteLength)
      const end = start + whole(bytes.byteLength - start + 1)
      const before = whole(2 ** 32)
      assert.equal(
        crc32Of(bytes, start, end, before),
        crc32(bytes.subarray(start, end), before),
        `SEED=${seed}`,
      )
    }
  }
})
