// PURE. Backs off when the host is busy with other work: from load to a rate, down by a factor and up by steps (AIMD). Load is that of
// other programs: what this one uses itself is taken off, or it would flee from its own shadow.

/** Work for each processor from which on traffic is reduced, and below which it may grow again. */
export const HIGH_LOAD = 0.9
export const LOW_LOAD = 0.7
/** The load average itself changes slowly: looking more often would cut again for what was cut already. */
export const LOAD_STEP_MS = 5_000
const DECREASE = 0.7
/** Of the rate that there was before the first cut. */
const INCREASE = 0.05
/** 1 Mbit/s: below it other hosts would take this one for dead. */
const FLOOR = 125_000
/** The kernel's average over the last minute. */
const AVERAGE_MS = 60_000

/** Load of other programs: the load average of a minute less the own share of that same minute. */
export class ForeignLoad {
  #own: number | undefined
  #at = 0
  #cpuMs = 0

  /**
   * @param loadAverage of the last minute, as the kernel counts it
   * @param ownCpuMs processor time of this program since its start
   * @returns for each processor; undefined at first
   */
  sample(loadAverage: number, processors: number, ownCpuMs: number, now: number): number | undefined {
    const elapsedMs = now - this.#at
    const used = elapsedMs > 0 ? Math.max(0, ownCpuMs - this.#cpuMs) / elapsedMs : 0
    const first = this.#own === undefined
    const weight = Math.exp(-elapsedMs / AVERAGE_MS)
    this.#own = this.#own === undefined ? 0 : this.#own * weight + used * (1 - weight)
    this.#at = now
    this.#cpuMs = ownCpuMs
    return first ? undefined : Math.max(0, loadAverage - this.#own) / Math.max(1, processors)
  }
}

export class LoadLimit {
  #rate: number | undefined
  /** What flowed before the first cut: measure of the steps back. */
  #before = 0

  get bytesPerSecond(): number | undefined {
    return this.#rate
  }

  /**
   * To be called every {@link LOAD_STEP_MS}.
   * @param flowing bytes a second just now
   * @returns the limit; undefined: none
   */
  sample(foreignLoad: number, flowing: number): number | undefined {
    if (foreignLoad >= HIGH_LOAD) {
      // Where nothing flows there is nothing to be had by cutting.
      if (this.#rate === undefined && flowing <= FLOOR) return undefined
      this.#before = this.#rate === undefined ? flowing : this.#before
      this.#rate = Math.max(FLOOR, DECREASE * Math.min(this.#rate ?? flowing, Math.max(flowing, FLOOR)))
    } else if (foreignLoad <= LOW_LOAD && this.#rate !== undefined) {
      this.#rate += Math.max(FLOOR, INCREASE * this.#before)
      if (this.#rate >= 2 * this.#before) this.#rate = undefined
    }
    return this.#rate
  }
}
