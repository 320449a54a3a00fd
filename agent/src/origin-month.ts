// What came from the origin this month, kept over restarts in a small file of the storage path that is replaced whole. Counts, warns and
// says when no more may come; a crash loses at most the last seconds of counting.
import { open, readFile, rename } from 'node:fs/promises'
import { messageOf, ShoalError } from '@shoal/protocol/errors.ts'
import type { Clock } from '@shoal/protocol/time.ts'
import { z } from 'zod'
import type { MonthStatus } from './limits-port.ts'
import type { Log } from './log.ts'
import { MonthBudget, WARN_SHARE } from './plan/month-budget.ts'

export const MONTH_FILE = 'origin-month.json'

const stored = z.object({
  month: z.string().regex(/^\d{4}-\d{2}$/),
  usedBytes: z.number().min(0).max(Number.MAX_SAFE_INTEGER),
})

export interface OriginMonthOptions {
  /** Of the file. */
  readonly path: string
  /** undefined: no cap; bytes are counted all the same. */
  readonly capBytes: number | undefined
}

export class OriginMonth {
  readonly #options: OriginMonthOptions
  readonly #clock: Clock
  readonly #log: Log
  #budget: MonthBudget
  #written: string | undefined
  #warnedMonth = ''

  constructor(options: OriginMonthOptions, clock: Clock, log: Log) {
    this.#options = options
    this.#clock = clock
    this.#log = log
    this.#budget = new MonthBudget(undefined, this.#month())
  }

  /** A file that is missing or makes no sense counts as none: the month begins anew, and the log says so. */
  async load(): Promise<void> {
    const { path } = this.#options
    try {
      const text = await readFile(path, 'utf8')
      this.#budget = new MonthBudget(stored.parse(JSON.parse(text)), this.#month())
      this.#written = text
    } catch (error) {
      if ((error as { readonly code?: unknown }).code !== 'ENOENT')
        this.#log.warn({ path, reason: messageOf(error) }, 'the count of this month cannot be read')
    }
  }

  readonly add = (bytes: number): void => {
    this.#budget.add(bytes, this.#month())
    const share = this.#budget.share(this.#options.capBytes)
    const { month, usedBytes } = this.#budget.use
    if (share < WARN_SHARE || this.#warnedMonth === month) return
    this.#warnedMonth = month
    this.#log.warn(
      { month, usedBytes, capBytes: this.#options.capBytes ?? 0 },
      `${Math.floor(share * 100)} % of the month's bytes from the origin are used`,
    )
  }

  /** Why nothing may come from the origin now, with `retryAfterMs`; undefined: it may. */
  readonly closed = (): ShoalError | undefined => {
    if (this.#options.capBytes === undefined) return undefined
    const { usedShare, endsAt } = this.status()
    if (usedShare < 1) return undefined
    const again = new Date(endsAt)
    const date = `${again.getFullYear()}-${pad(again.getMonth() + 1)}-${pad(again.getDate())} 00:00`
    return new ShoalError(
      'origin-rate-limited',
      `the month's cap of ${this.#options.capBytes / 1e9} GB from the origin is used up (bandwidth_management.monthly_origin_cap_gb); again on ${date}. Peers go on.`,
      { retryAfterMs: Math.max(1_000, endsAt - this.#clock.wallTime()), reason: 'monthly-cap' },
    )
  }

  status(): MonthStatus {
    const { capBytes } = this.#options
    this.#budget.add(0, this.#month())
    const now = new Date(this.#clock.wallTime())
    return {
      ...this.#budget.use,
      capBytes,
      usedShare: this.#budget.share(capBytes),
      endsAt: new Date(now.getFullYear(), now.getMonth() + 1, 1).getTime(),
    }
  }

  /** Writes the count down when it has changed. */
  async save(): Promise<void> {
    const { path } = this.#options
    const text = `${JSON.stringify(this.#budget.use)}\n`
    if (text === this.#written || (this.#written === undefined && this.#budget.use.usedBytes === 0)) return
    try {
      const file = await open(`${path}.new`, 'w', 0o600)
      try {
        await file.writeFile(text)
        await file.sync()
      } finally {
        await file.close()
      }
      await rename(`${path}.new`, path)
      this.#written = text
    } catch (error) {
      this.#log.warn({ path, reason: messageOf(error) }, 'the count of this month cannot be written')
    }
  }

  #month(): string {
    const now = new Date(this.#clock.wallTime())
    return `${now.getFullYear()}-${pad(now.getMonth() + 1)}`
  }
}

function pad(number: number): string {
  return `${number}`.padStart(2, '0')
}
