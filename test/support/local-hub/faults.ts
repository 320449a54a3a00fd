// How the local Hub can be told to misbehave: a fault says which requests it meets and what then goes wrong. Matching only;
// send.ts and server.ts carry it out. A fault is plain JSON but for `onHit`, so other processes can set one too.
import type { ServerName } from './counts.ts'
import type { Route, RouteKind } from './route.ts'

export interface FaultMatch {
  readonly on?: ServerName
  readonly kind?: RouteKind | readonly RouteKind[]
  readonly method?: string
  /** `org/name`, `datasets/org/name`. A CDN request is about content and is met by every repo that has it. */
  readonly repo?: string
  /** Path of the file (on the CDN: any path it has), or a part of the request's URL. */
  readonly path?: string
  /** Only requests with (true) or without (false) a Range header. */
  readonly ranged?: boolean
}

/** All that is set happens. Offsets count bytes of this answer's body unless they say "of the file". */
export interface FaultEffect {
  /** Before the status line. */
  readonly delayMs?: number
  /** Answers this instead. `body` is text. */
  readonly status?: number
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: string
  /** 200 with an HTML page instead. */
  readonly html?: boolean
  /** Answers a redirect there. `self`: to the same URL, a loop. */
  readonly redirectTo?: string
  readonly redirectStatus?: number
  /** TCP reset before the status line. */
  readonly resetBeforeHeaders?: boolean
  readonly resetAfterBytes?: number
  /** Ends the connection in order after so many bytes, whatever was promised. */
  readonly cutAfterBytes?: number
  /** Sends nothing more, for `stallMs` or until the client goes. */
  readonly stallAfterBytes?: number
  readonly stallMs?: number
  readonly bytesPerSecond?: number
  /** The bits of so many bytes from this offset OF THE FILE are turned; the length stays right. */
  readonly wrongBytesAt?: number
  readonly wrongBytes?: number
  /** The Content-Length told; the body itself is whole. `absent`: ends with the connection. */
  readonly contentLength?: 'short' | 'long' | 'absent' | 'duplicate' | 'negative' | 'chunked'
  /** A Range request gets 200 and the whole file. */
  readonly ignoreRange?: boolean
  /** Told instead of the right one, body unchanged. */
  readonly contentRange?: string
  /** Moves the range that is served (and told, unless `contentRange` lies) by so many bytes. */
  readonly shiftRangeBytes?: number
  /** For ETag and X-Linked-Etag. A string is sent as it is. */
  readonly etag?: 'absent' | 'weak' | { readonly value: string }
  /** Removes headers from an answer that is right otherwise. */
  readonly withoutHeaders?: readonly string[]
  /** Adds or replaces headers of an answer that is right otherwise. */
  readonly extraHeaders?: Readonly<Record<string, string>>
  /** As `resetAfterBytes`, and every signed URL given out so far is expired from then on. */
  readonly expireAfterBytes?: number
}

export interface Fault extends FaultEffect {
  readonly when?: FaultMatch
  /** Lets so many matching requests pass first. */
  readonly skip?: number
  /** Happens so often; without it until removed. */
  readonly times?: number
  /** Called when it happens, before anything is looked up: to move a branch, gate a repo, and so on. */
  readonly onHit?: () => void | Promise<void>
}

export interface FaultHandle {
  /** How often it has happened. */
  readonly hits: number
  remove(): void
}

interface Active extends FaultHandle {
  hits: number
  seen: number
  readonly id: number
  readonly fault: Fault
}

export interface FaultSubject {
  readonly server: ServerName
  readonly method: string
  readonly route: Route
  readonly repos: readonly string[]
  readonly paths: readonly string[]
  readonly ranged: boolean
}

export class Faults {
  #active: Active[] = []
  #nextId = 1

  add(fault: Fault): FaultHandle & { readonly id: number } {
    const id = this.#nextId
    this.#nextId += 1
    const active: Active = { id, fault, hits: 0, seen: 0, remove: () => this.remove(id) }
    this.#active.push(active)
    return active
  }

  remove(id: number): void {
    this.#active = this.#active.filter((one) => one.id !== id)
  }

  clear(): void {
    this.#active = []
  }

  hits(id: number): number {
    return this.#active.find((one) => one.id === id)?.hits ?? 0
  }

  /** The effects that meet this request, counted as having happened. Later ones win over earlier ones. */
  hit(subject: FaultSubject): { effect: FaultEffect; onHits: readonly (() => void | Promise<void>)[] } {
    let effect: FaultEffect = {}
    const onHits: (() => void | Promise<void>)[] = []
    for (const active of this.#active) {
      const { when = {}, skip = 0, times = Number.POSITIVE_INFINITY, onHit, ...own } = active.fault
      if (!meets(when, subject)) continue
      active.seen += 1
      if (active.seen <= skip || active.hits >= times) continue
      active.hits += 1
      effect = { ...effect, ...own }
      if (onHit !== undefined) onHits.push(onHit)
    }
    return { effect, onHits }
  }
}

function meets(when: FaultMatch, { server, method, route, repos, paths, ranged }: FaultSubject): boolean {
  const kinds = when.kind === undefined ? undefined : [when.kind].flat()
  return (
    (when.on === undefined || when.on === server) &&
    (kinds === undefined || kinds.includes(route.kind)) &&
    (when.method === undefined || when.method === method) &&
    (when.repo === undefined || repos.includes(when.repo)) &&
    (when.path === undefined || paths.includes(when.path) || route.url.includes(when.path)) &&
    (when.ranged === undefined || when.ranged === ranged)
  )
}
