// A DownloadPlan with a twin that is told the same and asked more often: proves that `wakeAt` misses nothing. Time alone must
// never let the twin decide something that the plan, asked only at facts and at `wakeAt`, would not have been asked about.
import assert from 'node:assert/strict'
import { type Decision, DownloadPlan, type PlanSettings } from '@shoal/agent/plan/download-plan.ts'
import type { PeerFacts } from '@shoal/agent/plan/peer-table.ts'
import { SourceScores } from '@shoal/agent/plan/source-score.ts'
import type { ErrorCode } from '@shoal/protocol/errors.ts'

export class TwinPlan extends DownloadPlan {
  readonly #twin: DownloadPlan
  readonly #name: string

  constructor(settings: PlanSettings, scores: SourceScores) {
    super(settings, scores)
    this.#name = settings.self
    this.#twin = new DownloadPlan(settings, new SourceScores())
  }

  /** Asks the twin alone. @throws AssertionError if it decides something */
  glance(now: number): void {
    const { start, cancel } = this.#twin.next(now)
    assert.deepEqual(
      { start, cancel },
      { start: [], cancel: [] },
      `${this.#name} at ${now}: time changed the decision and wakeAt had not said so`,
    )
  }

  override next(now: number, room?: number): Decision {
    const decision = super.next(now, room)
    const twins = this.#twin.next(now, room)
    assert.deepEqual(
      twins,
      decision,
      `${this.#name} at ${now}: being asked in between changed what it decides`,
    )
    return decision
  }

  override peerState(peer: string, state: PeerFacts, now: number): void {
    super.peerState(peer, state, now)
    this.#twin.peerState(peer, state, now)
  }

  override peerGained(peer: string, indices: Iterable<number>, now: number): boolean {
    const known = [...indices]
    this.#twin.peerGained(peer, known, now)
    return super.peerGained(peer, known, now)
  }

  override peerLoad(peer: string, line: number, served: boolean): void {
    super.peerLoad(peer, line, served)
    this.#twin.peerLoad(peer, line, served)
  }

  override removePeer(peer: string): void {
    super.removePeer(peer)
    this.#twin.removePeer(peer)
  }

  override setOrigin(allowed: boolean): void {
    super.setOrigin(allowed)
    this.#twin.setOrigin(allowed)
  }

  override fetchWhole(): void {
    super.fetchWhole()
    this.#twin.fetchWhole()
  }

  override want(reader: number, next: number, afterLast: number, now: number): void {
    super.want(reader, next, afterLast, now)
    this.#twin.want(reader, next, afterLast, now)
  }

  override unwant(reader: number): void {
    super.unwant(reader)
    this.#twin.unwant(reader)
  }

  override progress(id: number, now: number): void {
    super.progress(id, now)
    this.#twin.progress(id, now)
  }

  override stored(id: number, bytes: number, now: number): number[] {
    this.#twin.stored(id, bytes, now)
    return super.stored(id, bytes, now)
  }

  override failed(id: number, code: ErrorCode, now: number): boolean {
    this.#twin.failed(id, code, now)
    return super.failed(id, code, now)
  }

  override discarded(indices: readonly number[], originOnly?: boolean): void {
    super.discarded(indices, originOnly)
    this.#twin.discarded(indices, originOnly)
  }
}
