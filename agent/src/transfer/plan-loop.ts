// When the plan is asked: after every change, when it said to be asked again, and when memory for another chunk is free. Passes
// its decisions on; makes none.
import type { Clock } from '@shoal/protocol/time.ts'
import type { Assignment, DownloadPlan } from '../plan/download-plan.ts'
import type { ChunkBuffers } from './chunk-buffers.ts'

/** Woken later than this, our own processor was busy: what arrived meanwhile is taken in before anybody is called late. */
const LATE_MS = 200
const CATCH_UP_MS = 20
/** The plan is asked at least this often, whatever it says. */
const AT_LEAST_MS = 5_000

export interface PlanLoopHooks {
  readonly flightCount: () => number
  readonly start: (assignment: Assignment) => void
  readonly cancel: (id: number) => void
  /** Every chunk is held. */
  readonly complete: () => void
  /** Nothing is on its way. True when that ends the download. */
  readonly stuck: (hopeless: boolean) => boolean
}

export class PlanLoop {
  readonly #plan: DownloadPlan
  readonly #clock: Clock
  readonly #buffers: ChunkBuffers
  readonly #hooks: PlanLoopHooks
  #running = true
  #queued = false
  /** When the next decision was due at the latest. */
  #dueAt = Number.POSITIVE_INFINITY
  #cancelWake: () => void = () => {}
  #cancelRoom: () => void = () => {}
  #cancelSoon: (() => void) | undefined
  #mayWait = false

  constructor(plan: DownloadPlan, clock: Clock, buffers: ChunkBuffers, hooks: PlanLoopHooks) {
    this.#plan = plan
    this.#clock = clock
    this.#buffers = buffers
    this.#hooks = hooks
  }

  /** Many facts that arrive together cost one decision. */
  pump(): void {
    if (this.#queued || !this.#running) return
    if (this.#mayWait) {
      this.#mayWait = false
      this.pumpSoon()
      return
    }
    this.#queued = true
    queueMicrotask(() => {
      this.#queued = false
      this.#decide()
    })
  }

  /** What the next {@link pump} is called for may wait for more of the kind. */
  nextMayWait(): void {
    this.#mayWait = true
  }

  /** The same after a moment, in which more may come: what peers tell, and their refusals. */
  pumpSoon(): void {
    if (this.#queued || !this.#running || this.#cancelSoon !== undefined) return
    this.#cancelSoon = this.#clock.after(this.#plan.settleMs, () => {
      this.#cancelSoon = undefined
      this.pump()
    })
  }

  stop(): void {
    this.#running = false
    this.#cancelTimers()
  }

  #decide(): void {
    if (!this.#running) return
    this.#cancelTimers()
    if (this.#plan.complete) {
      this.#hooks.complete()
      return
    }
    const now = this.#clock.now()
    if (now - this.#dueAt > LATE_MS) {
      this.#dueAt = Number.POSITIVE_INFINITY
      this.#cancelWake = this.#clock.after(CATCH_UP_MS, () => this.#decide())
      return
    }
    // Each download may always have one chunk on its way, so that none starves when memory is short.
    const room = Math.max(this.#buffers.room, this.#hooks.flightCount() === 0 ? 1 : 0)
    const decision = this.#plan.next(now, room)
    for (const id of decision.cancel) this.#hooks.cancel(id)
    for (const assignment of decision.start) this.#hooks.start(assignment)
    if (this.#hooks.flightCount() === 0 && this.#hooks.stuck(this.#plan.hopeless(now))) return
    if (room === 0) this.#cancelRoom = this.#buffers.whenGiven(() => this.pump())
    const wakeAt = Math.min(decision.wakeAt ?? Number.POSITIVE_INFINITY, now + AT_LEAST_MS)
    this.#dueAt = wakeAt
    this.#cancelWake = this.#clock.after(Math.max(1, wakeAt - now), () => this.#decide())
  }

  #cancelTimers(): void {
    this.#cancelSoon?.()
    this.#cancelSoon = undefined
    this.#cancelWake()
    this.#cancelRoom()
    this.#cancelWake = () => {}
    this.#cancelRoom = () => {}
  }
}
