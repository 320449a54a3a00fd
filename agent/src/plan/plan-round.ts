// PURE. One decision about a blob: which flights to end, which chunks to ask for now and of whom. Lives for one call; all that lasts is
// in BlobState. Readers' windows come first, then this host's share from the origin, then the rarest chunks from peers.

import type { BlobState } from './blob-state.ts'
import { type Assignment, type Flight, ORIGIN } from './flights.ts'
import type { Choice } from './peer-choice.ts'
import { type Reader, WINDOW_CHUNKS } from './readers.ts'
import { WakeTime } from './wake-time.ts'

/** A source that gives no sign of life for this long while a chunk is asked of it is replaced: another is to be asked within 2 s. */
export const STALL_MS = 1_750
/**
 * A proven peer that is alive but leaves one chunk lying for this long is replaced for that chunk all the same. Its requests wait in
 * line behind each other, and a host whose processor is full takes long for each: that is no reason to burden the origin.
 */
export const SLOW_STALL_MS = 8_000
/** For so long a chunk that a peer left lying does not count as held by it: others, or the origin, bring it. */
const STALLED_FOR_MS = 10_000
/** A reader leaves its next chunk to its owner for this long (or as long as two chunks take us) if nobody fetches it. */
export const READER_YIELD_MS = 1_000
/** A reader that waited this long for a chunk that others have or fetch goes to the origin itself: clients give up after 10 s. */
export const READER_PATIENCE_MS = 6_000
/**
 * Requests open to the origin for a reader, however narrow the line: the chunk it waits for and one more, so that the last chunk of a
 * file, for which the digest of the whole waits, does not come alone at the end.
 */
const READER_ORIGIN_DEPTH = 2
/** A chunk in flight for longer than this, and for twice as long as usual, may be asked of a second source. */
export const ENDGAME_AFTER_MS = 500
/** Chunks asked for twice at once because the end is near. */
export const MAX_ENDGAME = 4
/** A host that is fetching too counts as hope for so long after its last sign of success. */
export const HOPE_MS = 30_000

export interface Decision {
  readonly start: readonly Assignment[]
  /**
   * Ids of assignments to abort. They are over for the plan: a failure of one is no news. If its chunk was stored before
   * the word came, say so with `stored` all the same.
   */
  readonly cancel: readonly number[]
  /** When to ask again if nothing happens before; undefined: only an event can change anything. */
  readonly wakeAt: number | undefined
}

export class PlanRound {
  readonly #state: BlobState
  readonly #now: number
  readonly #wake: WakeTime
  readonly #start: Assignment[] = []
  #room: number
  #peerRoom = 0

  /** @param room assignments that may be started now */
  constructor(state: BlobState, now: number, room: number) {
    this.#state = state
    this.#now = now
    this.#wake = new WakeTime(now)
    this.#room = room
  }

