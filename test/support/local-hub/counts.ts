// What left the local Hub: requests by kind, and for every file which bytes, how often and when. Only counts.
import type { RouteKind } from './route.ts'

export type ServerName = 'hub' | 'cdn' | 'mirror'

export interface SeenRequest {
  readonly at: number
  readonly server: ServerName
  readonly kind: RouteKind
  readonly method: string
  readonly url: string
  readonly repo: string
  readonly path: string
  readonly range: string | undefined
  /** Name of the user whose token was sent; `?` for a token nobody has. */
  readonly user: string | undefined
  status: number
  /** Bytes of a file sent in answer. */
  bytes: number
  /** Set when the answer has ended, well or not. */
  endedAt: number | undefined
}

export interface FileCounts {
  /** Bytes of the file's content that were handed to a socket, in all. */
  readonly bytes: number
  readonly requests: number
  /** Unix milliseconds. */
  readonly firstByteAt: number | undefined
  readonly lastByteAt: number | undefined
  /** Parts [start, end) in the order they were sent; one part an answer. */
  readonly parts: readonly (readonly [start: number, end: number])[]
}

/** How often the bytes of one file left: 0 means some (or all) never did. `mean` is bytes sent / size. */
export interface Copies {
  readonly min: number
  readonly max: number
  readonly mean: number
}

const MAX_REQUESTS = 200_000

interface MutableFileCounts {
  bytes: number
  requests: number
  firstByteAt: number | undefined
  lastByteAt: number | undefined
  readonly parts: [number, number][]
}

export class Counts {
  #requests: SeenRequest[] = []
  #files = new Map<string, MutableFileCounts>()
  #bytes = { hub: 0, cdn: 0, mirror: 0 }
  #tokenLeaks = 0

  /** Bytes of file contents that left, from all servers. Metadata is not counted. */
  get bytes(): number {
    return this.#bytes.hub + this.#bytes.cdn + this.#bytes.mirror
  }

  bytesFrom(server: ServerName): number {
    return this.#bytes[server]
  }

  /** Times an Authorization header reached the CDN. */
  get tokenLeaks(): number {
    return this.#tokenLeaks
  }

  /** Number of requests: all, or of one kind. */
  requests(kind?: RouteKind): number {
    return kind === undefined
      ? this.#requests.length
      : this.#requests.filter((one) => one.kind === kind).length
  }

  /** Every request since the start (or the last reset), in order; at most 200,000 are kept. */
  get seen(): readonly SeenRequest[] {
    return this.#requests
  }

  file(oid: string): FileCounts {
    return (
      this.#files.get(oid) ?? {
        bytes: 0,
        requests: 0,
        firstByteAt: undefined,
        lastByteAt: undefined,
        parts: [],
      }
    )
  }

  copies(oid: string, sizeBytes: number): Copies {
    const { bytes, parts } = this.file(oid)
    const edges = parts.flatMap(([start, end]) => [
      { at: start, step: 1 },
      { at: end, step: -1 },
    ])
    edges.sort((a, b) => a.at - b.at || a.step - b.step)
    let min = Number.POSITIVE_INFINITY
    let max = 0
    let depth = 0
    let reached = 0
    for (const { at, step } of edges) {
      if (at > reached) {
        min = Math.min(min, depth)
        max = Math.max(max, depth)
        reached = at
      }
      depth += step
    }
    if (reached < sizeBytes) min = 0
    return { min: Number.isFinite(min) ? min : 0, max, mean: sizeBytes === 0 ? 0 : bytes / sizeBytes }
  }

  reset(): void {
    this.#requests = []
    this.#files = new Map()
    this.#bytes = { hub: 0, cdn: 0, mirror: 0 }
    this.#tokenLeaks = 0
  }

  noteRequest(request: SeenRequest): void {
    if (this.#requests.length < MAX_REQUESTS) this.#requests.push(request)
  }

  noteTokenLeak(): void {
    this.#tokenLeaks += 1
  }

  /** Starts a part of a file; the returned function is told of every piece handed to the socket. */
  startPart(
    server: ServerName,
    oid: string,
    start: number,
    request: SeenRequest,
  ): (bytes: number, at: number) => void {
    const counts = this.#files.get(oid) ?? {
      bytes: 0,
      requests: 0,
      firstByteAt: undefined,
      lastByteAt: undefined,
      parts: [],
    }
    this.#files.set(oid, counts)
    counts.requests += 1
    const part: [number, number] = [start, start]
    return (bytes, at) => {
      if (part[1] === start) counts.parts.push(part)
      part[1] += bytes
      counts.bytes += bytes
      counts.firstByteAt ??= at
      counts.lastByteAt = at
      request.bytes += bytes
      this.#bytes[server] += bytes
    }
  }
}
