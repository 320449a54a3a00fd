// Data connections in worker threads. Gives each fetch to the lane with the least to do, and answers what lanes ask: what a peer may
// have, and how fast. A lane that dies costs its requests a second try elsewhere and is replaced. Moves no bytes itself: they lie in
// memory that both threads see, and a lane never touches a buffer again once it has said so, or is dead.
import { Worker } from 'node:worker_threads'
import { isAbort, messageOf, ShoalError } from '@shoal/protocol/errors.ts'
import type { PeerId } from '@shoal/protocol/ids.ts'
import type { ChunkRequestMessage } from '@shoal/protocol/messages.ts'
import type { Clock } from '@shoal/protocol/time.ts'
import { bothPaces, type MeshPace, type Pace } from '../limits-port.ts'
import type { ChunkRequest, FetchedChunk, FetchOptions } from '../sources/source.ts'
import { MAX_UPLOADS } from './chunk-server.ts'
import { type DataCarrier, type DataTarget, lostLane } from './data-carrier.ts'
import { type FromLane, type LanePace, type LaneSettings, laneError, type ToLane } from './lane-messages.ts'
import type { ChunkReply, MeshHandlers } from './mesh.ts'
import type { MeshLog } from './mesh-log.ts'
import type { Traffic } from './traffic.ts'

const DEFAULT_WORKER = new URL('./lane-worker.ts', import.meta.url)
/** A lane that dies is replaced after this time, so that one which cannot live does not take all of a processor. */
const REPLACE_MS = 1_000
const NO_LIMITS: LanePace = { downBytes: undefined, upBytes: undefined }
const NEVER = new AbortController().signal

export interface LaneCarrierDeps {
  readonly count: number
  readonly clock: Clock
  readonly log: MeshLog
  readonly pair: LaneSettings['pair']
  readonly traffic: Traffic
  readonly chunk: MeshHandlers['chunk']
  readonly pace: MeshPace | undefined
  readonly onBadMessage: (peer: PeerId, reason: string) => void
  readonly noProgressMs: number | undefined
  readonly messageBytes: number | undefined
  /** Another worker program, for tests. */
  readonly workerFile?: URL
}

interface Pending {
  readonly resolve: (done: FromLane & { readonly kind: 'done' }) => void
  readonly reject: (error: Error) => void
  readonly onProgress: (filledBytes: number) => void
  readonly signal: AbortSignal
  /** Limit on its download. */
  readonly pace: Pace | undefined
}

interface Lane {
  readonly turn: number
  readonly worker: Worker
  readonly pending: Map<number, Pending>
  /** Replies that the lane still uses. */
  readonly replies: Map<number, ChunkReply>
  /** Requests of peers that are being answered. */
  readonly asked: Map<number, AbortController>
  /** As it was told last. */
  pace: LanePace
}

export class LaneCarrier implements DataCarrier {
  readonly #deps: LaneCarrierDeps
  readonly #lanes = new Map<number, Lane>()
  readonly #ports = new Map<number, number>()
  readonly #admitted = new Map<PeerId, Uint8Array>()
  #hosts: readonly string[] = []
  #nextId = 1
  #stopped = false

  constructor(deps: LaneCarrierDeps) {
    this.#deps = deps
  }

