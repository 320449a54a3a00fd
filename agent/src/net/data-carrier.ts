// Port: what moves chunks over data connections. In this thread (local-carrier.ts) or in worker threads (lane-carrier.ts). Is told
// whom to let in and where others are; finds out nothing itself.
import { ShoalError } from '@shoal/protocol/errors.ts'
import type { PeerId } from '@shoal/protocol/ids.ts'
import type { ChunkRequestMessage } from '@shoal/protocol/messages.ts'
import type { ChunkRequest, FetchedChunk, FetchOptions } from '../sources/source.ts'

/** Where a host takes data connections. */
export interface DataTarget {
  readonly host: string
  /** Any of them will do. */
  readonly ports: readonly number[]
  /** SHA-256 of the certificate that it must own the key of. */
  readonly certificate: Uint8Array
}

export interface DataCarrier {
  /**
   * Listens on every host; a host that cannot be listened on is logged and left out.
   * @returns the ports, to be told to peers
   */
  start(hosts: readonly string[]): Promise<readonly number[]>
  stop(): Promise<void>
  /** Connections by this certificate are the peer's from now on. */
  admit(peer: PeerId, certificate: Uint8Array): void
  /** Cuts every connection with the peer, and lets it in no more. */
  cut(peer: PeerId): void
  /** Connects once, to find out whether there is a way. @throws ShoalError `peer-unreachable` */
  probe(peer: PeerId, target: DataTarget, signal: AbortSignal): Promise<void>
  /** Whether it can fill this buffer. */
  takes(into: Uint8Array): boolean
  /** @throws ShoalError as `Mesh.fetchChunk` does; one of which {@link isNoWay} is true when no connection could be made */
  fetch(
    peer: PeerId,
    target: DataTarget,
    request: ChunkRequest,
    extra: Pick<ChunkRequestMessage, 'waitMs' | 'grant'>,
    options: FetchOptions,
  ): Promise<FetchedChunk>
}

/** The lane that was fetching died: nothing is wrong with the peer. */
export function lostLane(): ShoalError {
  return new ShoalError('peer-busy', 'the thread that was fetching the chunk died', { step: 'lane' })
}

export function isLostLane(error: unknown): boolean {
  return error instanceof ShoalError && error.details.step === 'lane'
}

/** No data connection could be made: the peer itself may be well. */
export function noWay(peer: string, reason: string): ShoalError {
  return new ShoalError('peer-unreachable', `no data connection with ${peer}: ${reason}`, { step: 'connect' })
}

export function isNoWay(error: unknown): boolean {
  return error instanceof ShoalError && error.details.step === 'connect'
}
