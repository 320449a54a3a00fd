// PURE. A bandwidth limit: bytes a second, a small burst, and debts. Whoever moves bytes is told how long to wait before it moves more,
// so that a piece is never refused and the mean holds. No clock of its own. Who must take, and who sleeps, is not its business.

/** What may be moved at once after a pause, in milliseconds of the rate: as long as a busy host may be late. 1 % of 10 s. */
const BURST_MS = 100
/** A piece takes about this long, so that many streams that share a slow limit all show signs of life. */
const PIECE_MS = 20
const SMALLEST_PIECE_BYTES = 4 * 1024
/** Larger than any piece that is moved at once. */
const LARGEST_PIECE_BYTES = 8 * 1024 * 1024

export class TokenBucket {
  #bytesPerSecond: number | undefined
  /** Negative: a debt, which whoever took last is waiting for. */
  #tokens: number
  #at: number

  /** @param bytesPerSecond above 0; undefined: no limit */
  constructor(bytesPerSecond: number | undefined, now: number) {
    this.#bytesPerSecond = checked(bytesPerSecond)
    this.#tokens = burstBytes(bytesPerSecond)
    this.#at = now
  }

  get bytesPerSecond(): number | undefined {
    return this.#bytesPerSecond
  }

  /** How much should be moved at once under this limit. */
  get pieceBytes(): number {
    const rate = this.#bytesPerSecond
    if (rate === undefined) return LARGEST_PIECE_BYTES
    const bytes = Math.floor((rate * PIECE_MS) / 1000)
    return Math.min(LARGEST_PIECE_BYTES, Math.max(SMALLEST_PIECE_BYTES, bytes))
  }

  /**
   * A debt is paid off at the new rate when that is higher. When it is lower, what was moved at the old rate was right then: the debt
   * lasts no longer than it would have, or a host that goes from 1 Gbit/s to 1 Mbit/s would fall silent for minutes.
   */
  setRate(bytesPerSecond: number | undefined, now: number): void {
    this.#settle(now)
    const before = this.#bytesPerSecond
    this.#bytesPerSecond = checked(bytesPerSecond)
    const burst = burstBytes(bytesPerSecond)
    if (before === undefined) this.#tokens = burst
    else if (bytesPerSecond !== undefined && bytesPerSecond < before && this.#tokens < 0)
      this.#tokens *= bytesPerSecond / before
    else this.#tokens = Math.min(this.#tokens, burst)
  }

  /** Takes `bytes`. @returns how long to wait before or after moving them, in milliseconds; 0: not at all */
  take(bytes: number, now: number): number {
    this.#settle(now)
    const rate = this.#bytesPerSecond
    if (rate === undefined) return 0
    this.#tokens -= bytes
    return this.#tokens >= 0 ? 0 : (-this.#tokens * 1000) / rate
  }

  #settle(now: number): void {
    const elapsedMs = Math.max(0, now - this.#at)
    this.#at = Math.max(now, this.#at)
    const rate = this.#bytesPerSecond
    if (rate === undefined) return
    this.#tokens = Math.min(burstBytes(rate), this.#tokens + (rate * elapsedMs) / 1000)
  }
}

function burstBytes(bytesPerSecond: number | undefined): number {
  return bytesPerSecond === undefined ? 0 : (bytesPerSecond * BURST_MS) / 1000
}

function checked(bytesPerSecond: number | undefined): number | undefined {
  if (bytesPerSecond !== undefined && !(bytesPerSecond > 0 && Number.isFinite(bytesPerSecond)))
    throw new Error(`not a rate: ${bytesPerSecond}`)
  return bytesPerSecond
}
