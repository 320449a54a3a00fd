// The store's own account of space: what is used, what is promised to arriving blobs, what is left. A promise is made before
// the first byte, because a file system reserves nothing by itself. Does not decide what to evict.
import { ShoalError } from '@shoal/protocol/errors.ts'

/** Bytes promised to one arriving blob. */
export interface Reservation {
  /** So many of the promised bytes are now really used. */
  spend(bytes: number): void
  /** Bytes that were used are to be written again. */
  takeBack(bytes: number): void
  /** Gives up what was not spent. May be called twice. */
  release(): void
}

export interface SpaceLedger {
  readonly usedBytes: number
  readonly reservedBytes: number
  /** @throws ShoalError `store-full` with `neededBytes` and `freeBytes` */
  reserve(bytes: number): Promise<Reservation>
  /** Bytes found on disk, or gone from it. */
  adjust(bytes: number): void
  /** What the file system still has for us, beyond what is promised. */
  freeBytes(): Promise<number>
}

export interface SpaceLimits {
  /** Most bytes of blobs; undefined: as much as the disk has. */
  readonly limitBytes: number | undefined
  /** Left free on the disk for everyone else. */
  readonly keepFreeBytes: number
}

/** @param diskFreeBytes asks the file system what unprivileged users may still write */
export function createSpaceLedger(limits: SpaceLimits, diskFreeBytes: () => Promise<number>): SpaceLedger {
  let used = 0
  let reserved = 0
  return {
    get usedBytes() {
      return used
    },
    get reservedBytes() {
      return reserved
    },
    async reserve(bytes) {
      const disk = await diskFreeBytes()
      // No await from here on: two that ask at once cannot both be promised the last bytes.
      const onDisk = disk - limits.keepFreeBytes - reserved
      const withinLimit = limits.limitBytes === undefined ? onDisk : limits.limitBytes - used - reserved
      const free = Math.max(0, Math.min(onDisk, withinLimit))
      if (bytes > free) {
        const why = withinLimit < onDisk ? 'the limit of the store' : 'the disk'
        throw new ShoalError('store-full', `${bytes} bytes are needed and ${why} leaves ${free}`, {
          neededBytes: bytes,
          freeBytes: free,
        })
      }
      reserved += bytes
      let left = bytes
      let open = true
      return {
        spend(spent) {
          used += spent
          if (!open) return
          left -= spent
          reserved -= spent
        },
        takeBack(again) {
          used -= again
          if (!open) return
          left += again
          reserved += again
        },
        release() {
          if (!open) return
          open = false
          reserved -= left
          left = 0
        },
      }
    },
    adjust(bytes) {
      used += bytes
    },
    async freeBytes() {
      const disk = await diskFreeBytes()
      return Math.max(0, disk - limits.keepFreeBytes - reserved)
    },
  }
}
