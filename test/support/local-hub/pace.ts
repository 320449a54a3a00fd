// A byte rate shared by all connections: every piece waits its turn in one line. Holds no timers of its own.
import { type Clock, sleep } from '@shoal/protocol/time.ts'

export class Pace {
  readonly #clock: Clock
  #bytesPerSecond: number | undefined
  #freeAt = 0

  constructor(clock: Clock, bytesPerSecond?: number) {
    this.#clock = clock
    this.#bytesPerSecond = bytesPerSecond
  }

  /** undefined: as fast as it goes. Holds for pieces asked for from now on. */
  set(bytesPerSecond: number | undefined): void {
    this.#bytesPerSecond = bytesPerSecond
    this.#freeAt = 0
  }

  /** Bytes that may be sent as one piece, so that a slow rate still moves smoothly. */
  pieceBytes(most: number): number {
    return this.#bytesPerSecond === undefined
      ? most
      : Math.max(1, Math.min(most, Math.ceil(this.#bytesPerSecond / 50)))
  }

  /** Resolves when `bytes` may be sent. */
  async take(bytes: number, signal: AbortSignal): Promise<void> {
    if (this.#bytesPerSecond === undefined) return
    const now = this.#clock.now()
    const startAt = Math.max(now, this.#freeAt)
    this.#freeAt = startAt + (bytes / this.#bytesPerSecond) * 1000
    if (startAt > now) await sleep(this.#clock, startAt - now, signal)
  }
}
