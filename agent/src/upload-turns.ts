// Whose turn it is to have a chunk in memory for a peer: so many at once, a short line for the others. Bounds memory, not speed.
import { ShoalError } from '@shoal/protocol/errors.ts'
import { type Clock, deadline } from '@shoal/protocol/time.ts'

/** A peer that reads slowly holds one chunk for as long. */
export const MAX_SENDING = 8
/** Requests beyond that wait so long for their turn, then hear that this host is busy. */
export const TURN_WAIT_MS = 1_000
export const MAX_WAITING = 64

export class UploadTurns {
  readonly #clock: Clock
  readonly #waiting = new Set<() => void>()
  #sending = 0

  constructor(clock: Clock) {
    this.#clock = clock
  }

  /** Share of the turns that are taken, 0 to 1. */
  get load(): number {
    return this.#sending / MAX_SENDING
  }

  /** True: end it with {@link over}. False: too many others, for too long; or the signal fired. */
  async take(signal: AbortSignal): Promise<boolean> {
    if (this.#sending < MAX_SENDING) {
      this.#sending++
      return true
    }
    if (this.#waiting.size >= MAX_WAITING) return false
    using limit = deadline(this.#clock, TURN_WAIT_MS, () => new ShoalError('peer-busy', 'no turn'), signal)
    if (limit.signal.aborted) return false
    return await new Promise<boolean>((resolve) => {
      const end = (got: boolean) => {
        this.#waiting.delete(onTurn)
        limit.signal.removeEventListener('abort', onAbort)
        resolve(got)
      }
      const onTurn = () => end(true)
      const onAbort = () => end(false)
      this.#waiting.add(onTurn)
      limit.signal.addEventListener('abort', onAbort, { once: true })
    })
  }

  /** Passes the turn on to whoever has waited longest. */
  over(): void {
    const [next] = this.#waiting
    if (next === undefined) this.#sending--
    else next()
  }
}
