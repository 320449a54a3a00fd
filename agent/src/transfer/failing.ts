// How long a download has gained nothing while its sources fail, and what the last of them said. Counts only.
import type { ShoalError } from '@shoal/protocol/errors.ts'

/** A download that gained nothing for so long, while its sources fail, is given up. */
export const GIVE_UP_MS = 60_000

export class Failing {
  #last: ShoalError | undefined
  #since = 0

  /** The last failure since a chunk was gained. */
  get last(): ShoalError | undefined {
    return this.#last
  }

  failed(error: ShoalError, now: number): void {
    if (this.#last === undefined) this.#since = now
    this.#last = error
  }

  gained(): void {
    this.#last = undefined
  }

  isTooLong(now: number): boolean {
    return this.#last !== undefined && now - this.#since > GIVE_UP_MS
  }
}
