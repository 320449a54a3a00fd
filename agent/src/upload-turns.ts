// Lets peers' requests wait for their turn. Whose turn it is, upload-order.ts decides; this file keeps the promises.
import { ShoalError } from '@shoal/protocol/errors.ts'
import type { PeerId } from '@shoal/protocol/ids.ts'
import { type Clock, deadline } from '@shoal/protocol/time.ts'
import { UploadOrder } from './plan/upload-order.ts'

/** A turn that was given: end it once. */
export interface Turn {
  /** @param sent the chunk was handed to the connection whole */
  over(sent: boolean): void
}

export class UploadTurns {
  readonly #clock: Clock
  readonly #order = new UploadOrder()
  readonly #waiting = new Map<number, () => void>()
  #nextId = 1

  constructor(clock: Clock) {
    this.#clock = clock
  }

  /** Share of the slots in use, 0 to 1. */
  get load(): number {
    return this.#order.load
  }

  /** Requests that are served or wait. */
  get line(): number {
    return this.#order.inLine
  }

  /**
   * Waits for the request's turn.
   * @param chunk names blob and chunk
   * @returns the turn; `busy`: too many others, for too long, or the signal fired; `later`: another peer is being given the chunk
   */
  async take(peer: PeerId, chunk: string, signal: AbortSignal): Promise<Turn | 'busy' | 'later'> {
    const id = this.#nextId++
    const turn: Turn = { over: (sent) => this.#over(id, sent) }
    const verdict = this.#order.arrived({ id, peer, chunk, urgent: false }, this.#clock.now())
    if (verdict === 'send') return turn
    if (verdict !== 'wait') return verdict
    using limit = deadline(
      this.#clock,
      this.#order.turnWaitMs,
      () => new ShoalError('peer-busy', 'no turn'),
      signal,
    )
    const got = await new Promise<boolean>((resolve) => {
      const end = (isOurs: boolean) => {
        this.#waiting.delete(id)
        limit.signal.removeEventListener('abort', onAbort)
        resolve(isOurs)
      }
      const onAbort = () => end(false)
      this.#waiting.set(id, () => end(true))
      if (limit.signal.aborted) end(false)
      else limit.signal.addEventListener('abort', onAbort, { once: true })
    })
    if (got) return turn
    this.#over(id, false)
    return 'busy'
  }

  #over(id: number, sent: boolean): void {
    for (const next of this.#order.over(id, sent, this.#clock.now())) this.#waiting.get(next)?.()
  }
}
