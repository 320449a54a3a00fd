// Taking turns: so many at once, the others wait in the order they came.
import { ShoalError } from '@shoal/protocol/errors.ts'
import { abortError, throwIfAborted } from '@shoal/protocol/time.ts'

export class Line {
  readonly #places: number
  readonly #maxWaiting: number
  readonly #waiting: (() => void)[] = []
  #inside = 0

  constructor(places: number, maxWaiting: number) {
    this.#places = places
    this.#maxWaiting = maxWaiting
  }

  get empty(): boolean {
    return this.#inside === 0 && this.#waiting.length === 0
  }

  /** Resolves when it is the caller's turn; {@link leave} ends it. @throws ShoalError `peer-busy`; the signal's reason */
  async enter(signal: AbortSignal): Promise<void> {
    throwIfAborted(signal)
    if (this.#inside < this.#places) {
      this.#inside++
      return
    }
    if (this.#waiting.length >= this.#maxWaiting)
      throw new ShoalError('peer-busy', `${this.#maxWaiting} requests wait in line already`)
    await new Promise<void>((resolve, reject) => {
      const onTurn = () => {
        signal.removeEventListener('abort', onAbort)
        resolve()
      }
      const onAbort = () => {
        this.#waiting.splice(this.#waiting.indexOf(onTurn), 1)
        reject(abortError(signal))
      }
      this.#waiting.push(onTurn)
      signal.addEventListener('abort', onAbort, { once: true })
    })
  }

  /** Hands the place to the next in line, if there is one. */
  leave(): void {
    const next = this.#waiting.shift()
    if (next === undefined) this.#inside--
    else next()
  }
}