  async start(hosts: readonly string[]): Promise<readonly number[]> {
    this.#stopped = false
    this.#hosts = hosts
    await Promise.all(Array.from({ length: this.#deps.count }, (_, turn) => this.#spawn(turn)))
    return [...this.#ports.values()]
  }

  async stop(): Promise<void> {
    this.#stopped = true
    const lanes = [...this.#lanes.values()]
    this.#lanes.clear()
    this.#admitted.clear()
    await Promise.all(lanes.map(({ worker }) => worker.terminate()))
    for (const lane of lanes) this.#bury(lane)
  }

  admit(peer: PeerId, certificate: Uint8Array): void {
    this.#admitted.set(peer, certificate)
    this.#tellAll({ kind: 'admit', peer, certificate })
  }

  cut(peer: PeerId): void {
    this.#admitted.delete(peer)
    this.#tellAll({ kind: 'cut', peer })
  }

  takes(into: Uint8Array): boolean {
    return into.buffer instanceof SharedArrayBuffer && this.#lanes.size > 0
  }

  async probe(peer: PeerId, target: DataTarget, signal: AbortSignal): Promise<void> {
    await this.#ask(
      (id) => ({ kind: 'probe', id, peer, target }),
      signal,
      () => {},
    )
  }

  async fetch(
    peer: PeerId,
    target: DataTarget,
    request: ChunkRequest,
    extra: Pick<ChunkRequestMessage, 'waitMs' | 'grant'>,
    options: FetchOptions,
  ): Promise<FetchedChunk> {
    const { blob, geometry, index, into } = request
    let counted = 0
    const onProgress = (filledBytes: number) => {
      this.#deps.traffic.received(peer, filledBytes - counted)
      counted = filledBytes
      options.onProgress(filledBytes)
    }
    const { voucher, line, digest } = await this.#ask(
      (id) => ({
        kind: 'fetch',
        id,
        peer,
        target,
        blob,
        geometry: geometry.text,
        index,
        into,
        waitMs: extra.waitMs,
        grant: extra.grant,
        pieceBytes: finite(options.pace?.pieceBytes),
      }),
      options.signal,
      onProgress,
      options.pace,
    )
    if (counted < into.byteLength) onProgress(into.byteLength)
    return { voucher, line, digest }
  }

  /** Settles only when the lane has answered or is dead: until then the buffer is the lane's. */
  #ask(
    messageOf: (id: number) => ToLane,
    signal: AbortSignal,
    onProgress: (filledBytes: number) => void,
    pace?: Pace,
  ): Promise<FromLane & { readonly kind: 'done' }> {
    const [lane] = [...this.#lanes.values()].toSorted((a, b) => a.pending.size - b.pending.size)
    if (lane === undefined) return Promise.reject(lostLane())
    const id = this.#nextId++
    const onAbort = () => this.#tell(lane, { kind: 'cancel', id })
    const answered = new Promise<FromLane & { readonly kind: 'done' }>((resolve, reject) => {
      lane.pending.set(id, { resolve, reject, onProgress, signal, pace })
    })
    signal.addEventListener('abort', onAbort, { once: true })
    this.#tell(lane, messageOf(id))
    if (signal.aborted) onAbort()
    return answered.finally(() => {
      lane.pending.delete(id)
      signal.removeEventListener('abort', onAbort)
    })
  }

  /** Resolves when the lane listens, or has died of trying. */
  #spawn(turn: number): Promise<void> {
    const { pair, count, noProgressMs, messageBytes, workerFile = DEFAULT_WORKER } = this.#deps
    const settings: LaneSettings = {
      pair,
      hosts: this.#hosts,
      port: this.#ports.get(turn) ?? 0,
      turn,
      maxUploads: Math.ceil(MAX_UPLOADS / count),
      messageBytes,
      noProgressMs,
    }
    // Options of the process (`--input-type`, `--import`) are not meant for this program.
    const worker = new Worker(workerFile, { execArgv: [], workerData: settings })
    const lane: Lane = {
      turn,
      worker,
      pending: new Map(),
      replies: new Map(),
      asked: new Map(),
      pace: NO_LIMITS,
    }
    this.#lanes.set(turn, lane)
    for (const [peer, certificate] of this.#admitted) this.#tell(lane, { kind: 'admit', peer, certificate })
    this.#tellPace(lane, undefined)
    return new Promise((resolve) => {
      worker.on('message', (message: FromLane) => {
        if (message.kind === 'listening') {
          const [port] = message.ports
          if (port !== undefined) this.#ports.set(turn, port)
          resolve()
        } else this.#heard(lane, message)
      })
      worker.on('error', (error) =>
        this.#deps.log('error', 'a lane died', { lane: turn, reason: messageOf(error) }),
      )
      worker.on('exit', () => {
        this.#lost(lane)
        resolve()
      })
    })
  }

  #lost(lane: Lane): void {
    if (this.#lanes.get(lane.turn) === lane) this.#lanes.delete(lane.turn)
    this.#bury(lane)
    if (this.#stopped) return
    this.#deps.log('warn', 'a lane has ended: another one takes its place', { lane: lane.turn })
    this.#deps.clock.after(REPLACE_MS, () => {
      if (!this.#stopped && !this.#lanes.has(lane.turn)) void this.#spawn(lane.turn)
    })
  }

  /** Nothing of it goes on any more. */
  #bury(lane: Lane): void {
    for (const { reject } of [...lane.pending.values()]) reject(lostLane())
    for (const abort of lane.asked.values()) abort.abort(new ShoalError('aborted', 'the lane died'))
    for (const reply of lane.replies.values()) {
      reply.release?.()
      reply.reuse?.()
    }
    lane.replies.clear()
  }

  #heard(lane: Lane, message: Exclude<FromLane, { kind: 'listening' }>): void {
    switch (message.kind) {
      case 'progress':
        lane.pending.get(message.id)?.onProgress(message.filledBytes)
        this.#tellPace(lane, undefined)
        return
      case 'done':
        lane.pending.get(message.id)?.resolve(message)
        return
      case 'failed': {
        const pending = lane.pending.get(message.id)
        const error = laneError(message)
        pending?.reject(pending.signal.aborted ? new ShoalError('aborted', error.message) : error)
        return
      }
      case 'asked':
        void this.#answer(lane, message)
        return
      case 'gone':
        lane.asked.get(message.id)?.abort(new ShoalError('aborted', 'the peer has gone'))
        return
      case 'sent':
        this.#deps.traffic.sent(message.peer, message.bytes)
        this.#tellPace(lane, message.peer)
        return
      case 'released':
        this.#released(lane, message.id)
        return
      case 'reusable':
        lane.replies.get(message.id)?.reuse?.()
        lane.replies.delete(message.id)
        return
      case 'lost':
        lane.replies.delete(message.id)
        return
      case 'rotten':
        lane.replies.get(message.id)?.rotten?.()
        return
      case 'pass':
        void this.#pass(lane, message)
        return
      case 'broke-rules':
        this.#deps.onBadMessage(message.peer, message.reason)
        return
      case 'log':
        this.#deps.log(message.level, message.message, message.fields)
    }
  }

  #released(lane: Lane, id: number): void {
    const { release, ...reply } = lane.replies.get(id) ?? { status: 'lacks' }
    if (release === undefined) return
    lane.replies.set(id, reply)
    release()
  }

