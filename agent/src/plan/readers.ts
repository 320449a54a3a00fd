// PURE. Who is reading a blob while it arrives, where each reader stands, and how long it has waited there.

/** Chunks ahead of a reader that are asked for before anything else. */
export const WINDOW_CHUNKS = 8

export interface Reader {
  next: number
  afterLast: number
  /** Since when it has stood at `next`. */
  waitingSince: number
  /** It waited in vain for an owner: its chunks are asked of the origin at once, until a peer brings it one again. */
  impatient: boolean
}

export class Readers {
  readonly #readers = new Map<number, Reader>()

  get count(): number {
    return this.#readers.size
  }

  all(): Iterable<Reader> {
    return this.#readers.values()
  }

  /** Reader `id` needs chunks `[next, afterLast)`, in order. */
  want(id: number, next: number, afterLast: number, now: number): void {
    const known = this.#readers.get(id)
    if (known === undefined) {
      this.#readers.set(id, { next, afterLast, waitingSince: now, impatient: false })
      return
    }
    if (known.next !== next) known.waitingSince = now
    known.next = next
    known.afterLast = afterLast
  }

  unwant(id: number): void {
    this.#readers.delete(id)
  }

  /** A peer brought a chunk: readers near it have reason to be patient again. */
  broughtByPeer(index: number, windowChunks: number): void {
    for (const reader of this.#readers.values()) {
      if (index >= reader.next && index < reader.next + windowChunks) reader.impatient = false
    }
  }
}
