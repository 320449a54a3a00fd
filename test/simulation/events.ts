// The simulation's clock: what happens next, in order of time, and among events of one moment in the order they were set. Holds no
// rules of its own.

interface Event {
  readonly at: number
  readonly order: number
  readonly run: () => void
}

export class EventQueue {
  readonly #heap: Event[] = []
  #order = 0
  #now = 0

  /** Milliseconds since the simulation began. */
  get now(): number {
    return this.#now
  }

  /** When the next event is due; infinite when there is none. */
  get nextAt(): number {
    return this.#heap[0]?.at ?? Number.POSITIVE_INFINITY
  }

  /** Runs `run` at time `at`, or now if that has passed. */
  at(at: number, run: () => void): void {
    const event = { at: Math.max(at, this.#now), order: this.#order++, run }
    const heap = this.#heap
    let place = heap.length
    heap.push(event)
    while (place > 0) {
      const parent = (place - 1) >> 1
      const above = heap[parent]
      if (above === undefined || before(above, event)) break
      heap[place] = above
      place = parent
    }
    heap[place] = event
  }

  /** Time passes up to `at`; whatever is due later stays. */
  advanceTo(at: number): void {
    if (at > this.#now) this.#now = at
  }

  /** Runs the next event. */
  runNext(): void {
    const first = this.#heap[0]
    if (first === undefined) return
    this.advanceTo(first.at)
    const last = this.#heap.pop()
    if (last !== undefined && this.#heap.length > 0) this.#sink(last)
    first.run()
  }

  #sink(event: Event): void {
    const heap = this.#heap
    let place = 0
    for (;;) {
      let child = 2 * place + 1
      if (child >= heap.length) break
      const right = heap[child + 1]
      let least = heap[child]
      if (least === undefined) break
      if (right !== undefined && before(right, least)) {
        child++
        least = right
      }
      if (before(event, least)) break
      heap[place] = least
      place = child
    }
    heap[place] = event
  }
}

function before(a: Event, b: Event): boolean {
  return a.at < b.at || (a.at === b.at && a.order < b.order)
}