  async #answer(lane: Lane, { id, peer, request }: FromLane & { readonly kind: 'asked' }): Promise<void> {
    const abort = new AbortController()
    lane.asked.set(id, abort)
    let reply: ChunkReply
    try {
      reply = await this.#deps.chunk(peer, request, abort.signal, true)
    } catch (error) {
      if (!isAbort(error))
        this.#deps.log('error', 'a request of a peer could not be answered', { reason: messageOf(error) })
      reply = { status: 'lacks' }
    } finally {
      lane.asked.delete(id)
    }
    if (this.#lanes.get(lane.turn) !== lane) {
      reply.release?.()
      reply.reuse?.()
      return
    }
    const { status, line, bytes, voucher } = reply
    if (bytes !== undefined) lane.replies.set(id, reply)
    this.#tellPace(lane, peer)
    this.#tell(lane, { kind: 'reply', id, status, line, bytes, voucher })
  }

  async #pass(lane: Lane, { id, way, bytes }: FromLane & { readonly kind: 'pass' }): Promise<void> {
    const { pace } = this.#deps
    const limit =
      typeof way === 'number' ? bothPaces(pace?.downloads, lane.pending.get(way)?.pace) : pace?.uploads(way)
    await limit?.pass(bytes, NEVER)
    this.#tell(lane, { kind: 'passed', id })
    this.#tellPace(lane, typeof way === 'number' ? undefined : way)
  }

  /** Limits change at run time: looked at with every message. */
  #tellPace(lane: Lane, peer: PeerId | undefined): void {
    const { pace } = this.#deps
    const downBytes = finite(pace?.downloads.pieceBytes)
    const upBytes = peer === undefined ? lane.pace.upBytes : finite(pace?.uploads(peer).pieceBytes)
    if (downBytes === lane.pace.downBytes && upBytes === lane.pace.upBytes) return
    lane.pace = { downBytes, upBytes }
    this.#tell(lane, { kind: 'pace', downBytes, upBytes })
  }

  #tell(lane: Lane, message: ToLane): void {
    lane.worker.postMessage(message)
  }

  #tellAll(message: ToLane): void {
    for (const lane of this.#lanes.values()) this.#tell(lane, message)
  }
}

function finite(bytes: number | undefined): number | undefined {
  return bytes !== undefined && Number.isFinite(bytes) ? bytes : undefined
}
