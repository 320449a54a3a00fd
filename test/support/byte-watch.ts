// Watches a counter of bytes and says what rates it showed: over windows of a given length, and how soon after a change. Counts come
// from outside the agent where they can: from the link. Measures; asserts nothing.
import { sleep, systemClock } from '@shoal/protocol/time.ts'

const SAMPLE_MS = 100

interface Sample {
  readonly at: number
  readonly bytes: number
}

export interface WindowRates {
  /** Bytes a second of the slowest and the fastest window. */
  readonly least: number
  readonly most: number
}

export class ByteWatch {
  readonly #read: () => Promise<number>
  readonly #stop = new AbortController()
  readonly #samples: Sample[] = []
  readonly #watched: Promise<void>

  /** @param read bytes so far */
  constructor(read: () => Promise<number>) {
    this.#read = read
    this.#watched = this.#watch()
  }

  async stop(): Promise<void> {
    this.#stop.abort()
    await this.#watched
  }

  /** Rates of all windows of `windowMs` that lie between the two moments. */
  windows(fromMs: number, toMs: number, windowMs: number): WindowRates {
    const rates: number[] = []
    for (const first of this.#samples) {
      if (first.at < fromMs || first.at + windowMs > toMs) continue
      const last = this.#samples.find(({ at }) => at >= first.at + windowMs)
      if (last !== undefined) rates.push(((last.bytes - first.bytes) * 1000) / (last.at - first.at))
    }
    if (rates.length === 0) throw new Error('nothing was measured in that time')
    return { least: Math.min(...rates), most: Math.max(...rates) }
  }

  /** Milliseconds from `fromMs` until a second of traffic began that keeps to `rate` within `share`. */
  settledAfterMs(fromMs: number, rate: number, share: number): number {
    for (const first of this.#samples) {
      if (first.at < fromMs) continue
      const last = this.#samples.find(({ at }) => at >= first.at + 1_000)
      if (last === undefined) break
      const measured = ((last.bytes - first.bytes) * 1000) / (last.at - first.at)
      if (Math.abs(measured - rate) <= share * rate) return first.at - fromMs
    }
    return Number.POSITIVE_INFINITY
  }

  async #watch(): Promise<void> {
    while (!this.#stop.signal.aborted) {
      const before = systemClock.now()
      const bytes = await this.#read()
      // Somewhere between asking and hearing.
      this.#samples.push({ at: (before + systemClock.now()) / 2, bytes })
      await sleep(systemClock, SAMPLE_MS)
    }
  }
}
