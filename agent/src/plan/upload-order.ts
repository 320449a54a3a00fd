// PURE. Which peer's request is served next. A few at a time, so that a chunk is soon whole at some peer and goes on from there; of those
// that wait, what a client waits for first, then a chunk that this host has never sent (a lone seeder then sends each once before any
// twice, and rare ones spread), then the peer that was given least. Bounds who waits and for how long; sends nothing itself.

/** Chunks on their way to peers at once. */
export const UPLOAD_SLOTS = 4
/** Requests that wait, in all and of one peer. A chunk that one peer waits for or is being given is not given to another meanwhile. */
export const MAX_WAITING = 64
export const MAX_WAITING_PER_PEER = 8
/**
 * A request waits for its turn so long, or as long as three chunks take this host to send, but less than the two seconds after which
 * silence counts as a stall; then its peer hears `busy` and knows that this host is alive.
 */
export const TURN_WAIT_MS = 1_000
export const MAX_TURN_WAIT_MS = 1_500
/** Chunks whose counts are remembered, and peers: the one not sent (to) for longest is forgotten first. */
const MAX_COUNTED = 65_536
const MAX_PEERS = 1_024
/** Weight of the newest sample in what a chunk takes. */
const WEIGHT = 0.3

export interface UploadRequest {
  readonly id: number
  readonly peer: string
  /** Names blob and chunk. */
  readonly chunk: string
  /** A client waits for it. */
  readonly urgent: boolean
}

interface Waiting {
  readonly request: UploadRequest
  readonly since: number
}

export class UploadOrder {
  readonly #slots: number
  readonly #sending = new Map<
    number,
    { readonly peer: string; readonly chunk: string; readonly since: number }
  >()
  readonly #waiting = new Map<number, Waiting>()
  readonly #sentTimes = new Map<string, number>()
  readonly #given = new Map<string, number>()
  #chunkMs = 0

  constructor(slots: number = UPLOAD_SLOTS) {
    this.#slots = slots
  }

  /** Share of the slots in use, 0 to 1. */
  get load(): number {
    return this.#sending.size / this.#slots
  }

  /** Requests that are served or wait: told to peers, who choose the shorter line. */
  get inLine(): number {
    return this.#sending.size + this.#waiting.size
  }

  /** How long a request may wait for its turn now, in milliseconds. */
  get turnWaitMs(): number {
    return Math.min(Math.max(TURN_WAIT_MS, 3 * this.#chunkMs), MAX_TURN_WAIT_MS)
  }

  /** @returns whether it is served now, waits, hears `busy`, or `later`: another peer is being given this chunk now */
  arrived(request: UploadRequest, now: number): 'send' | 'wait' | 'busy' | 'later' {
    if (this.#sending.size < this.#slots) {
      this.#begin(request, now)
      return 'send'
    }
    if (!request.urgent && this.#isUnderWay(request.chunk)) return 'later'
    if (this.#waiting.size >= MAX_WAITING) return 'busy'
    let ofPeer = 0
    for (const { request: other } of this.#waiting.values()) if (other.peer === request.peer) ofPeer++
    if (ofPeer >= MAX_WAITING_PER_PEER) return 'busy'
    this.#waiting.set(request.id, { request, since: now })
    return 'wait'
  }

  /** A request is over: sent, failed, or its peer went away. @returns ids that are served from now on */
  over(id: number, sent: boolean, now: number): number[] {
    const began = this.#sending.get(id)
    this.#waiting.delete(id)
    if (began === undefined) return []
    this.#sending.delete(id)
    if (sent) {
      const tookMs = now - began.since
      this.#chunkMs = this.#chunkMs === 0 ? tookMs : this.#chunkMs * (1 - WEIGHT) + tookMs * WEIGHT
    }
    const next: number[] = []
    while (this.#sending.size < this.#slots) {
      const best = this.#best()
      if (best === undefined) break
      this.#waiting.delete(best.id)
      this.#begin(best, now)
      next.push(best.id)
    }
    return next
  }

  #isUnderWay(chunk: string): boolean {
    for (const other of this.#sending.values()) if (other.chunk === chunk) return true
    for (const { request } of this.#waiting.values()) if (request.chunk === chunk) return true
    return false
  }

  #best(): UploadRequest | undefined {
    let best: UploadRequest | undefined
    for (const { request } of this.#waiting.values()) {
      if (best === undefined || this.#isBefore(request, best)) best = request
    }
    return best
  }

  /** Requests are kept in order of arrival: of equals the one that has waited longest stays first. */
  #isBefore(a: UploadRequest, b: UploadRequest): boolean {
    if (a.urgent !== b.urgent) return a.urgent
    const isNew = !this.#sentTimes.has(a.chunk)
    if (isNew === this.#sentTimes.has(b.chunk)) return isNew
    return (this.#given.get(a.peer) ?? 0) < (this.#given.get(b.peer) ?? 0)
  }

  #begin(request: UploadRequest, now: number): void {
    this.#sending.set(request.id, { peer: request.peer, chunk: request.chunk, since: now })
    count(this.#sentTimes, request.chunk, MAX_COUNTED)
    count(this.#given, request.peer, MAX_PEERS)
  }
}

function count(counts: Map<string, number>, key: string, most: number): void {
  const known = counts.get(key) ?? 0
  counts.delete(key)
  counts.set(key, known + 1)
  const oldest = counts.size > most ? counts.keys().next() : undefined
  if (oldest?.done === false) counts.delete(oldest.value)
}
