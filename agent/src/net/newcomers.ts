// Peers that connected a moment ago and cannot be reached by gossip yet: what is published now would pass them by, and
// nobody would tell them later. Whoever publishes waits for them, for a bounded time.
import { type Clock, sleep } from '@shoal/protocol/time.ts'

/** A peer that is not ready by then is not waited for. */
export const NEWCOMER_MS = 1_000
const LOOK_MS = 20

export class Newcomers {
  readonly #clock: Clock
  readonly #arrivedAt = new Map<string, number>()

  constructor(clock: Clock) {
    this.#clock = clock
  }

  arrived(peer: string): void {
    this.#arrivedAt.set(peer, this.#clock.now())
  }

  left(peer: string): void {
    this.#arrivedAt.delete(peer)
  }

  clear(): void {
    this.#arrivedAt.clear()
  }

  /** Resolves when all newcomers are ready or new no more, after {@link NEWCOMER_MS} at the latest. */
  async wait(isReady: (peer: string) => boolean): Promise<void> {
    const end = this.#clock.now() + NEWCOMER_MS
    for (;;) {
      const now = this.#clock.now()
      for (const [peer, arrivedAt] of this.#arrivedAt)
        if (now - arrivedAt >= NEWCOMER_MS || isReady(peer)) this.#arrivedAt.delete(peer)
      if (this.#arrivedAt.size === 0 || now >= end) return
      await sleep(this.#clock, LOOK_MS)
    }
  }
}
