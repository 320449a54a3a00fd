// A process that fills a store and says on standard output what is done, so that a test can kill it anywhere.
// Arguments: storage path, seed of the blob, its size, seed of the order.
import { writeSync } from 'node:fs'
import { seededRandom } from '@shoal/protocol/time.ts'
import { openDiskParts } from './disk-parts.ts'
import { makeBlob } from './made-blob.ts'

const [path = '', blobSeed = '0', sizeBytes = '0', orderSeed = '0'] = process.argv.slice(2)
const say = (line: string) => writeSync(1, `${line}\n`)

const made = makeBlob(Number(blobSeed), Number(sizeBytes))
const random = seededRandom(Number(orderSeed))
const { store, stop } = await openDiskParts(path)
say(`ready ${Math.round(performance.now())}`)
if (!store.isComplete(made.blob)) {
  const partial = await store.openPartial(made.blob, made.geometry)
  const missing = Array.from({ length: made.geometry.chunkCount }, (_, index) => index)
    .filter((index) => !partial.held.has(index))
    .map((index) => ({ index, place: random.next() }))
    .sort((a, b) => a.place - b.place)
  const writer = async () => {
    for (let next = missing.pop(); next !== undefined; next = missing.pop()) {
      const { index } = next
      await partial.write(index, made.chunk(index), made.voucher(index))
      say(`chunk ${index}`)
      if (random.next() < 0.02) {
        say(`discarding ${index}`)
        await partial.discard([index])
        missing.push(next)
      }
    }
  }
  await Promise.all([writer(), writer(), writer(), writer()])
  say('verifying')
  if (!(await partial.verifyWhole(new AbortController().signal))) throw new Error('the digest does not fit')
  say('publishing')
  await partial.publish()
}
say('published')
await stop()
