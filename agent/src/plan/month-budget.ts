// PURE. What came from the origin in a calendar month, and whether more may. Months are those of the wall clock. Keeps no file.

/** From this share on the operator is warned. */
export const WARN_SHARE = 0.8

export interface MonthUse {
  /** As in `2026-03`. */
  readonly month: string
  readonly usedBytes: number
}

export class MonthBudget {
  #use: MonthUse

  /** @param stored what was written down last; of another month it counts no more */
  constructor(stored: MonthUse | undefined, month: string) {
    this.#use = stored?.month === month ? stored : { month, usedBytes: 0 }
  }

  get use(): MonthUse {
    return this.#use
  }

  /** @param month now */
  add(bytes: number, month: string): void {
    const before = this.#use.month === month ? this.#use.usedBytes : 0
    this.#use = { month, usedBytes: before + bytes }
  }

  /** @param capBytes undefined: no cap */
  share(capBytes: number | undefined): number {
    if (capBytes === undefined) return 0
    return capBytes === 0 ? 1 : this.#use.usedBytes / capBytes
  }
}
