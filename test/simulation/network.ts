// The simulation's network. Fluid: every link is shared by the flows that cross it, max-min fair, as TCP shares it in the long run; a
// flow crosses its sender's uplink and its receiver's downlink. No packets, no slow start; loss is a stall. Knows bytes, not chunks.
import { Timers } from './timers.ts'

/** A change of a link's offer smaller than this share is not passed on: it would go around for ever. */
const TOLERANCE = 0.01
/** Links whose shares are worked out again after one change, at most. What is left over is caught by the next change near it. */
const MAX_SPREAD = 48
const DONE_BYTES = 0.5

interface Link {
  bytesPerSecond: number
  /** What one more flow would get, or what those that want the most get. */
  offer: number
  readonly flows: number[]
  queued: boolean
}

interface Flow {
  from: number
  to: number
  /** Place in the two links' lists. */
  fromPlace: number
  toPlace: number
  leftBytes: number
  rate: number
  /** Bytes a millisecond at most, whatever the links have. */
  cap: number
  since: number
  stalled: boolean
  movedAt: number
  done: () => void
}

export class Network {
  readonly #links: Link[] = []
  readonly #flows: Flow[] = []
  readonly #free: number[] = []
  readonly #ends = new Timers()
  readonly #queue: number[] = []
  #bytesMoved = 0

  /** A link has one direction: every flow over it begins there, or every flow ends there. @returns the link's number */
  addLink(bytesPerSecond: number): number {
    const perMs = bytesPerSecond / 1000
    this.#links.push({ bytesPerSecond: perMs, offer: perMs, flows: [], queued: false })
    return this.#links.length - 1
  }

  setRate(link: number, bytesPerSecond: number, now: number): void {
    this.#link(link).bytesPerSecond = bytesPerSecond / 1000
    this.#settle([link], now)
  }

  get nextAt(): number {
    return this.#ends.nextAt
  }

  /** All bytes that have gone over links so far, also of flows that were broken off. */
  get bytesMoved(): number {
    return this.#bytesMoved
  }

