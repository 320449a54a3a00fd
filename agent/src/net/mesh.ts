// Port: the other hosts. Who is there, what they hold, asking them for chunks and manifests, telling them what we hold.
// Only admitted peers (mesh secret proven on the connection) ever appear here.
import type { PeerId } from '@shoal/protocol/ids.ts'
import type {
  ChunkRequestMessage,
  ChunkVoucher,
  GossipHave,
  GossipHealth,
  HaveAnswer,
  HaveAsk,
  ManifestAnswer,
  ManifestAsk,
} from '@shoal/protocol/messages.ts'
import type { Service } from '@shoal/protocol/service.ts'
import type { ChunkRequest, FetchedChunk, FetchOptions } from '../sources/source.ts'

export interface PeerStatus {
  readonly peer: PeerId
  readonly addresses: readonly string[]
  readonly direction: 'inbound' | 'outbound'
  readonly connectedSince: number
  readonly roundTripMs: number | undefined
  readonly health: GossipHealth | undefined
  readonly bytesReceived: number
  readonly bytesSent: number
}

/**
 * Answer to a peer's chunk request; `bytes` exactly the chunk, with status `ok` only. `release` is called once, when the
 * last byte has been handed to the connection or the request has failed: it frees a place, not the memory. The connection
 * may still refer to `bytes`, so they must never change.
 */
export interface ChunkReply {
  readonly status: 'ok' | 'lacks' | 'busy' | 'refused' | 'bad'
  readonly bytes?: Uint8Array
  readonly voucher?: ChunkVoucher | undefined
  readonly release?: () => void
}

/** What this host answers when peers ask. Each gets the asking peer's proven id. */
export interface MeshHandlers {
  chunk(peer: PeerId, request: ChunkRequestMessage, signal: AbortSignal): Promise<ChunkReply>
  have(peer: PeerId, ask: HaveAsk, signal: AbortSignal): Promise<HaveAnswer>
  manifest(peer: PeerId, ask: ManifestAsk, signal: AbortSignal): Promise<ManifestAnswer>
}

/** What the mesh tells us unasked. */
export interface MeshListener {
  peerUp(peer: PeerId): void
  peerDown(peer: PeerId): void
  /** A valid, new announcement. A hint: never proof that the peer holds anything. */
  have(peer: PeerId, announcement: GossipHave): void
}

export interface Mesh extends Service {
  readonly self: PeerId
  /** Multiaddrs with our peer id that others can dial. Empty before start. */
  addresses(): readonly string[]
  peers(): readonly PeerStatus[]
  isConnected(peer: PeerId): boolean
  listen(listener: MeshListener): () => void
  /** @throws ShoalError `peer-timeout` | `peer-unreachable` | `peer-lacks-chunk` | `peer-busy` | `peer-refused` | `bad-message` */
  fetchChunk(
    peer: PeerId,
    request: ChunkRequest,
    extra: Pick<ChunkRequestMessage, 'waitMs' | 'grant'>,
    options: FetchOptions,
  ): Promise<FetchedChunk>
  askHave(peer: PeerId, ask: HaveAsk, signal: AbortSignal): Promise<HaveAnswer>
  askManifest(peer: PeerId, ask: ManifestAsk, signal: AbortSignal): Promise<ManifestAnswer>
  /** Gossips; never throws for lack of peers. `sequence`, `at` and `expires` are filled in. */
  announce(blobs: GossipHave['blobs']): Promise<void>
  publishHealth(health: Omit<GossipHealth, 'sequence' | 'at' | 'expires'>): Promise<void>
  /** Disconnects the peer and refuses it for `durationMs`. */
  ban(peer: PeerId, durationMs: number, reason: string): void
  /** Dials a multiaddr that includes a peer id, or only an address. @throws ShoalError `peer-unreachable` */
  dial(address: string, signal: AbortSignal): Promise<PeerId>
}
