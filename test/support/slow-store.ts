// A blob store whose every step takes time, as a disk's does, so that other things happen in between. Notes whoever writes to a
// partial blob that is closed already; a reader may come too late, and hears so.
import type { BlobStore, PartialBlob } from '@shoal/agent/store/blob-store.ts'
import { hasCode } from '@shoal/protocol/errors.ts'
import { type Clock, type Random, sleep } from '@shoal/protocol/time.ts'

export interface SlowStore extends BlobStore {
  /** What was done to partial blobs after they were closed. */
  readonly late: readonly string[]
  /** Partial blobs that are open for writing. */
  readonly openPartials: number
}

export function slowStore(
  inner: BlobStore,
  clock: Clock,
  random: Random,
  options: { readonly atMostMs: number },
): SlowStore {
  const late: string[] = []
  let openPartials = 0
  const step = () => sleep(clock, Math.floor(random.next() * options.atMostMs))

  function slowed(partial: PartialBlob): PartialBlob {
    openPartials++
    let closing: Promise<void> | undefined
    const timed = async <T>(name: string, work: () => Promise<T>): Promise<T> => {
      await step()
      try {
        const result = await work()
        await step()
        return result
      } catch (error) {
        if (name !== 'read' && hasCode(error, 'not-running')) late.push(name)
        throw error
      }
    }
    return {
      blob: partial.blob,
      geometry: partial.geometry,
      held: partial.held,
      voucher: (index) => partial.voucher(index),
      write: (index, bytes, voucher) => timed('write', () => partial.write(index, bytes, voucher)),
      read: (target, position) => timed('read', () => partial.read(target, position)),
      discard: (indices) => timed('discard', () => partial.discard(indices)),
      verifyWhole: (signal) => timed('verify', () => partial.verifyWhole(signal)),
      async publish() {
        await timed('publish', () => partial.publish())
        openPartials--
        closing = Promise.resolve()
      },
      close() {
        closing ??= timed('close', () => partial.close()).finally(() => openPartials--)
        return closing
      },
    }
  }

  return {
    name: inner.name,
    get late() {
      return late
    },
    get openPartials() {
      return openPartials
    },
    start: () => inner.start(),
    stop: () => inner.stop(),
    isComplete: (blob) => inner.isComplete(blob),
    partialChunks: (blob) => inner.partialChunks(blob),
    list: () => inner.list(),
    usage: () => inner.usage(),
    async open(blob) {
      await step()
      return inner.open(blob)
    },
    async openPartial(blob, geometry) {
      // The place is taken at once, as in the disk store.
      const opening = inner.openPartial(blob, geometry)
      opening.catch(() => {})
      await step()
      return slowed(await opening)
    },
    async put(blob, bytes) {
      await step()
      await inner.put(blob, bytes)
    },
    async remove(blob) {
      await step()
      return inner.remove(blob)
    },
    verify: (blob, signal) => inner.verify(blob, signal),
    quarantine: (blob, badChunks) => inner.quarantine(blob, badChunks),
    reopenAsPartial: (blob, geometry, badChunks) => inner.reopenAsPartial(blob, geometry, badChunks),
  }
}
