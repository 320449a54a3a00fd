// PURE. Which downloads run, which wait and in which order: by class, then as the operator ordered them, then as they came. Also which of
// two that run makes room for the other. Counts places of files; starts nothing and keeps no bytes.

/** From the one that is never kept waiting to the one that always waits: a client, a pull, a preheat, a repair. */
export const PRIORITIES = ['reader', 'pull', 'preheat', 'repair'] as const
export type Priority = (typeof PRIORITIES)[number]

/** True when `one` goes before `other`. A download that nobody waits for (undefined) goes after all. */
export function outranks(one: Priority | undefined, other: Priority | undefined): boolean {
  return rankOf(one) < rankOf(other)
}

/** The class of a download that serves all of these; undefined for none. */
export function highest(priorities: Iterable<Priority>): Priority | undefined {
  let best: Priority | undefined
  for (const priority of priorities) if (outranks(priority, best)) best = priority
  return best
}

/** A download as one that shares chunk memory with others. */
export interface MemoryUser {
  readonly priority: Priority | undefined
  /** It has chunks on their way, so it could use more memory. */
  readonly busy: boolean
}

/**
 * How many chunks a download may ask for now, of `room` that the memory has. While a higher one is busy it may ask for none: the plan
 * gives every download one chunk at a time all the same, so that it neither starves nor is taken for dead.
 */
export function roomFor(own: Priority | undefined, others: Iterable<MemoryUser>, room: number): number {
  for (const { priority, busy } of others) if (busy && outranks(priority, own)) return 0
  return room
}

/** Where to put what is moved: in front, at the end, or at a place of the list, counted from 0. */
export type QueuePlace = 'first' | 'last' | number

interface Entry {
  readonly id: string
  readonly priority: Priority
  paused: boolean
  /** Files that would begin now. */
  waiting: number
  /** Files that are being fetched. */
  running: number
}

/** Downloads of several files each, which share so many places for files. */
export class DownloadQueue {
  readonly #places: number
  /** As they came, and as the operator moved them. */
  #entries: readonly Entry[] = []

  /** @param places files fetched at a time, at least 1 */
  constructor(places: number) {
    this.#places = Math.max(1, places)
  }

  /** Ids, those that go first in front. */
  get order(): readonly string[] {
    return this.#sorted().map(({ id }) => id)
  }

  /** At the end of its class. */
  add(id: string, priority: Priority, paused = false): void {
    if (this.#find(id) === undefined)
      this.#entries = [...this.#entries, { id, priority, paused, waiting: 0, running: 0 }]
  }

  remove(id: string): void {
    this.#entries = this.#entries.filter((entry) => entry.id !== id)
  }

  isPaused(id: string): boolean {
    return this.#find(id)?.paused === true
  }

  /** False when it was so already, or is not there. */
  setPaused(id: string, paused: boolean): boolean {
    const entry = this.#find(id)
    if (entry === undefined || entry.paused === paused) return false
    entry.paused = paused
    return true
  }

  /**
   * Moves them, in the order in which they are named. A class still goes before the next one, whatever the operator orders.
   * Ids that are not there count for nothing.
   */
  move(ids: readonly string[], place: QueuePlace): void {
    const moved = [...new Set(ids)].flatMap((id) => this.#find(id) ?? [])
    const rest = this.#sorted().filter((entry) => !moved.includes(entry))
    const at =
      place === 'first' ? 0 : place === 'last' ? rest.length : Math.min(Math.max(0, place), rest.length)
    this.#entries = [...rest.slice(0, at), ...moved, ...rest.slice(at)]
  }

  /** One more file of the download could begin. */
  waits(id: string): void {
    const entry = this.#find(id)
    if (entry !== undefined) entry.waiting++
  }

  /** One file fewer: its download gave up waiting. */
  waitsNoMore(id: string): void {
    const entry = this.#find(id)
    if (entry !== undefined) entry.waiting = Math.max(0, entry.waiting - 1)
  }

  /** A file that began has ended, however. */
  ended(id: string): void {
    const entry = this.#find(id)
    if (entry !== undefined) entry.running = Math.max(0, entry.running - 1)
  }

  /**
   * The download whose next file begins now; it has begun with that. undefined: nothing may begin until something ends or changes.
   * Files of a lower class do not keep a higher one waiting: they are not counted, and make room as {@link roomFor} says.
   */
  next(): string | undefined {
    for (const entry of this.#sorted()) {
      if (entry.paused || entry.waiting === 0 || this.#takenFor(entry) >= this.#places) continue
      entry.waiting--
      entry.running++
      return entry.id
    }
    return undefined
  }

  /** Files of the download that are being fetched. */
  runningOf(id: string): number {
    return this.#find(id)?.running ?? 0
  }

  #takenFor({ priority }: Entry): number {
    let taken = 0
    for (const other of this.#entries) if (!outranks(priority, other.priority)) taken += other.running
    return taken
  }

  #sorted(): readonly Entry[] {
    return this.#entries.toSorted((a, b) => rankOf(a.priority) - rankOf(b.priority))
  }

  #find(id: string): Entry | undefined {
    return this.#entries.find((entry) => entry.id === id)
  }
}

function rankOf(priority: Priority | undefined): number {
  return priority === undefined ? PRIORITIES.length : PRIORITIES.indexOf(priority)
}
