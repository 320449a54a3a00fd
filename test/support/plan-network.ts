// The network of a test's small world: every link is shared evenly by what goes over it, and a movement has the least of its
// shares. Fluid: no packets, no loss. A host or origin that misbehaves moves nothing.
import type { Assignment } from '@shoal/agent/plan/download-plan.ts'
import type { Behaviour, WorldHost } from './plan-host.ts'

const DEFAULT_BYTES_PER_SECOND = 100e6
const MOVING: ReadonlySet<Behaviour> = new Set(['honest', 'liar', 'false-map'])

export interface Movement {
  readonly assignment: Assignment
  readonly to: WorldHost
  /** undefined: the origin. */
  readonly from: WorldHost | undefined
  leftBytes: number
  bytesPerSecond: number
  /** Bytes move only while it is sent. */
  state: 'asked' | 'sending' | 'over'
}

export class PlanNetwork {
  readonly #originBytesPerSecond: number
  readonly #moving = new Set<Movement>()
  #originStopped = false
  #sharesFit = false

  constructor(originBytesPerSecond: number | undefined) {
    this.#originBytesPerSecond = originBytesPerSecond ?? DEFAULT_BYTES_PER_SECOND
  }

  /** Rates are worked out again: something has changed that the network cannot see. */
  disturbed(): void {
    this.#sharesFit = false
  }

  stopOrigin(stopped: boolean): void {
    this.#originStopped = stopped
    this.#sharesFit = false
  }

  add(one: Movement): void {
    this.#moving.add(one)
    this.#sharesFit = false
  }

  /** False if it was over already. */
  remove(one: Movement): boolean {
    this.#sharesFit = false
    return this.#moving.delete(one)
  }

  find(fits: (one: Movement) => boolean): Movement[] {
    return [...this.#moving].filter(fits)
  }

  /** When the next movement arrives if nothing changes. */
  nextArrival(now: number): number {
    if (!this.#sharesFit) this.#share()
    let next = Number.POSITIVE_INFINITY
    for (const { leftBytes, bytesPerSecond } of this.#moving)
      if (bytesPerSecond > 0) next = Math.min(next, now + (leftBytes / bytesPerSecond) * 1000)
    return next
  }

  /** Moves bytes for some time; tells of every movement that got some. */
  pass(durationMs: number, moved: (one: Movement) => void): void {
    for (const one of this.#moving) {
      if (one.bytesPerSecond === 0) continue
      one.leftBytes = Math.max(0, one.leftBytes - (one.bytesPerSecond * durationMs) / 1000)
      moved(one)
    }
  }

  #share(): void {
    this.#sharesFit = true
    const up = new Map<WorldHost | undefined, number>()
    const down = new Map<WorldHost, number>()
    const own = new Map<WorldHost, number>()
    const moving = this.find((one) => this.#moves(one))
    for (const { from, to } of moving) {
      up.set(from, (up.get(from) ?? 0) + 1)
      down.set(to, (down.get(to) ?? 0) + 1)
      if (from === undefined) own.set(to, (own.get(to) ?? 0) + 1)
    }
    for (const one of this.#moving) one.bytesPerSecond = 0
    for (const one of moving) {
      const { from, to } = one
      const source = from === undefined ? this.#originBytesPerSecond : rate(from.options.upBytesPerSecond)
      one.bytesPerSecond = Math.min(
        source / (up.get(from) ?? 1),
        rate(to.options.downBytesPerSecond) / (down.get(to) ?? 1),
        from === undefined
          ? rate(to.options.originBytesPerSecond) / (own.get(to) ?? 1)
          : Number.POSITIVE_INFINITY,
      )
    }
  }

  #moves({ from, assignment, state }: Movement): boolean {
    if (state !== 'sending') return false
    if (from === undefined) return !this.#originStopped
    // One that boasts still gives what it has.
    return MOVING.has(from.behaviour) && from.held.has(assignment.index)
  }
}

function rate(bytesPerSecond: number | undefined): number {
  return bytesPerSecond ?? DEFAULT_BYTES_PER_SECOND
}
