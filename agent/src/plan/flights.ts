// PURE. What is in flight for one blob: assignments by id, by chunk and by source. Book-keeping only; decides nothing.

/** The origin's name among sources. */
export const ORIGIN = 'origin'
/** Cancelled assignments that are remembered, because their chunk may have been stored before the word came. */
const MAX_CANCELLED = 256

export interface Assignment {
  readonly id: number
  readonly index: number
  /** A peer id, or `origin`. */
  readonly source: string
  readonly why: 'window' | 'rarest' | 'owner' | 'end-game'
}

export interface Flight {
  readonly assignment: Assignment
  readonly startedAt: number
  lastProgressAt: number
  /** When its first bytes came: until then it waited in line at its source. */
  firstProgressAt: number | undefined
}

export class Flights {
  readonly #byId = new Map<number, Flight>()
  readonly #byIndex = new Map<number, Flight[]>()
  readonly #counts = new Map<string, number>()
  readonly #cancelled = new Map<number, number>()
  #nextId = 1

  get count(): number {
    return this.#byId.size
  }

  all(): Iterable<Flight> {
    return this.#byId.values()
  }

  get(id: number): Flight | undefined {
    return this.#byId.get(id)
  }

  /** All flights of one chunk, oldest first. */
  of(index: number): readonly Flight[] {
    return this.#byIndex.get(index) ?? []
  }

  /** Open requests to a source. */
  countOf(source: string): number {
    return this.#counts.get(source) ?? 0
  }

  launch(index: number, source: string, why: Assignment['why'], now: number): Assignment {
    const assignment: Assignment = { id: this.#nextId++, index, source, why }
    const flight: Flight = { assignment, startedAt: now, lastProgressAt: now, firstProgressAt: undefined }
    this.#byId.set(assignment.id, flight)
    const same = this.#byIndex.get(index)
    if (same === undefined) this.#byIndex.set(index, [flight])
    else same.push(flight)
    this.#counts.set(source, this.countOf(source) + 1)
    return assignment
  }

  end(flight: Flight): void {
    const { id, index, source } = flight.assignment
    if (!this.#byId.delete(id)) return
    const left = this.of(index).filter((other) => other !== flight)
    if (left.length === 0) this.#byIndex.delete(index)
    else this.#byIndex.set(index, left)
    const count = this.countOf(source) - 1
    if (count === 0) this.#counts.delete(source)
    else this.#counts.set(source, count)
  }

  /** Ends a flight that is to be aborted. */
  cancel(flight: Flight): void {
    this.end(flight)
    this.#cancelled.set(flight.assignment.id, flight.assignment.index)
    const oldest = this.#cancelled.size > MAX_CANCELLED ? this.#cancelled.keys().next() : undefined
    if (oldest?.done === false) this.#cancelled.delete(oldest.value)
  }

  /** The chunk of a cancelled assignment, once. */
  takeCancelled(id: number): number | undefined {
    const index = this.#cancelled.get(id)
    this.#cancelled.delete(id)
    return index
  }
}
