// Blobs of which a wrong byte went out to some reader not long ago: whoever comes back for "the rest" of one holds a bad front.
import type { BlobId } from '@shoal/protocol/ids.ts'
import type { Clock } from '@shoal/protocol/time.ts'

/** How long a client may come back. */
const SUSPECT_MS = 60 * 60_000
const MAX_SUSPECTS = 1_000

export class SuspectPrefixes {
  readonly #clock: Clock
  readonly #until = new Map<BlobId, number>()

  constructor(clock: Clock) {
    this.#clock = clock
  }

  add(blob: BlobId): void {
    this.#until.delete(blob)
    this.#until.set(blob, this.#clock.now() + SUSPECT_MS)
    const oldest = this.#until.size > MAX_SUSPECTS ? this.#until.keys().next() : undefined
    if (oldest?.done === false) this.#until.delete(oldest.value)
  }

  has(blob: BlobId): boolean {
    return (this.#until.get(blob) ?? Number.NEGATIVE_INFINITY) > this.#clock.now()
  }
}
