// How the hosts of a test's small world serve each other: a request arrives after a while, and UploadOrder says whether it is served,
// waits, or is sent away. What a misbehaving host answers is decided here too.
import { UploadOrder } from '@shoal/agent/plan/upload-order.ts'
import type { ErrorCode } from '@shoal/protocol/errors.ts'
import type { WorldHost } from './plan-host.ts'
import type { Movement } from './plan-network.ts'

/** What the world does for its uploads. */
export interface UploadsPort {
  readonly now: () => number
  readonly at: (time: number, run: () => void) => void
  /** One way between two hosts, in milliseconds. */
  readonly delayMs: () => number
  readonly fail: (one: Movement, code: ErrorCode) => void
  /** Bytes of it may move from now on. */
  readonly send: (one: Movement) => void
}

export class PlanUploads {
  readonly #port: UploadsPort
  readonly #orders = new Map<WorldHost, UploadOrder>()
  readonly #served = new Map<number, Movement>()
  readonly #ids = new Map<Movement, number>()
  #nextId = 1

  constructor(port: UploadsPort) {
    this.#port = port
  }

  /** Requests that a host serves or that wait there. */
  lineOf(host: WorldHost): number {
    return this.#orderOf(host).inLine
  }

  /** A request is on its way to `from`. */
  ask(one: Movement, from: WorldHost): void {
    this.#later(() => {
      if (one.state !== 'over') this.#arrived(one, from)
    })
  }

  /** The request is over, however it ended: its place is free. */
  over(one: Movement, sent: boolean): void {
    const id = this.#ids.get(one)
    if (id === undefined || one.from === undefined) return
    this.#ids.delete(one)
    this.#served.delete(id)
    for (const next of this.#orderOf(one.from).over(id, sent, this.#port.now())) {
      const waiting = this.#served.get(next)
      if (waiting !== undefined) this.#port.send(waiting)
    }
  }

  #arrived(one: Movement, from: WorldHost): void {
    const refusal = refusalOf(from, one.assignment.index)
    if (refusal !== undefined) {
      this.#failLater(one, refusal)
      return
    }
    // Neither serves nor refuses: the other has to find out.
    if (from.behaviour === 'dead' || from.behaviour === 'stuck') return
    const order = this.#orderOf(from)
    const id = this.#nextId++
    const chunk = `${one.assignment.index}`
    const verdict = order.arrived({ id, peer: one.to.name, chunk, urgent: false }, this.#port.now())
    if (verdict === 'busy' || verdict === 'later') {
      this.#failLater(one, verdict === 'busy' ? 'peer-busy' : 'peer-later')
      return
    }
    this.#ids.set(one, id)
    this.#served.set(id, one)
    if (verdict === 'send') this.#port.send(one)
    else
      this.#port.at(this.#port.now() + order.turnWaitMs, () => {
        if (one.state !== 'asked') return
        this.over(one, false)
        this.#failLater(one, 'peer-busy')
      })
  }

  #failLater(one: Movement, code: ErrorCode): void {
    this.#later(() => this.#port.fail(one, code))
  }

  #later(run: () => void): void {
    this.#port.at(this.#port.now() + this.#port.delayMs(), run)
  }

  #orderOf(host: WorldHost): UploadOrder {
    let order = this.#orders.get(host)
    if (order === undefined) {
      order = new UploadOrder(host.options.uploadSlots)
      this.#orders.set(host, order)
    }
    return order
  }
}

function refusalOf(from: WorldHost, index: number): ErrorCode | undefined {
  if (from.left) return 'peer-unreachable'
  if (from.behaviour === 'busy') return 'peer-busy'
  if (from.behaviour === 'refuses') return 'peer-refused'
  return from.behaviour !== 'dead' && !from.held.has(index) ? 'peer-lacks-chunk' : undefined
}