  /** @param orphans flights that are over already and only need to be aborted */
  decide(orphans: readonly number[]): Decision {
    const { held, whole, readers, choice, gate, flights, settings } = this.#state
    const isWanted = !held.complete && (whole || readers.count > 0)
    if (isWanted) choice.refresh(this.#now, this.#wake)
    const replaced = this.#replace()
    const recallAt = this.#state.recall(this.#now)
    if (isWanted) {
      // Who was just found wanting must not be asked again at once.
      if (replaced.length > 0) choice.refresh(this.#now, this.#wake)
      gate.refresh(this.#now, whole, this.#wake)
      // What the origin is asked for is bounded by itself: it must not keep a host that speaks to it from its peers.
      this.#peerRoom = settings.totalDepth - (flights.count - flights.countOf(ORIGIN))
      this.#serveReaders()
      if (whole) {
        // Our share of the origin before what peers have: nobody else brings it, and the others wait for it.
        this.#fillOrigin()
        this.#fillPeers()
      }
      this.#hedge()
      if (this.#room > 0) this.#wake.by(recallAt)
      if (!gate.allowed && flights.count === 0) this.#watchHope()
    }
    return { start: this.#start, cancel: [...orphans, ...replaced], wakeAt: this.#wake.at }
  }

  /** @returns ids of flights that make no progress, and of those whose source is banned by now: ended */
  #replace(): number[] {
    const cancel: number[] = []
    // A map may be taken from while it is gone through.
    for (const flight of this.#state.flights.all()) {
      const { index, source } = flight.assignment
      const stallsAt = flight.lastProgressAt + STALL_MS
      if (source !== ORIGIN && this.#state.scores.banned(source, this.#now)) {
        cancel.push(this.#state.cancel(flight))
      } else if (stallsAt > this.#now) {
        this.#wake.by(stallsAt)
      } else if (source !== ORIGIN) {
        const patientUntil = this.#patientUntil(flight)
        if (patientUntil > this.#now) {
          this.#wake.by(patientUntil)
          continue
        }
        cancel.push(this.#state.cancel(flight))
        this.#state.peers.stalled(source, index, this.#now + STALLED_FOR_MS)
        this.#state.scores.failure(source, 'peer-timeout', this.#now)
      } else if (!this.#state.originOnly.has(index) && this.#state.choice.any(index)) {
        // The origin is slow but a peer has it now: let the peer bring it. Nobody is blamed.
        cancel.push(this.#state.cancel(flight))
      }
    }
    return cancel
  }

  /** How long a flight without progress is left to a peer: while the peer is alive and proven, but not for ever. */
  #patientUntil({ assignment: { source }, lastProgressAt }: Flight): number {
    const { scores } = this.#state
    if (scores.view(source, this.#now).rateBytesPerSecond === 0) return lastProgressAt + STALL_MS
    return Math.min(scores.signAt(source) + STALL_MS, lastProgressAt + SLOW_STALL_MS)
  }

  #serveReaders(): void {
    for (let ahead = 0; ahead < WINDOW_CHUNKS; ahead++) {
      for (const reader of this.#state.readers.all()) {
        const index = reader.next + ahead
        if (index < reader.afterLast && this.#state.picker.isOpen(index)) this.#serve(reader, index, ahead)
      }
    }
    // The last chunk is held back from readers until the whole digest passes: have it early, so that nobody waits for it.
    const last = this.#state.held.chunkCount - 1
    for (const reader of this.#state.readers.all()) {
      const nearEnd = reader.afterLast === last + 1 && reader.next >= this.#state.held.chunkCount / 2
      if (nearEnd && this.#state.picker.isOpen(last)) this.#serve(reader, last, last - reader.next)
    }
  }

  #serve(reader: Reader, index: number, ahead: number): void {
    if (this.#room <= 0) return
    const best = this.#best(index, ahead === 0)
    const proven = best !== undefined && best.standing.rate > 0
    if (proven) {
      this.#launch(index, best.peer.id, 'window')
      return
    }
    const spare = this.#state.gate.spare(this.#now, this.#wake, READER_ORIGIN_DEPTH) > 0
    const free = !this.#state.gate.isHeld(index) && !this.#state.gate.isClaimed(index, this.#now)
    const ours = this.#state.originOnly.has(index) || this.#state.gate.mayAsk(index, this.#now)
    if (ahead === 0 && spare && !ours && !(reader.impatient && free)) {
      const patientUntil = reader.waitingSince + this.#patienceMs(free)
      this.#wake.by(patientUntil)
      if (patientUntil <= this.#now) {
        reader.impatient ||= free
        this.#launch(index, ORIGIN, 'window')
        return
      }
    }
    if (best !== undefined) this.#launch(index, best.peer.id, 'window')
    else if (spare && (ours || (reader.impatient && free))) this.#launch(index, ORIGIN, 'window')
  }

  /** How long a reader leaves a chunk to others. @param free nobody has it or is fetching it */
  #patienceMs(free: boolean): number {
    const { expectedMs } = this.#state.gate
    return free ? Math.max(READER_YIELD_MS, 2 * expectedMs) : Math.max(READER_PATIENCE_MS, 2 * expectedMs)
  }

  #fillPeers(): void {
    const { picker, choice, originOnly } = this.#state
    if (this.#peerRoom <= 0 || picker.openCount === 0) return
    this.#resumeInterrupted()
    let choices = choice.useful(picker.openCount)
    while (this.#room > 0 && this.#peerRoom > 0 && picker.openCount > 0 && choices.length > 0) {
      const best = choice.bestOf(choices, this.#start.length)
      if (best?.peer.holds === undefined) return
      const allowed = originOnly.size === 0 ? undefined : (index: number) => !originOnly.has(index)
      const index = picker.rarest(best.peer.holds, allowed)
      if (index === undefined) choices = choices.filter((other) => other !== best)
      else this.#launch(index, best.peer.id, 'rarest')
    }
  }

  /** What a lost or silent peer was bringing is asked of another first. */
  #resumeInterrupted(): void {
    const { interrupted, picker } = this.#state
    for (const index of interrupted) {
      if (this.#room <= 0) return
      const best = picker.isOpen(index) ? this.#best(index, false) : undefined
      if (best !== undefined) this.#launch(index, best.peer.id, 'rarest')
    }
  }

  #fillOrigin(): void {
    if (this.#room <= 0 || this.#state.picker.openCount === 0) return
    const spare = Math.min(this.#state.gate.spare(this.#now, this.#wake), this.#room)
    if (spare <= 0) return
    const again = [...this.#state.originOnly]
      .filter((index) => this.#state.picker.isOpen(index))
      .slice(0, spare)
    for (const index of again) this.#launch(index, ORIGIN, 'owner')
    for (const index of this.#state.gate.pick(spare - again.length, this.#now, this.#wake))
      this.#launch(index, ORIGIN, 'owner')
  }

  /** Asks a second source for chunks that are late: a reader's next one, and the last ones of the blob. */
  #hedge(): void {
    if (this.#room <= 0) return
    for (const reader of this.#state.readers.all()) {
      const [flight, second] = this.#state.flights.of(reader.next)
      if (flight === undefined || second !== undefined || reader.next >= reader.afterLast) continue
      this.#hedgeOne(flight, reader.waitingSince + STALL_MS, reader)
    }
    if (!this.#state.whole || this.#state.picker.openCount + this.#state.deferred.size > 0) return
    let twice = 0
    for (const { assignment } of this.#state.flights.all()) if (assignment.why === 'end-game') twice++
    for (const flight of [...this.#state.flights.all()]) {
      if (twice >= MAX_ENDGAME) return
      if (this.#state.flights.of(flight.assignment.index).length > 1) continue
      if (this.#hedgeOne(flight, 0, undefined)) twice++
    }
  }

  /** True if a second source was asked. */
  #hedgeOne(flight: Flight, notBefore: number, reader: Reader | undefined): boolean {
    const { index, source } = flight.assignment
    if (this.#room <= 0 || this.#state.originOnly.has(index)) return false
    const lateAt = Math.max(
      notBefore,
      (flight.firstProgressAt ?? flight.startedAt) +
        Math.max(ENDGAME_AFTER_MS, 2 * this.#state.usualMs(source)),
    )
    if (lateAt > this.#now) {
      this.#wake.by(lateAt)
      return false
    }
    const other = this.#best(index, true, source)
    if (other !== undefined) {
      const worthAt = flight.startedAt + this.#state.usualMs(other.peer.id)
      this.#wake.by(worthAt)
      if (worthAt > this.#now) return false
      this.#launch(index, other.peer.id, 'end-game')
      return true
    }
    if (reader === undefined || source === ORIGIN || this.#state.gate.spare(this.#now, this.#wake) === 0)
      return false
    const patientUntil = reader.waitingSince + this.#patienceMs(false)
    this.#wake.by(patientUntil)
    if (patientUntil > this.#now) return false
    this.#launch(index, ORIGIN, 'end-game')
    return true
  }

  #best(index: number, urgent: boolean, except?: string): Choice | undefined {
    return this.#peerRoom <= 0 || this.#state.originOnly.has(index)
      ? undefined
      : this.#state.choice.forChunk(index, urgent, except)
  }

  #launch(index: number, source: string, why: Assignment['why']): void {
    this.#start.push(this.#state.launch(index, source, why, this.#now))
    this.#wake.by(this.#now + STALL_MS)
    this.#room--
    if (source !== ORIGIN) this.#peerRoom--
  }

  /** Hope ends by time alone. */
  #watchHope(): void {
    for (const peer of this.#state.peers.all()) if (peer.wanting) this.#wake.by(peer.lastBroughtAt + HOPE_MS)
  }
}
