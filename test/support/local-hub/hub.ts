// The local Hub: a stand-in for the Hugging Face Hub that tests and the demo run on loopback. It behaves as the real one is
// known to, counts what leaves it, and can be told to misbehave. Joins state, routes, faults and servers; for tests only.
import type { IncomingMessage, ServerResponse } from 'node:http'
import { type Clock, sleep, systemClock } from '@shoal/protocol/time.ts'
import { type Copies, Counts, type FileCounts, type SeenRequest, type ServerName } from './counts.ts'
import { type Asked, answerCdn, answerHub, type HubState, parseCdnRoute } from './dispatch.ts'
import { applyToAnswer, applyToRange } from './fault-effects.ts'
import { type Fault, type FaultEffect, type FaultHandle, Faults } from './faults.ts'
import { Signer } from './files.ts'
import { Listener } from './listener.ts'
import { Pace } from './pace.ts'
import { type Quotas, RateLimiter, REAL_QUOTAS } from './quota.ts'
import {
  type Commit,
  type CommitSpec,
  fullName,
  type HubFile,
  type HubRepo,
  oidOf,
  type RepoSpec,
  Repos,
  resolveRevision,
  type User,
} from './repos.ts'
import { parseRoute, type Route } from './route.ts'
import { sendAnswer } from './send.ts'

export interface LocalHubOptions {
  readonly clock?: Clock
  readonly repos?: readonly RepoSpec[]
  readonly users?: readonly User[]
  /** Rate limits; without it those of the real Hub. */
  readonly quotas?: Partial<Quotas>
  /** Entries a page of `tree`; default 1000. */
  readonly treePage?: number
  readonly commitsPage?: number
  /** How long a signed URL is good for; default one hour. */
  readonly signedUrlTtlMs?: number
  /** Bytes per second of all file contents together; default unlimited. */
  readonly bytesPerSecond?: number
  /** 0: any free port. */
  readonly port?: number
  /** Address to listen on; default 127.0.0.1. */
  readonly host?: string
}

export interface FileName {
  /** `org/name`, `datasets/org/name`, `spaces/org/name`. */
  readonly repo: string
  readonly path: string
  /** Default `main`. */
  readonly revision?: string
}

/** Starts the Hub, its CDN and a mirror of the Hub, each on a port of 127.0.0.1. */
export async function startLocalHub(options: LocalHubOptions = {}): Promise<LocalHub> {
  const hub = new LocalHub(options)
  await hub.start()
  return hub
}

export class LocalHub implements AsyncDisposable {
  readonly counts = new Counts()
  readonly #clock: Clock
  readonly #options: LocalHubOptions
  readonly #repos = new Repos()
  readonly #faults = new Faults()
  readonly #pace: Pace
  readonly #limiter: RateLimiter
  readonly #signer = new Signer()
  readonly #servers: Readonly<Record<ServerName, Listener>>

  constructor(options: LocalHubOptions) {
    this.#options = options
    this.#clock = options.clock ?? systemClock
    this.#pace = new Pace(this.#clock, options.bytesPerSecond)
    this.#limiter = new RateLimiter({ ...REAL_QUOTAS, ...options.quotas })
    const listener = (name: ServerName, port = 0) =>
      new Listener(
        this.#clock,
        (request, response) => this.#handle(name, request, response),
        port,
        options.host,
      )
    this.#servers = { hub: listener('hub', options.port), cdn: listener('cdn'), mirror: listener('mirror') }
    for (const user of options.users ?? []) this.#repos.addUser(user)
  }

  /** What a client takes as HF_ENDPOINT. */
  get url(): string {
    return this.#servers.hub.url
  }

  get cdnUrl(): string {
    return this.#servers.cdn.url
  }

  /** A second server that serves the same Hub. */
  get mirrorUrl(): string {
    return this.#servers.mirror.url
  }

