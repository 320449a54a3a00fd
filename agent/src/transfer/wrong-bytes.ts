// How often bytes that readers may have been given turned out wrong. A reader that was open before must not go on, whatever it was
// given: its client holds a front that may be wrong.
import type { ShoalError } from '@shoal/protocol/errors.ts'

export class WrongBytes {
  #times = 0
  #because: ShoalError | undefined

  /** Grows each time. */
  get times(): number {
    return this.#times
  }

  note(because: ShoalError): void {
    this.#times++
    this.#because = because
  }

  /** @param before {@link times} when the reader was opened @throws what has gone wrong since */
  throwIfSince(before: number): void {
    if (this.#times > before && this.#because !== undefined) throw this.#because
  }
}
