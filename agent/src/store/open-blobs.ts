// Complete blobs that stay open for a while after use: a client that asks for a thousand ranges must not cost a thousand opens. Shares
// one open file among all who read it at a time; lets go of files that are removed or replaced on disk. Knows no layout.
import type { BlobId } from '@shoal/protocol/ids.ts'
import type { Clock } from '@shoal/protocol/time.ts'
import type { StoredReader } from './blob-reader.ts'
import type { BlobReader } from './blob-store.ts'

/** Files open although nobody reads them. */
export const MAX_IDLE = 32
const IDLE_MS = 10_000
/** A file that was looked at so long ago is looked at again before it is used. */
const TRUSTED_MS = 1_000

interface Entry {
  readonly reader: StoredReader
  uses: number
  checkedAt: number
  /** No longer to be found: closed with its last use. */
  isForgotten: boolean
  cancelIdle: () => void
}

export class OpenBlobs {
  readonly #clock: Clock
  /** Oldest use first. */
  readonly #entries = new Map<BlobId, Entry>()
  /** How often a name changed its meaning. */
  #changes = 0

  constructor(clock: Clock) {
    this.#clock = clock
  }

  /** A reader of its own for the caller. @throws what `open` throws */
  async take(blob: BlobId, open: () => Promise<StoredReader>): Promise<BlobReader> {
    const known = this.#entries.get(blob)
    if (known !== undefined && (await this.#isGood(blob, known))) return this.#use(blob, known)
    const before = this.#changes
    const reader = await open()
    // Opened under the old meaning of the name: good for this caller, not for the next one.
    const isForgotten = before !== this.#changes
    const entry: Entry = { reader, uses: 0, checkedAt: this.#clock.now(), isForgotten, cancelIdle: () => {} }
    if (!isForgotten) {
      this.#drop(blob)
      this.#entries.set(blob, entry)
    }
    return this.#use(blob, entry)
  }

  /** What the name stands for changes: whoever asks from now on gets what is there then. */
  forget(blob: BlobId): void {
    this.#changes++
    this.#drop(blob)
  }

  #drop(blob: BlobId): void {
    const entry = this.#entries.get(blob)
    if (entry === undefined) return
    this.#entries.delete(blob)
    entry.isForgotten = true
    if (entry.uses === 0) this.#close(entry)
  }

  /** Closes all that nobody reads; the others close with their last use. */
  forgetAll(): void {
    this.#changes++
    for (const blob of [...this.#entries.keys()]) this.#drop(blob)
  }

  async #isGood(blob: BlobId, entry: Entry): Promise<boolean> {
    const now = this.#clock.now()
    if (now - entry.checkedAt < TRUSTED_MS) return true
    entry.checkedAt = now
    // Held while it is looked at, or it could be closed under our hands.
    entry.uses++
    const isIntact = await entry.reader.isIntact().catch(() => false)
    entry.uses--
    if (!isIntact && this.#entries.get(blob) === entry) this.#drop(blob)
    else if (entry.isForgotten && entry.uses === 0) this.#close(entry)
    return isIntact && !entry.isForgotten
  }

  #use(blob: BlobId, entry: Entry): BlobReader {
    const { reader } = entry
    entry.uses++
    entry.cancelIdle()
    let isClosed = false
    return {
      sizeBytes: reader.sizeBytes,
      geometry: reader.geometry,
      read: (target, position) => reader.read(target, position),
      voucher: (index) => reader.voucher(index),
      close: async () => {
        if (isClosed) return
        isClosed = true
        entry.uses--
        if (entry.uses === 0) this.#idle(blob, entry)
      },
    }
  }

  #idle(blob: BlobId, entry: Entry): void {
    if (entry.isForgotten) {
      this.#close(entry)
      return
    }
    this.#entries.delete(blob)
    this.#entries.set(blob, entry)
    entry.cancelIdle = this.#clock.after(IDLE_MS, () => this.#drop(blob))
    const idle = [...this.#entries].filter(([, { uses }]) => uses === 0)
    for (const [oldest] of idle.slice(0, Math.max(0, idle.length - MAX_IDLE))) this.#drop(oldest)
  }

  #close(entry: Entry): void {
    entry.cancelIdle()
    // A file that was only read cannot fail to close in a way that matters.
    entry.reader.close().catch(() => {})
  }
}
