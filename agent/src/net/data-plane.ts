// Data connections: how chunks travel between two hosts that are connected already. Each is one TLS session on a TCP socket, without
// a muxer, and carries one request at a time. The two tell each other over their admitted connection where and by which certificate,
// so whoever is not admitted gets nowhere. Where the other host cannot be reached directly, or takes none, chunks travel as streams of
// the connection that is there. Knows which peers have a way; the carrier moves the bytes.
import { messageOf } from '@shoal/protocol/errors.ts'
import type { PeerId } from '@shoal/protocol/ids.ts'
import type { ChunkRequestMessage } from '@shoal/protocol/messages.ts'
import type { Tasks } from '@shoal/protocol/service.ts'
import type { Clock } from '@shoal/protocol/time.ts'
import type { ChunkRequest, FetchedChunk, FetchOptions } from '../sources/source.ts'
import { type DataCarrier, type DataTarget, isLostLane, isNoWay } from './data-carrier.ts'
import type { MeshLog } from './mesh-log.ts'
import type { DataAnswer, DataAsk } from './questions.ts'

/** A host that could not be reached directly is tried again after this time. */
const AGAIN_MS = 60_000
/** The same for one that takes no data connections yet. */
const SOON_MS = 5_000
/** Addresses that are kept of what a peer tells of itself. */
const MAX_PLACES = 64

/** How a peer is connected. */
export interface PeerLink {
  readonly host: string
  readonly port: number
  readonly isOutbound: boolean
}

export interface DataPlaneDeps {
  readonly clock: Clock
  readonly log: MeshLog
  readonly tasks: Tasks
  readonly carrier: DataCarrier
  /** SHA-256 of our own certificate. */
  readonly certificate: Uint8Array
  /** The connection with a peer; undefined when there is none. */
  readonly linkOf: (peer: PeerId) => PeerLink | undefined
  readonly ask: (peer: PeerId, message: DataAsk, signal: AbortSignal) => Promise<DataAnswer>
}

interface Remote {
  /** `host port` of each address that it says it listens at. */
  readonly listens: Set<string>
  state: 'unknown' | 'asking' | 'ready'
  target: DataTarget | undefined
  askAt: number
  /** Somebody wanted one before anything was known of the peer. */
  wanted: boolean
}

type Extra = Pick<ChunkRequestMessage, 'waitMs' | 'grant'>
export type FetchByStream = (
  peer: PeerId,
  request: ChunkRequest,
  extra: Extra,
  options: FetchOptions,
) => Promise<FetchedChunk>

export class DataPlane {
  readonly #deps: DataPlaneDeps
  readonly #remotes = new Map<PeerId, Remote>()
  #ports: readonly number[] = []
  #fetched = 0

  constructor(deps: DataPlaneDeps) {
    this.#deps = deps
  }

  /** Chunks that came over data connections. */
  get fetched(): number {
    return this.#fetched
  }

  async start(hosts: readonly string[]): Promise<void> {
    this.#ports = await this.#deps.carrier.start(hosts)
  }

  async stop(): Promise<void> {
    this.#remotes.clear()
    await this.#deps.carrier.stop()
  }

  /** @param listens `host port` of the addresses that the peer gave for itself */
  identified(peer: PeerId, listens: readonly string[]): void {
    const remote = this.#remote(peer)
    remote.listens.clear()
    for (const place of listens.slice(0, MAX_PLACES)) remote.listens.add(place)
    if (remote.wanted && remote.state === 'unknown') this.#startFinding(peer, remote)
  }

  /** The admitted connection is gone, and with it all others. */
  disconnected(peer: PeerId): void {
    this.#remotes.delete(peer)
    this.#deps.carrier.cut(peer)
  }

  /** An admitted peer asks where to connect to, and says by which certificate it is known. */
  answer(peer: PeerId, ask: DataAsk): DataAnswer {
    const isDirect = this.#isDirect(peer)
    if (isDirect) this.#deps.carrier.admit(peer, ask.certificate)
    return { certificate: this.#deps.certificate, ports: isDirect ? [...this.#ports] : [] }
  }

  /** Fetches by a data connection where there is a way, else by a stream; looks for a way meanwhile. */
  async fetch(
    peer: PeerId,
    request: ChunkRequest,
    extra: Extra,
    options: FetchOptions,
    byStream: FetchByStream,
  ): Promise<FetchedChunk> {
    const remote = this.#remote(peer)
    if (remote.state === 'ready' && remote.target !== undefined && this.#deps.carrier.takes(request.into)) {
      try {
        const fetched = await this.#deps.carrier.fetch(peer, remote.target, request, extra, options)
        this.#fetched++
        return fetched
      } catch (error) {
        if (options.signal.aborted || !(isNoWay(error) || isLostLane(error))) throw error
        if (isNoWay(error)) this.#failed(peer, remote, AGAIN_MS, error)
      }
    } else if (remote.state === 'unknown') {
      remote.wanted = true
      if (this.#deps.clock.now() >= remote.askAt) this.#startFinding(peer, remote)
    }
    return byStream(peer, request, extra, options)
  }

  #startFinding(peer: PeerId, remote: Remote): void {
    remote.state = 'asking'
    this.#deps.tasks.run('find a data connection', (signal) => this.#find(peer, remote, signal))
  }

  async #find(peer: PeerId, remote: Remote, signal: AbortSignal): Promise<void> {
    const { ask, carrier } = this.#deps
    try {
      const host = this.#deps.linkOf(peer)?.host
      if (host === undefined || !this.#isDirect(peer)) return this.#failed(peer, remote, SOON_MS)
      const { certificate, ports } = await ask(peer, { certificate: this.#deps.certificate }, signal)
      if (ports.length === 0) return this.#failed(peer, remote, SOON_MS)
      const target = { host, ports, certificate }
      await carrier.probe(peer, target, signal)
      // It went, and perhaps came back, while we were looking.
      if (this.#remotes.get(peer) !== remote) return carrier.cut(peer)
      remote.target = target
      remote.state = 'ready'
    } catch (error) {
      if (!signal.aborted) this.#failed(peer, remote, AGAIN_MS, error)
    }
  }

  #failed(peer: PeerId, remote: Remote, againMs: number, error?: unknown): void {
    remote.state = 'unknown'
    remote.askAt = this.#deps.clock.now() + againMs
    if (error !== undefined)
      this.#deps.log('debug', 'no data connection with a peer', { peer, reason: messageOf(error) })
  }

  /** A peer that we dialled at another place than it listens at stands behind something that may not let us through. */
  #isDirect(peer: PeerId): boolean {
    const link = this.#deps.linkOf(peer)
    const listens = this.#remotes.get(peer)?.listens
    if (link === undefined || listens === undefined) return false
    if (link.isOutbound) return listens.has(`${link.host} ${link.port}`)
    for (const place of listens) if (place.startsWith(`${link.host} `)) return true
    return false
  }

  #remote(peer: PeerId): Remote {
    let remote = this.#remotes.get(peer)
    if (remote === undefined) {
      remote = {
        listens: new Set(),
        state: 'unknown',
        target: undefined,
        askAt: Number.NEGATIVE_INFINITY,
        wanted: false,
      }
      this.#remotes.set(peer, remote)
    }
    return remote
  }
}
