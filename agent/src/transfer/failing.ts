// How long a download has gained nothing while its sources fail, and what the last of them said. Counts only.
import type { ShoalError } from '@shoal/protocol/errors.ts'

/** A download that gained nothing for so long, while its sources fail, is given up. */
export const GIVE_UP_MS = 60_000
/** The same counts from the end of a pause that the origin asked for, up to this long: a rate limit's window. */
const MAX_PATIENCE_MS = 301_000

export class Failing {
  #last: ShoalError | undefined
  #since = 0

  /** The last failure since a chunk was gained. */
  get last(): ShoalError | undefined {
    return this.#last
  }

  failed(error: ShoalError, now: number): void {
    // While an origin asks for patience, nobody is failing. For longer than this nobody waits: the cap of a month ends on its last day.
    const { retryAfterMs } = error.details
    const isPause = typeof retryAfterMs === 'number' && retryAfterMs <= MAX_PATIENCE_MS
    const patientMs = isPause ? retryAfterMs : 0
    if (this.#last === undefined) this.#since = now
    if (patientMs > 0) this.#since = Math.max(this.#since, now + patientMs)
    this.#last = error
  }

  gained(): void {
    this.#last = undefined
  }

  isTooLong(now: number): boolean {
    return this.#last !== undefined && now - this.#since > GIVE_UP_MS
  }
}
