// Chunk requests in a simulated world, from the ask to the last byte: asked of a host or of the origin, in line there (plan/upload-order.ts
// decides), moved by the network, proven, stored. Starts what plans say and tells them what became of it; chooses nothing.
import type { Assignment } from '@shoal/agent/plan/download-plan.ts'
import type { ErrorCode } from '@shoal/protocol/errors.ts'
import type { Request, SimHost } from './host.ts'
import { ASK_BYTES, type Stage } from './stage.ts'

export interface RequestHooks {
  readonly stored: (host: SimHost, index: number, from: SimHost | undefined) => void
  readonly fromOrigin: (bytes: number) => void
}

export class Requests {
  readonly #stage: Stage
  readonly #hooks: RequestHooks
  #uploadIds = 0

  constructor(stage: Stage, hooks: RequestHooks) {
    this.#stage = stage
    this.#hooks = hooks
  }

  begin(to: SimHost, { id, index, source }: Assignment): void {
    const { events, options } = this.#stage
    const from = this.#stage.hostNamed(source)
    const request: Request = { id, index, to, from, flow: undefined, uploadId: undefined, state: 'asked' }
    to.requests.set(id, request)
    if (from === undefined) {
      events.at(events.now + options.originDelayMs, () => this.#fromOrigin(request))
      return
    }
    to.requestBytes += ASK_BYTES
    to.requestCount++
    this.#stage.later(options.delayMs, () => this.#asked(request, from))
  }

  /** Ends a request before its time. @returns bytes that had moved, for nothing */
  end(request: Request): number {
    if (request.state === 'over') return 0
    let moved = 0
    if (request.flow !== undefined) {
      moved = this.#stage.options.chunkBytes - this.#stage.network.stop(request.flow, this.#now)
      request.flow = undefined
      this.#count(request, moved)
    }
    this.#over(request, false)
    return moved
  }

  fail(request: Request, code: ErrorCode): void {
    if (request.state === 'over') return
    const { to, id } = request
    to.duplicateBytes += this.end(request)
    if (to.silent) return
    to.plan?.failed(id, code, this.#now)
    this.#stage.pumpSoon(to, code === 'peer-later' ? to.plan?.settleMs : 0)
  }

  #fromOrigin(request: Request): void {
    if (request.state === 'over') return
    const { originFails, isCut, originLink, options } = this.#stage
    if (originFails !== undefined || isCut(request.to, undefined))
      this.fail(request, originFails ?? 'origin-unreachable')
    else this.#move(request, originLink, options.originPerRequest)
  }

  #asked(request: Request, from: SimHost): void {
    if (request.state === 'over') return
    const { to } = request
    if (from.left) {
      this.#failLater(request, 'peer-unreachable')
      return
    }
    // Nobody answers: the plan has to find out.
    if (from.silent || this.#stage.isCut(to, from)) return
    if (!from.held.has(request.index)) {
      this.#failLater(request, 'peer-lacks-chunk')
      return
    }
    const id = ++this.#uploadIds
    const asked = { id, peer: to.name, chunk: `${request.index}`, urgent: false }
    const verdict = from.uploads.arrived(asked, this.#now)
    if (verdict === 'busy' || verdict === 'later') {
      this.#failLater(request, verdict === 'busy' ? 'peer-busy' : 'peer-later')
      return
    }
    from.serving.set(id, request)
    request.state = 'waiting'
    request.uploadId = id
    if (verdict === 'send') this.#move(request, from.up)
    else
      this.#stage.events.at(this.#now + from.uploads.turnWaitMs, () => {
        if (request.state !== 'waiting') return
        this.#placeFree(request, false)
        this.#failLater(request, 'peer-busy')
      })
  }

  #move(request: Request, link: number, cap?: number): void {
    request.state = 'sending'
    // The first piece of a chunk comes at once: it says that the request waits in line no longer.
    request.to.plan?.progress(request.id, this.#now)
    request.flow = this.#stage.network.start(
      link,
      request.to.down,
      this.#stage.options.chunkBytes,
      this.#now,
      () => this.#arrived(request),
      cap,
    )
  }

  #arrived(request: Request): void {
    request.flow = undefined
    const { to, from, index, id } = request
    const { chunkBytes } = this.#stage.options
    this.#count(request, chunkBytes)
    this.#over(request, true)
    if (from !== undefined) to.plan?.peerLoad(from.name, from.uploads.inLine, true)
    if (from?.behaviour === 'liar') {
      to.wastedBytes += chunkBytes
      to.plan?.failed(id, 'chunk-corrupt', this.#now)
      to.plan?.removePeer(from.name)
      to.neighbours?.gone(from.name)
      this.#stage.pumpSoon(to)
      return
    }
    const isNew = to.held.add(index)
    if (isNew) to.gained.push(index)
    else to.duplicateBytes += chunkBytes
    for (const other of to.plan?.stored(id, chunkBytes, this.#now) ?? []) {
      const twin = to.requests.get(other)
      if (twin !== undefined) to.duplicateBytes += this.end(twin)
    }
    if (isNew) this.#hooks.stored(to, index, from)
    this.#stage.pumpSoon(to)
  }

  #count({ to, from, index }: Request, bytes: number): void {
    if (from !== undefined) {
      from.uploadedBytes += bytes
      return
    }
    to.originBytes += bytes
    this.#hooks.fromOrigin(bytes)
    if (bytes === this.#stage.options.chunkBytes) to.originChunks.push(index)
  }

  #over(request: Request, sent: boolean): void {
    request.state = 'over'
    request.to.requests.delete(request.id)
    this.#placeFree(request, sent)
  }

  /** The holder's place is free again: the next in line is served. */
  #placeFree(request: Request, sent: boolean): void {
    const { from, uploadId } = request
    if (from === undefined || uploadId === undefined) return
    request.uploadId = undefined
    from.serving.delete(uploadId)
    for (const next of from.uploads.over(uploadId, sent, this.#now)) {
      const waiting = from.serving.get(next)
      if (waiting !== undefined && !from.silent) this.#move(waiting, from.up)
    }
  }

  #failLater(request: Request, code: ErrorCode): void {
    this.#stage.later(this.#stage.options.delayMs, () => this.fail(request, code))
  }

  get #now(): number {
    return this.#stage.events.now
  }
}
