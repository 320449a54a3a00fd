// How fast something grows just now: over the last seconds, by what it was when it was last looked at. Counts only.

/** The rate is measured over about this long. */
const WINDOW_MS = 4_000
const SAMPLE_MS = 200

export class RecentRate {
  readonly #samples: { readonly at: number; readonly bytes: number }[] = []

  /** @param bytes so far @returns bytes a second; 0 before anything was measured */
  at(bytes: number, now: number): number {
    const samples = this.#samples
    const last = samples.at(-1)
    if (last === undefined || now - last.at > SAMPLE_MS) samples.push({ at: now, bytes })
    while (samples.length > 1 && now - (samples[0]?.at ?? now) > WINDOW_MS) samples.shift()
    const [first] = samples
    if (first === undefined || now <= first.at) return 0
    return Math.max(0, Math.round(((bytes - first.bytes) * 1000) / (now - first.at)))
  }
}
