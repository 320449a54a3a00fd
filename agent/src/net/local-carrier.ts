// Data connections of one thread: listens, lets in whom it is told to, keeps a few connections to each peer, serves and fetches chunks
// on them. The same in the main thread and in a lane.
import { messageOf, ShoalError } from '@shoal/protocol/errors.ts'
import type { PeerId } from '@shoal/protocol/ids.ts'
import type { ChunkRequestMessage } from '@shoal/protocol/messages.ts'
import { abortError, type Clock } from '@shoal/protocol/time.ts'
import type { Pace } from '../limits-port.ts'
import type { ChunkRequest, FetchedChunk, FetchOptions } from '../sources/source.ts'
import type { BytePipe } from './byte-pipe.ts'
import { ChunkClient, MAX_ANSWER_BYTES } from './chunk-client.ts'
import { MAX_UNREAD_REQUEST_BYTES } from './chunk-server.ts'
import { type DataCarrier, type DataTarget, noWay } from './data-carrier.ts'
import {
  connectData,
  type DataCertificate,
  type DataListener,
  digestKey,
  listenForData,
} from './data-socket.ts'
import type { MeshLog } from './mesh-log.ts'
import type { Traffic } from './traffic.ts'

/** Sockets of one peer: what it may use, and as many that are just ending. */
const MAX_SOCKETS_PER_PEER = 16

export interface LocalCarrierDeps {
  readonly clock: Clock
  readonly log: MeshLog
  readonly traffic: Pick<Traffic, 'received'>
  readonly certificate: DataCertificate
  /** Serves chunks on the pipe. */
  readonly serve: (peer: PeerId, pipe: BytePipe) => void
  /** Limit on what all peers send us. */
  readonly pace: Pace | undefined
  readonly noProgressMs: number | undefined
  /** Which of a peer's ports this thread uses. */
  readonly turn?: number
  /** To listen on; without it any free one. */
  readonly port?: number
}

export class LocalCarrier implements DataCarrier {
  readonly #deps: LocalCarrierDeps
  readonly #client: ChunkClient
  readonly #targets = new Map<PeerId, DataTarget>()
  readonly #certificates = new Map<PeerId, string>()
  readonly #peers = new Map<string, PeerId>()
  readonly #inbound = new Map<PeerId, Set<BytePipe>>()
  /** The connection that showed that there is a way. */
  readonly #first = new Map<PeerId, BytePipe>()
  #listeners: DataListener[] = []

  constructor(deps: LocalCarrierDeps) {
    this.#deps = deps
    this.#client = new ChunkClient({
      clock: deps.clock,
      traffic: deps.traffic,
      openPipe: (peer, maxUnreadBytes, signal) => this.#open(peer, maxUnreadBytes, signal),
      noProgressMs: deps.noProgressMs,
      pace: deps.pace,
    })
  }

  async start(hosts: readonly string[]): Promise<readonly number[]> {
    const { certificate, clock, log } = this.#deps
    const accept = (digest: string, pipe: BytePipe) => this.#accept(digest, pipe)
    for (const host of hosts) {
      try {
        // The same port on all of them: peers are told one.
        const port = this.#listeners[0]?.port ?? this.#deps.port ?? 0
        this.#listeners.push(
          await listenForData({ host, port }, certificate, MAX_UNREAD_REQUEST_BYTES, clock, accept),
        )
      } catch (error) {
        log('warn', 'no data connections here', { host, reason: messageOf(error) })
      }
    }
    return this.#listeners.slice(0, 1).map(({ port }) => port)
  }

  async stop(): Promise<void> {
    const listeners = this.#listeners
    this.#listeners = []
    // Peers that we asked need not have asked us.
    for (const peer of [...this.#certificates.keys(), ...this.#first.keys()]) this.cut(peer)
    this.#client.closeAll()
    await Promise.all(listeners.map((listener) => listener.close()))
  }

  admit(peer: PeerId, certificate: Uint8Array): void {
    const key = digestKey(certificate)
    // Whoever names another's certificate has not its key, and gets nowhere; but it shall not lock the other out.
    if ((this.#peers.get(key) ?? peer) !== peer) return
    const old = this.#certificates.get(peer)
    if (old !== undefined) this.#peers.delete(old)
    this.#certificates.set(peer, key)
    this.#peers.set(key, peer)
  }

  cut(peer: PeerId): void {
    const key = this.#certificates.get(peer)
    if (key !== undefined) this.#peers.delete(key)
    this.#certificates.delete(peer)
    this.#targets.delete(peer)
    const gone = new ShoalError('peer-unreachable', `the connection with ${peer} is closed`, { peer })
    this.#first.get(peer)?.abort(gone)
    this.#first.delete(peer)
    this.#client.close(peer)
    for (const pipe of this.#inbound.get(peer) ?? []) pipe.abort(gone)
    this.#inbound.delete(peer)
  }

  takes(): boolean {
    return true
  }

  async probe(peer: PeerId, target: DataTarget, signal: AbortSignal): Promise<void> {
    this.#targets.set(peer, target)
    this.#first.get(peer)?.abort(new ShoalError('aborted', 'a newer one is made'))
    this.#first.set(peer, await this.#connect(peer, target, MAX_ANSWER_BYTES, signal))
  }

  fetch(
    peer: PeerId,
    target: DataTarget,
    request: ChunkRequest,
    extra: Pick<ChunkRequestMessage, 'waitMs' | 'grant'>,
    options: FetchOptions,
  ): Promise<FetchedChunk> {
    this.#targets.set(peer, target)
    return this.#client.fetch(peer, request, extra, options)
  }

  async #open(peer: PeerId, maxUnreadBytes: number, signal: AbortSignal): Promise<BytePipe> {
    const first = this.#first.get(peer)
    this.#first.delete(peer)
    if (first?.usable === true) return first
    const target = this.#targets.get(peer)
    if (target === undefined) throw noWay(peer, 'nobody knows where it is')
    return this.#connect(peer, target, maxUnreadBytes, signal)
  }

  async #connect(
    peer: PeerId,
    { host, ports, certificate }: DataTarget,
    maxUnreadBytes: number,
    signal: AbortSignal,
  ): Promise<BytePipe> {
    const port = ports[(this.#deps.turn ?? 0) % ports.length]
    if (port === undefined) throw noWay(peer, 'it takes none')
    try {
      const to = { host, port, expected: certificate }
      return await connectData(to, this.#deps.certificate, maxUnreadBytes, this.#deps.clock, signal)
    } catch (error) {
      if (signal.aborted) throw abortError(signal)
      throw noWay(peer, messageOf(error))
    }
  }

  #accept(digest: string, pipe: BytePipe): boolean {
    const peer = this.#peers.get(digest)
    if (peer === undefined) return false
    const open = this.#inbound.get(peer) ?? new Set()
    this.#inbound.set(peer, open)
    for (const old of open) if (!old.usable) open.delete(old)
    if (open.size >= MAX_SOCKETS_PER_PEER) return false
    open.add(pipe)
    this.#deps.serve(peer, pipe)
    return true
  }
}
