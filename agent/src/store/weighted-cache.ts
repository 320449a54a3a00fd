// A cache with a budget of weight rather than of entries: what was not used for longest goes first. Pure.

export class WeightedCache<V> {
  // A Map keeps the order of insertion: the first key is the one not used for longest.
  readonly #entries = new Map<string, { readonly value: V; readonly weight: number }>()
  readonly #budget: number
  #held = 0

  constructor(budget: number) {
    this.#budget = budget
  }

  get(key: string): V | undefined {
    const entry = this.#entries.get(key)
    if (entry === undefined) return undefined
    this.#entries.delete(key)
    this.#entries.set(key, entry)
    return entry.value
  }

  /** A value that is heavier than the whole budget is not kept. */
  set(key: string, value: V, weight: number): void {
    this.delete(key)
    if (weight > this.#budget) return
    this.#entries.set(key, { value, weight })
    this.#held += weight
    for (const oldest of this.#entries.keys()) {
      if (this.#held <= this.#budget) break
      this.delete(oldest)
    }
  }

  delete(key: string): void {
    const entry = this.#entries.get(key)
    if (entry === undefined) return
    this.#entries.delete(key)
    this.#held -= entry.weight
  }

  /** Deletes every entry whose key `matches`. */
  deleteWhere(matches: (key: string) => boolean): void {
    for (const key of [...this.#entries.keys()]) if (matches(key)) this.delete(key)
  }

  clear(): void {
    this.#entries.clear()
    this.#held = 0
  }
}
