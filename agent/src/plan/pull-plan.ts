// PURE. What a pull would do: which bytes are here, which could come from near and far peers, which only from the origin, how long that
// takes at rates that were measured, and whether it fits on the disk. Works on what it is told; asks nobody and fetches nothing.
import { type ChunkGeometry, type ChunkMap, chunkLength } from '@shoal/protocol/chunks.ts'

export interface PlannedFile {
  readonly path: string
  readonly blob: string
  readonly geometry: ChunkGeometry
  /** What of it is on this disk. */
  readonly held: ChunkMap | 'all' | undefined
  /** Room on the disk is promised to it already, because it is arriving now. */
  readonly promised: boolean
  /** What peers say they hold; undefined when they were not asked about this file. */
  readonly peers: readonly PeerHolding[] | undefined
}

export interface PeerHolding {
  /** Of this host's site. */
  readonly near: boolean
  readonly holds: ChunkMap | 'all'
}

/** Bytes a second; undefined: never measured, and no limit says it either. */
export interface KnownRates {
  readonly origin: number | undefined
  readonly peers: number | undefined
  /** Limits of this host; undefined: none. */
  readonly originLimit: number | undefined
  readonly downLimit: number | undefined
}

export interface DiskRoom {
  /** Free for this agent beyond what is promised to others. */
  readonly freeBytes: number
  readonly limitBytes: number | undefined
}

export interface BytesBySource {
  readonly disk: number
  readonly near: number
  readonly far: number
  readonly origin: number
}

export interface PullPlan {
  readonly files: number
  readonly filesHere: number
  readonly totalBytes: number
  readonly bytes: BytesBySource
  /** Of `bytes.origin`: nobody was asked whether peers have them. */
  readonly notAskedBytes: number
  readonly peersAsked: number
  readonly time: PlannedTime
  readonly disk: DiskFit
  /** Blobs that would be removed to make room. Always empty: this version never removes anything by itself. */
  readonly evicted: readonly string[]
}

export type PlannedTime =
  | { readonly known: true; readonly ms: number }
  | { readonly known: false; readonly because: string }

export interface DiskFit extends DiskRoom {
  readonly neededBytes: number
  /** 0 when it fits. */
  readonly missingBytes: number
}

/** @param peersAsked how many peers were asked at all */
export function planPull(
  files: readonly PlannedFile[],
  facts: { readonly rates: KnownRates; readonly room: DiskRoom; readonly peersAsked: number },
): PullPlan {
  const sums = { disk: 0, near: 0, far: 0, origin: 0 }
  let notAskedBytes = 0
  let neededBytes = 0
  let filesHere = 0
  // The same content under two names is fetched once.
  for (const file of new Map(files.map((one) => [one.blob, one])).values()) {
    const bytes = bytesOf(file)
    sums.disk += bytes.disk
    sums.near += bytes.near
    sums.far += bytes.far
    sums.origin += bytes.origin
    const missing = bytes.near + bytes.far + bytes.origin
    if (file.peers === undefined) notAskedBytes += missing
    if (!file.promised) neededBytes += missing
  }
  for (const file of files) if (file.held === 'all' || file.geometry.chunkCount === 0) filesHere++
  const { room, rates, peersAsked } = facts
  return {
    files: files.length,
    filesHere,
    totalBytes: files.reduce((sum, { geometry }) => sum + geometry.sizeBytes, 0),
    bytes: sums,
    notAskedBytes: peersAsked === 0 ? 0 : notAskedBytes,
    peersAsked,
    time: timeOf(sums, rates),
    disk: { ...room, neededBytes, missingBytes: Math.max(0, neededBytes - room.freeBytes) },
    evicted: [],
  }
}

/** Room for more, of what the store says of itself. Pure. */
export function roomOf(usage: {
  readonly usedBytes: number
  readonly reservedBytes: number
  readonly limitBytes: number | undefined
  readonly freeBytes: number
}): DiskRoom {
  const { usedBytes, reservedBytes, limitBytes, freeBytes } = usage
  const within = limitBytes === undefined ? freeBytes : limitBytes - usedBytes - reservedBytes
  return { freeBytes: Math.max(0, Math.min(freeBytes, within)), limitBytes }
}

function bytesOf({ geometry, held, peers = [] }: PlannedFile): BytesBySource {
  const { sizeBytes, chunkCount } = geometry
  if (held === 'all') return { disk: sizeBytes, near: 0, far: 0, origin: 0 }
  const near = peers.filter((peer) => peer.near)
  const far = peers.filter((peer) => !peer.near)
  if (held === undefined || held.held === 0) {
    // The usual case, without looking at every chunk.
    if (near.some(({ holds }) => holds === 'all')) return { disk: 0, near: sizeBytes, far: 0, origin: 0 }
    if (peers.length === 0) return { disk: 0, near: 0, far: 0, origin: sizeBytes }
  }
  const sums = { disk: 0, near: 0, far: 0, origin: 0 }
  for (let index = 0; index < chunkCount; index++) {
    const length = chunkLength(geometry, index)
    if (held?.has(index) === true) sums.disk += length
    else if (near.some((peer) => holdsChunk(peer, index))) sums.near += length
    else if (far.some((peer) => holdsChunk(peer, index))) sums.far += length
    else sums.origin += length
  }
  return sums
}

function holdsChunk({ holds }: PeerHolding, index: number): boolean {
  return holds === 'all' || holds.has(index)
}

/**
 * The slowest of: the origin's part at the origin's rate, the peers' part at the peers' rate, everything at this host's limit. The three
 * run at the same time, and each is a lower bound of its own.
 */
function timeOf(bytes: BytesBySource, rates: KnownRates): PlannedTime {
  const peerBytes = bytes.near + bytes.far
  if (peerBytes + bytes.origin === 0) return { known: true, ms: 0 }
  const unknown: string[] = []
  const part = (size: number, rate: number | undefined, name: string): number => {
    if (size === 0) return 0
    if (rate === undefined) unknown.push(name)
    return rate === undefined ? 0 : (size * 1000) / rate
  }
  const ms = Math.max(
    part(bytes.origin, limited(rates.origin, rates.originLimit), 'the origin'),
    part(peerBytes, rates.peers, 'peers'),
    part(peerBytes + bytes.origin, rates.downLimit ?? Number.POSITIVE_INFINITY, 'this host'),
  )
  if (unknown.length === 0) return { known: true, ms: Math.ceil(ms) }
  return {
    known: false,
    because: `nothing has come from ${unknown.join(' or ')} yet since the agent started`,
  }
}

/** A limit says how fast at most, not how fast. */
function limited(rate: number | undefined, limit: number | undefined): number | undefined {
  return rate === undefined || limit === undefined ? rate : Math.min(rate, limit)
}
