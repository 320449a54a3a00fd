// Tells neighbours, one by one, what this host has stored and what it is fetching from the origin. At once after a silence, then in
// batches; what comes up while a neighbour is being told goes into the next. Decides nothing.
import { toRuns } from '@shoal/protocol/chunks.ts'
import { isAbort, messageOf } from '@shoal/protocol/errors.ts'
import type { BlobId, PeerId } from '@shoal/protocol/ids.ts'
import type { Tell } from '@shoal/protocol/messages.ts'
import type { Tasks } from '@shoal/protocol/service.ts'
import type { Clock } from '@shoal/protocol/time.ts'
import type { Log } from '../log.ts'
import type { Mesh } from '../net/mesh.ts'
import { tellGapMs } from '../plan/gossip-interval.ts'
import type { Joined } from './swarm-blob.ts'

/** Claims that one tell carries. */
const MAX_CLAIMS = 256

export interface NeighbourTellsDeps {
  readonly mesh: Pick<Mesh, 'tell' | 'isConnected'>
  readonly clock: Clock
  readonly log: Log
  readonly line: () => number
  readonly joined: ReadonlyMap<BlobId, Joined>
}

type Entry = Tell['blobs'][number]

export class NeighbourTells {
  readonly #deps: NeighbourTellsDeps
  /** Neighbours that are being told something right now. */
  readonly #telling = new Set<PeerId>()
  /** Blobs that no longer arrive here, by neighbours that have not been told yet. */
  readonly #left = new Map<PeerId, Entry[]>()
  #tasks: Tasks | undefined
  #cancel: (() => void) | undefined
  #flushedAt = Number.NEGATIVE_INFINITY

  constructor(deps: NeighbourTellsDeps) {
    this.#deps = deps
  }

  start(tasks: Tasks): void {
    this.#tasks = tasks
  }

  stop(): void {
    this.#cancel?.()
    this.#cancel = undefined
    this.#tasks = undefined
    this.#left.clear()
  }

  forget(peer: PeerId): void {
    this.#left.delete(peer)
  }

  /** There is news. */
  soon(): void {
    if (this.#cancel !== undefined || this.#tasks === undefined) return
    const { clock } = this.#deps
    const delayMs = Math.max(0, this.#flushedAt + this.#gapMs() - clock.now())
    this.#cancel = clock.after(delayMs, () => {
      this.#cancel = undefined
      this.#flushedAt = clock.now()
      this.#flush()
    })
  }

  #gapMs(): number {
    let most = 0
    for (const { neighbours } of this.#deps.joined.values()) most = Math.max(most, neighbours.count)
    return tellGapMs(most)
  }

  /** A blob no longer arrives here: its neighbours are told. */
  left({ member, neighbours }: Joined, state: 'complete' | 'gone'): void {
    const entry: Entry = { blob: member.blob, geometry: member.geometryText, state, gained: [] }
    for (const host of neighbours.all()) {
      const entries = this.#left.get(host as PeerId) ?? []
      entries.push(entry)
      this.#left.set(host as PeerId, entries)
    }
    this.soon()
  }

  #flush(): void {
    const peers = new Set<PeerId>(this.#left.keys())
    for (const { neighbours } of this.#deps.joined.values())
      for (const host of neighbours.all()) peers.add(host as PeerId)
    for (const peer of peers) if (!this.#telling.has(peer)) this.#tell(peer)
    for (const joined of this.#deps.joined.values()) joined.claimsChanged = false
  }

  #tell(peer: PeerId): void {
    const { joined, mesh } = this.#deps
    if (!mesh.isConnected(peer)) {
      this.#left.delete(peer)
      return
    }
    const entries = [...(this.#left.get(peer) ?? [])]
    this.#left.delete(peer)
    const told: Joined[] = []
    for (const one of joined.values()) {
      const entry = this.#newsOf(one, peer)
      if (entry === undefined) continue
      entries.push(entry)
      told.push(one)
    }
    if (entries.length === 0) return
    this.#telling.add(peer)
    this.#tasks?.run('tell a neighbour', async (signal) => {
      try {
        const cares = await mesh.tell(peer, entries, signal, this.#deps.line())
        if (!cares) for (const { neighbours } of told) neighbours.refused(peer)
      } catch (error) {
        // It may not have heard: told again from the start, which costs little and harms nothing.
        for (const { toldUpTo } of told) toldUpTo.delete(peer)
        if (!isAbort(error))
          this.#deps.log.debug({ peer, reason: messageOf(error) }, 'a neighbour was not told')
      } finally {
        this.#telling.delete(peer)
        if (told.some((one) => this.#newsOf(one, peer, true) !== undefined)) this.soon()
      }
    })
  }

  /** @param peek only whether there is any */
  #newsOf(
    { member, neighbours, gained, toldUpTo, claimsChanged }: Joined,
    peer: PeerId,
    peek = false,
  ): Entry | undefined {
    // Who reads a part takes no share of the origin's chunks, and must not be taken for one who does.
    if (!neighbours.has(peer) || !member.wantsWhole()) return undefined
    const from = toldUpTo.get(peer) ?? 0
    if (from === gained.length && (!claimsChanged || peek) && toldUpTo.has(peer)) return undefined
    if (!peek) toldUpTo.set(peer, gained.length)
    return {
      blob: member.blob,
      geometry: member.geometryText,
      state: 'wanting',
      gained: toRuns(gained.slice(from).toSorted((a, b) => a - b)),
      claimed: member.originClaims().slice(0, MAX_CLAIMS),
    }
  }
}
