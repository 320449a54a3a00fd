// The Mesh port with peers that exist only in memory and behave as the test says. Keeps what was asked, announced and banned.
import { type HostIdentity, newIdentity } from '@shoal/agent/net/identity.ts'
import type { Mesh, MeshListener, PeerStatus } from '@shoal/agent/net/mesh.ts'
import type { ChunkRequest, FetchedChunk, FetchOptions } from '@shoal/agent/sources/source.ts'
import { ChunkMap } from '@shoal/protocol/chunks.ts'
import { ShoalError } from '@shoal/protocol/errors.ts'
import type { BlobId, PeerId } from '@shoal/protocol/ids.ts'
import type {
  ChunkVoucher,
  GossipHave,
  HaveAnswer,
  HaveAsk,
  ManifestAnswer,
  ManifestAsk,
  ReadGrant,
  Tell,
  TurnAnswer,
} from '@shoal/protocol/messages.ts'
import { silence } from './fake-origin.ts'

export interface PeerCall {
  readonly request: ChunkRequest
  readonly waitMs: number
  readonly grant: ReadGrant | undefined
  readonly options: FetchOptions
  /** Fills the whole buffer and tells of it. */
  fill(bytes: Uint8Array): void
}

/** Answers one request for a chunk: fills the buffer and gives a voucher, or throws. */
export type PeerManner = (call: PeerCall) => Promise<ChunkVoucher | undefined>

export interface FakePeerOptions {
  readonly chunk: PeerManner
  /** Its word on what it holds; by default everything. */
  readonly have?: (ask: HaveAsk) => Promise<HaveAnswer> | HaveAnswer
  readonly manifest?: (ask: ManifestAsk) => Promise<ManifestAnswer>
  /** Whether it cares for what it is told; by default it does. */
  readonly told?: (blobs: Tell['blobs']) => Promise<boolean> | boolean
  readonly identity?: HostIdentity
}

export interface FakePeer {
  readonly identity: HostIdentity
  readonly peer: PeerId
  readonly options: FakePeerOptions
  /** Chunks asked of it, in order. */
  readonly asked: number[]
  readonly haveAsks: HaveAsk[]
  /** What it was told, in order. */
  readonly told: Tell['blobs'][]
  banned: boolean
}

export const holdsAll: HaveAnswer = { state: 'complete', wanting: false, claimed: [] }

export function holdsOnly(chunkCount: number, indices: readonly number[], wanting = false): HaveAnswer {
  const map = new ChunkMap(chunkCount)
  for (const index of indices) map.add(index)
  return { state: 'partial', wanting, held: map.encode(), claimed: [] }
}

export class FakeMesh implements Mesh {
  readonly name = 'fake mesh'
  readonly self: PeerId
  readonly announced: GossipHave['blobs'][number][] = []
  readonly #peers = new Map<PeerId, FakePeer>()
  readonly #listeners = new Set<MeshListener>()

  constructor(self: PeerId) {
    this.self = self
  }

  /** A peer connects. */
  add(options: FakePeerOptions): FakePeer {
    const identity = options.identity ?? newIdentity()
    const peer: FakePeer = {
      identity,
      peer: identity.peer,
      options,
      asked: [],
      haveAsks: [],
      told: [],
      banned: false,
    }
    this.#peers.set(peer.peer, peer)
    for (const { peerUp } of this.#listeners) peerUp(peer.peer)
    return peer
  }

  drop(peer: PeerId): void {
    if (!this.#peers.delete(peer)) return
    for (const { peerDown } of this.#listeners) peerDown(peer)
  }

  /** A valid announcement of a host is heard, connected or not. */
  gossip(author: PeerId, blobs: GossipHave['blobs']): void {
    for (const { have } of this.#listeners) have(author, { sequence: 1, at: 1, expires: 2, blobs })
  }

  get listeners(): number {
    return this.#listeners.size
  }

  wanting(blob: BlobId): boolean {
    return this.announced.some((one) => one.blob === blob && one.state === 'wanting')
  }

  async start(): Promise<void> {}
  async stop(): Promise<void> {}
  addresses(): readonly string[] {
    return []
  }

  peers(): readonly PeerStatus[] {
    return [...this.#peers.keys()].map((peer) => ({
      peer,
      addresses: [],
      direction: 'outbound',
      connectedSince: 0,
      roundTripMs: undefined,
      health: undefined,
      bytesReceived: 0,
      bytesSent: 0,
    }))
  }

  isConnected(peer: PeerId): boolean {
    return this.#peers.has(peer)
  }

  listen(listener: MeshListener): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  async fetchChunk(
    id: PeerId,
    request: ChunkRequest,
    extra: { readonly waitMs: number; readonly grant?: ReadGrant | undefined },
    options: FetchOptions,
  ): Promise<FetchedChunk> {
    const peer = this.#find(id)
    peer.asked.push(request.index)
    const fill = (bytes: Uint8Array) => {
      request.into.set(bytes)
      options.onProgress(bytes.byteLength)
    }
    return {
      voucher: await peer.options.chunk({
        request,
        waitMs: extra.waitMs,
        grant: extra.grant,
        options,
        fill,
      }),
    }
  }

  async askHave(id: PeerId, ask: HaveAsk, signal: AbortSignal): Promise<HaveAnswer> {
    const peer = this.#find(id)
    peer.haveAsks.push(ask)
    const answer = (await Promise.race([peer.options.have?.(ask), silence(signal)])) ?? holdsAll
    return answer.wanting && ask.subscribe === true ? { ...answer, subscribed: true } : answer
  }

  async askManifest(id: PeerId, ask: ManifestAsk, signal: AbortSignal): Promise<ManifestAnswer> {
    const answer = this.#find(id).options.manifest?.(ask)
    return (await Promise.race([answer, silence(signal)])) ?? { found: false }
  }

  async tell(id: PeerId, blobs: Tell['blobs'], signal: AbortSignal): Promise<boolean> {
    const peer = this.#find(id)
    peer.told.push(blobs)
    return (await Promise.race([peer.options.told?.(blobs), silence(signal)])) ?? true
  }

  async announce(blobs: GossipHave['blobs']): Promise<void> {
    this.announced.push(...blobs)
  }

  async askTurn(peer: PeerId): Promise<TurnAnswer> {
    throw new ShoalError('peer-unreachable', `${peer} keeps no turns`)
  }

  hostsKnown(): number {
    return this.peers().length + 1
  }

  async publishHealth(): Promise<void> {}

  async publishOrigin(): Promise<void> {}

  ban(id: PeerId): void {
    const peer = this.#peers.get(id)
    if (peer === undefined) return
    peer.banned = true
    this.drop(id)
  }

  async dial(address: string): Promise<PeerId> {
    throw new ShoalError('peer-unreachable', `nobody is at ${address}`)
  }

  #find(id: PeerId): FakePeer {
    const peer = this.#peers.get(id)
    if (peer === undefined) throw new ShoalError('peer-unreachable', `not connected with ${id}`)
    return peer
  }
}
