// PURE. The earliest moment at which time alone can change a decision, gathered while the decision is made.

export class WakeTime {
  readonly #now: number
  /** undefined: nothing will change until something happens. */
  at: number | undefined

  constructor(now: number) {
    this.#now = now
  }

  /** Time `time` matters. What has passed already has been taken into account and is not waited for. */
  by(time: number): void {
    if (time > this.#now && time < (this.at ?? Number.POSITIVE_INFINITY)) this.at = time
  }
}