  async start(): Promise<void> {
    for (const spec of this.#options.repos ?? []) await this.addRepo(spec)
    await this.resume()
  }

  async stop(): Promise<void> {
    await this.pause()
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop()
  }

  /** Takes servers down (all, or those named): connections are refused and open ones reset, until {@link resume}. */
  async pause(...names: readonly ServerName[]): Promise<void> {
    await Promise.all(this.#named(names).map((server) => server.close()))
  }

  /** Brings servers up again at the addresses they had. */
  async resume(...names: readonly ServerName[]): Promise<void> {
    await Promise.all(this.#named(names).map((server) => server.open()))
  }

  addRepo(spec: RepoSpec): Promise<HubRepo> {
    return this.#repos.add(spec)
  }

  /** Adds a commit and moves its branch (default `main`) there. */
  commit(repo: string, spec: CommitSpec): Promise<Commit> {
    return this.#repos.commit(repo, spec)
  }

  /** Points a branch at a commit that is there already. */
  moveBranch(repo: string, branch: string, sha: string): void {
    this.#repos.moveRef(repo, branch, sha)
  }

  /** From now on the old name answers 307 to the new one. @param newId `org/name` */
  renameRepo(repo: string, newId: string): void {
    this.#repos.rename(repo, newId)
  }

  removeRepo(repo: string): void {
    this.#repos.remove(repo)
  }

  /** Its `gated`, `private` and `disabled` may be set at any time. */
  repo(name: string): HubRepo {
    return this.#repos.get(name)
  }

  addUser(user: User): void {
    this.#repos.addUser(user)
  }

  removeUser(token: string): void {
    this.#repos.removeUser(token)
  }

  file({ repo, path, revision = 'main' }: FileName): HubFile {
    const file = resolveRevision(this.#repos.get(repo), revision)?.files.get(path)
    if (file === undefined) throw new Error(`the local Hub has no file ${path} in ${repo}@${revision}`)
    return file
  }

  /** SHA-256 of a file in LFS, else its Git blob id. */
  oidOf(name: FileName): string {
    return oidOf(this.file(name))
  }

  /** Sum of the sizes of all files of a revision: what an origin must send at least once. */
  sizeBytes(repo: string, revision = 'main'): number {
    const commit = resolveRevision(this.#repos.get(repo), revision)
    return [...(commit?.files.values() ?? [])].reduce((sum, file) => sum + file.sizeBytes, 0)
  }

  /** How often each byte of the file left: `max` 1 means no byte twice, `min` 1 that each did. */
  copiesOf(name: FileName): Copies {
    const file = this.file(name)
    return this.counts.copies(oidOf(file), file.sizeBytes)
  }

  /** Bytes, requests, times and parts of one file, whichever server sent them. */
  countsOf(name: FileName): FileCounts {
    return this.counts.file(oidOf(this.file(name)))
  }

  addFault(fault: Fault): FaultHandle & { readonly id: number } {
    return this.#faults.add(fault)
  }

  removeFault(id: number): void {
    this.#faults.remove(id)
  }

  clearFaults(): void {
    this.#faults.clear()
  }

  /** Bytes per second of all file contents together; undefined: unlimited. */
  limitRate(bytesPerSecond: number | undefined): void {
    this.#pace.set(bytesPerSecond)
  }

  setQuotas(quotas: Partial<Quotas>): void {
    this.#limiter.quotas = { ...this.#limiter.quotas, ...quotas }
  }

  /** Every signed URL given out so far answers 403 from now on. */
  expireSignedUrls(): void {
    this.#signer.expireAll()
  }

  #named(names: readonly ServerName[]): readonly Listener[] {
    const all: readonly ServerName[] = names.length === 0 ? ['hub', 'cdn', 'mirror'] : names
    return all.map((name) => this.#servers[name])
  }

  async #handle(server: ServerName, request: IncomingMessage, response: ServerResponse): Promise<void> {
    const gone = new AbortController()
    response.on('error', () => {})
    response.on('close', () => gone.abort())
    const url = request.url ?? '/'
    const route = server === 'cdn' ? parseCdnRoute(url) : parseRoute(url)
    const seen = this.#note(server, request, route)
    try {
      const asked: Asked = { request, response, route, seen, signal: gone.signal }
      const { effect, onHits } = this.#hit(server, request, route)
      if (effect.delayMs !== undefined) await sleep(this.#clock, effect.delayMs, gone.signal)
      for (const onHit of onHits) await onHit()
      if (effect.resetBeforeHeaders === true) return void request.socket.resetAndDestroy()
      await this.#answer(server, asked, effect)
    } catch (error) {
      if (!gone.signal.aborted) throw error
    } finally {
      seen.endedAt = this.#clock.wallTime()
    }
  }

  async #answer(server: ServerName, asked: Asked, effect: FaultEffect): Promise<void> {
    const { request, response, route, seen, signal } = asked
    const state: HubState = {
      clock: this.#clock,
      repos: this.#repos,
      limiter: this.#limiter,
      signer: this.#signer,
      counts: this.counts,
      paging: {
        treePage: this.#options.treePage ?? 1000,
        commitsPage: this.#options.commitsPage ?? 50,
        origin: this.#servers[server].url,
      },
      cdnUrl: this.#servers.cdn.url,
      signedUrlTtlMs: this.#options.signedUrlTtlMs ?? 3_600_000,
    }
    const range = applyToRange(request.headers.range, effect)
    const right = server === 'cdn' ? answerCdn(state, asked, range) : await answerHub(state, asked, range)
    const answer = applyToAnswer(right, route, effect)
    seen.status = answer.status
    const { body } = answer
    const onBytes =
      body.type === 'file' || body.type === 'gzip'
        ? this.counts.startPart(server, oidOf(body.file), body.type === 'file' ? body.start : 0, seen)
        : undefined
    await sendAnswer(answer, {
      clock: this.#clock,
      request,
      response,
      signal,
      pace: this.#pace,
      effect,
      onFileBytes: (bytes) => onBytes?.(bytes, this.#clock.wallTime()),
      onExpire: () => this.#signer.expireAll(),
    })
  }

  #hit(server: ServerName, request: IncomingMessage, route: Route | undefined) {
    if (route === undefined) return { effect: {}, onHits: [] }
    const content = route.kind === 'cdn' ? this.#repos.byOid(route.path) : undefined
    return this.#faults.hit({
      server,
      method: request.method ?? 'GET',
      route,
      repos: content?.repos ?? [fullName(route.repoKind, route.id)],
      paths: content?.paths ?? [route.path],
      ranged: request.headers.range !== undefined,
    })
  }

  #note(server: ServerName, request: IncomingMessage, route: Route | undefined): SeenRequest {
    const token = /^Bearer (.+)$/.exec(request.headers.authorization ?? '')?.[1]
    const seen: SeenRequest = {
      at: this.#clock.wallTime(),
      server,
      kind: route?.kind ?? 'other',
      method: request.method ?? 'GET',
      url: request.url ?? '/',
      repo: route === undefined || route.id === '' ? '' : fullName(route.repoKind, route.id),
      path: route?.path ?? '',
      range: request.headers.range,
      user: token === undefined ? undefined : (this.#repos.user(token)?.name ?? '?'),
      status: 0,
      bytes: 0,
      endedAt: undefined,
    }
    this.counts.noteRequest(seen)
    if (server === 'cdn' && request.headers.authorization !== undefined) this.counts.noteTokenLeak()
    return seen
  }
}
