// Port: the other hosts. Who is there, what they hold, asking them for chunks and manifests, telling them what we hold.
// Only admitted peers (mesh secret proven on the connection) ever appear here.
import type { PeerId } from '@shoal/protocol/ids.ts'
import type {
  ChunkRequestMessage,
  ChunkVoucher,
  GossipHave,
  GossipHealth,
  GossipOrigin,
  HaveAnswer,
  HaveAsk,
  ManifestAnswer,
  ManifestAsk,
  Tell,
  TurnAnswer,
  TurnAsk,
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
 * may still refer to `bytes`, so they must not change before `reuse` is called; instead of it comes `lost`, when nobody can tell.
 */
export interface ChunkReply {
  readonly status: 'ok' | 'lacks' | 'busy' | 'later' | 'refused' | 'bad'
  /** Requests that this host serves or that wait here. */
  readonly line?: number
  readonly bytes?: Uint8Array
  readonly voucher?: ChunkVoucher | undefined
  readonly release?: () => void
  /** Nothing refers to `bytes` any more. */
  readonly reuse?: () => void
  readonly lost?: () => void
  /** `bytes` turned out not to be what `voucher` says. */
  readonly rotten?: () => void
}

/** What this host answers when peers ask. Each gets the asking peer's proven id. */
export interface MeshHandlers {
  /** @param proves the caller compares `bytes` with the digest of `voucher` before it sends any, and says when they are `rotten` */
  chunk(
    peer: PeerId,
    request: ChunkRequestMessage,
    signal: AbortSignal,
    proves?: boolean,
  ): Promise<ChunkReply>
  have(peer: PeerId, ask: HaveAsk, signal: AbortSignal): Promise<HaveAnswer>
  manifest(peer: PeerId, ask: ManifestAsk, signal: AbortSignal): Promise<ManifestAnswer>
  /**
   * A peer tells what it has stored. A hint. Called up to 50 times a second for each peer, so it must be cheap.
   * @returns false when none of it is of interest (any more)
   */
  told(peer: PeerId, message: Tell): boolean
}

/** What this host answers as the keeper of turns. May take as long as a turn lasts. */
export type AnswerTurn = (peer: PeerId, ask: TurnAsk, signal: AbortSignal) => Promise<TurnAnswer>

/** What the mesh tells us unasked. */
export interface MeshListener {
  peerUp(peer: PeerId): void
  peerDown(peer: PeerId): void
  /** A valid, new announcement. A hint: never proof that the peer holds anything. */
  have(peer: PeerId, announcement: GossipHave): void
  /** What an origin told another host. A hint. */
  origin?(peer: PeerId, word: GossipOrigin): void
}

/** What a host tells about itself, before it is stamped. */
export type HealthFigures = Omit<GossipHealth, 'sequence' | 'at' | 'expires'>

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
  askTurn(peer: PeerId, ask: TurnAsk, signal: AbortSignal): Promise<TurnAnswer>
  /**
   * Tells one peer what this host has stored of blobs since it last told it. One tell to a peer at a time: what comes up
   * meanwhile is the caller's to put into the next. After an error the peer may have heard it or not.
   * @param line requests that this host serves or that wait here
   * @returns false when none of it is of interest to the peer (any more)
   * @throws ShoalError `peer-busy` while another tell is under way | `peer-unreachable` | `peer-timeout` | `bad-message`
   */
  tell(peer: PeerId, blobs: Tell['blobs'], signal: AbortSignal, line?: number): Promise<boolean>
  /** Gossips; never throws for lack of peers. `sequence`, `at` and `expires` are filled in. */
  announce(blobs: GossipHave['blobs']): Promise<void>
  /** Hosts of the mesh as far as this one knows, itself included: connected, or heard of lately. */
  hostsKnown(): number
  /** @param lifetimeMs how long others may take it for true, at most `GOSSIP_MAX_LIFETIME_MS` */
  publishHealth(health: HealthFigures, lifetimeMs: number): Promise<void>
  /** Gossips what an origin told this host. Never throws for lack of peers. */
  publishOrigin(budgets: GossipOrigin['budgets']): Promise<void>
  /** Disconnects the peer and refuses it for `durationMs`. */
  ban(peer: PeerId, durationMs: number, reason: string): void
  /** Dials a multiaddr that includes a peer id, or only an address. @throws ShoalError `peer-unreachable` */
  dial(address: string, signal: AbortSignal): Promise<PeerId>
}