  /** @param cap bytes a second at most @returns the flow's number, good until `done` is called or it is stopped */
  start(
    from: number,
    to: number,
    bytes: number,
    now: number,
    done: () => void,
    cap: number = Number.POSITIVE_INFINITY,
  ): number {
    const id = this.#free.pop() ?? this.#flows.length
    const source = this.#link(from)
    const target = this.#link(to)
    this.#flows[id] = {
      from,
      to,
      fromPlace: source.flows.push(id) - 1,
      toPlace: target.flows.push(id) - 1,
      leftBytes: bytes,
      rate: 0,
      cap: cap / 1000,
      since: now,
      stalled: false,
      movedAt: now,
      done,
    }
    this.#settle([from, to], now)
    return id
  }

  /** Breaks a flow off. @returns bytes that had not moved */
  stop(id: number, now: number): number {
    const flow = this.#flow(id)
    this.#move(flow, now)
    const { leftBytes, from, to } = flow
    this.#take(id, flow)
    this.#settle([from, to], now)
    return Math.max(0, leftBytes)
  }

  /** Lets a flow stand still, or go on. */
  stall(id: number, stalled: boolean, now: number): void {
    const flow = this.#flow(id)
    flow.stalled = stalled
    this.#settle([flow.from, flow.to], now)
  }

  /** When bytes of it last moved. */
  movedAt(id: number, now: number): number {
    const flow = this.#flow(id)
    return flow.rate > 0 ? now : flow.movedAt
  }

  /** Ends the flow whose time has come. */
  finishNext(now: number): void {
    const id = this.#ends.nextId
    const flow = this.#flow(id)
    this.#move(flow, now)
    if (flow.leftBytes > DONE_BYTES) {
      this.#schedule(id, flow, now)
      return
    }
    const { from, to, done } = flow
    this.#take(id, flow)
    this.#settle([from, to], now)
    done()
  }

  /** Bytes a second that cross a link now. */
  load(link: number): number {
    let sum = 0
    for (const id of this.#link(link).flows) sum += this.#flow(id).rate
    return sum * 1000
  }

  #link(link: number): Link {
    const found = this.#links[link]
    if (found === undefined) throw new RangeError(`no link ${link}`)
    return found
  }

  #flow(id: number): Flow {
    const found = this.#flows[id]
    if (found === undefined) throw new RangeError(`no flow ${id}`)
    return found
  }

  #move(flow: Flow, now: number): void {
    if (flow.rate > 0) {
      const bytes = Math.min(flow.leftBytes, flow.rate * (now - flow.since))
      flow.leftBytes -= bytes
      this.#bytesMoved += bytes
      flow.movedAt = now
    }
    flow.since = now
  }

  #take(id: number, flow: Flow): void {
    this.#ends.clear(id)
    const source = this.#link(flow.from)
    const target = this.#link(flow.to)
    const sourceLast = source.flows.pop() ?? -1
    if (sourceLast !== id) {
      source.flows[flow.fromPlace] = sourceLast
      this.#flow(sourceLast).fromPlace = flow.fromPlace
    }
    const targetLast = target.flows.pop() ?? -1
    if (targetLast !== id) {
      target.flows[flow.toPlace] = targetLast
      this.#flow(targetLast).toPlace = flow.toPlace
    }
    this.#free.push(id)
  }

  /** Works out shares again, from these links outwards, until nothing changes much. */
  #settle(links: readonly number[], now: number): void {
    const queue = this.#queue
    for (const link of links) this.#enqueue(link)
    for (let step = 0; step < queue.length && step < MAX_SPREAD; step++) {
      const link = this.#link(queue[step] ?? -1)
      link.queued = false
      this.#offer(link)
      for (const id of link.flows) this.#rate(id, now)
    }
    // Whatever was not reached keeps its old offers; its rates never exceed what both ends last offered.
    for (const link of queue) this.#link(link).queued = false
    queue.length = 0
  }

  #enqueue(link: number): void {
    const known = this.#link(link)
    if (known.queued) return
    known.queued = true
    this.#queue.push(link)
  }

  /** Water-filling: flows that another link holds back get what that link gives, the others share the rest evenly. */
  #offer(link: Link): void {
    let rest = link.bytesPerSecond
    let count = 0
    limits.length = 0
    for (const id of link.flows) {
      const flow = this.#flow(id)
      if (flow.stalled) continue
      const other = this.#link(flow.from) === link ? this.#link(flow.to) : this.#link(flow.from)
      const limit = Math.min(other.offer, flow.cap)
      let place = limits.length
      limits.push(limit)
      while (place > 0 && (limits[place - 1] ?? 0) > limit) {
        limits[place] = limits[place - 1] ?? 0
        place--
      }
      limits[place] = limit
      count++
    }
    for (const limit of limits) {
      if (limit >= rest / count) {
        link.offer = rest / count
        return
      }
      rest -= limit
      count--
    }
    link.offer = Math.max(0, rest) + (limits.at(-1) ?? 0)
  }

  #rate(id: number, now: number): void {
    const flow = this.#flow(id)
    const source = this.#link(flow.from)
    const target = this.#link(flow.to)
    const rate = flow.stalled ? 0 : Math.min(source.offer, target.offer, flow.cap)
    const change = Math.abs(rate - flow.rate)
    if (change === 0) return
    const isLarge = change > TOLERANCE * Math.max(rate, flow.rate)
    this.#move(flow, now)
    flow.rate = rate
    this.#schedule(id, flow, now)
    if (!isLarge) return
    this.#enqueue(flow.from)
    this.#enqueue(flow.to)
  }

  #schedule(id: number, flow: Flow, now: number): void {
    this.#ends.set(id, flow.rate > 0 ? now + flow.leftBytes / flow.rate : Number.POSITIVE_INFINITY)
  }
}

/** Scratch space of the water-filling. */
const limits: number[] = []
