// The Hub and its mirrors behind the port `Hub`: metadata routes, access, and files as sources. Every answer becomes a
// checked value or an error of the table; nothing is kept but rests, paces and links. Bytes of files: origin-source.ts.
import type { ErrorCode } from '@shoal/protocol/errors.ts'
import { hasCode, ShoalError } from '@shoal/protocol/errors.ts'
import { type Commit, isCommit, type Repo, type Revision } from '@shoal/protocol/ids.ts'
import type { Clock, Random } from '@shoal/protocol/time.ts'
import type { Settings } from '../config.ts'
import type { OriginWatch } from '../host-limits.ts'
import type { Pace } from '../limits-port.ts'
import type { OriginBucket } from '../plan/origin-buckets.ts'
import type { ResolveHost } from './connect-guard.ts'
import { createEgress, type EgressAnswer, readBody } from './egress.ts'
import { parseNextLink } from './http-facts.ts'
import type { Hub, HubAnswer, HubRequest, HubRevision, HubTree } from './hub.ts'
import { parseHubJson, parseRevision, TreeReader } from './hub-json.ts'
import { refusalOf } from './hub-refusal.ts'
import { hubRoutes } from './hub-routes.ts'
import { OriginBudgets } from './origin-budgets.ts'
import { createOriginSource, type TransferRule } from './origin-source.ts'
import type { SharedLinks } from './shared-link.ts'
import { askInOrder, type RetryRule, Upstream } from './upstreams.ts'

export const MAX_PAGE_BYTES = 4 * 1024 * 1024
const MAX_TREE_BYTES = 256 * 1024 * 1024
const MAX_TREE_PAGES = 1_000

export interface HubClientOptions {
  readonly hub: Pick<Settings['hub'], 'upstreams'>
  readonly connections: Settings['connections']
  readonly downloads: Pick<Settings['downloads'], 'maxRetries' | 'retryDelayMs'>
  readonly userAgent?: string
  /** Longest wait that an origin's rate limit may impose on one request before it fails. */
  readonly maxPaceWaitMs?: number
  /** Slowest transfer worth keeping and the time it is judged over; all transfers that run share the rate. */
  readonly rateFloor?: { readonly bytesPerSecond: number; readonly windowMs: number }
}

export interface HubClientDeps {
  readonly clock: Clock
  readonly random: Random
  readonly log: (
    level: 'debug' | 'info' | 'warn' | 'error',
    message: string,
    fields: Readonly<Record<string, string | number | boolean>>,
  ) => void
  /** Value of the loop header on every request; see loop-guard.ts. */
  readonly via: () => string
  /** For metrics: every request that left; `failed` when no answer came. */
  readonly onOriginRequest: (kind: OriginBucket, status: number | 'failed') => void
  /** Who counts the bytes of files and may close the origin to them. */
  readonly origin?: OriginWatch
  /** For metrics: what `RateLimit` says is left of `api`, `pages` or `resolvers`. */
  readonly onRateLimit?: (bucket: string, remaining: number) => void
  readonly resolveHost?: ResolveHost
  /** The site's budgets at the origins; without it this host's alone. */
  readonly budgets?: OriginBudgets
  /** Links that other hosts of the site found; none without it. */
  readonly links?: SharedLinks
  /** Bandwidth limit on file content; none without it. */
  readonly pace?: Pace
}

export interface HubClient extends Hub {
  /** Cuts everything that runs. May be called twice. */
  close(): Promise<void>
}

const DEFAULT_PACE_WAIT_MS = 5_000

export function createHubClient(options: HubClientOptions, deps: HubClientDeps): HubClient {
  const { clock } = deps
  const budgets = deps.budgets ?? new OriginBudgets({ clock, random: deps.random, self: '', site: undefined })
  const { compression: compressed } = options.connections
  const maxPaceWaitMs = options.maxPaceWaitMs ?? DEFAULT_PACE_WAIT_MS
  const rule: RetryRule = {
    maxRetries: options.downloads.maxRetries,
    backoff: {
      firstMs: options.downloads.retryDelayMs,
      factor: options.connections.retryBackoffFactor,
      maxMs: options.connections.maxRetryDelayMs,
    },
    maxPaceWaitMs,
  }
  const upstreams = options.hub.upstreams.map(
    (base) =>
      new Upstream(
        base,
        createEgress(
          {
            upstream: base,
            maxPerHost: options.connections.maxPerHost,
            connectTimeoutMs: options.connections.connectTimeoutMs,
            readTimeoutMs: options.connections.readTimeoutMs,
            maxPaceWaitMs,
            userAgent: options.userAgent ?? 'shoal',
            keepAlive: options.connections.keepAlive,
          },
          {
            clock,
            budgets,
            via: deps.via,
            resolveHost: deps.resolveHost,
            onRequest: deps.onOriginRequest,
            onRateLimit: deps.onRateLimit,
            onConnected: (address, port) => deps.origin?.onConnected(address, port),
          },
        ),
      ),
  )
  const transfers: TransferRule = { ...rule, rateFloor: options.rateFloor, running: { count: 0 } }
  const inOrder = <T>(request: HubRequest, ask: (upstream: Upstream) => Promise<T>) =>
    askInOrder(upstreams, rule, deps, ask, request.signal)

  /** 200 or an error. `absent`: what a 404 without a code means. */
  async function fetch(
    upstream: Upstream,
    pathAndQuery: string,
    absent: ErrorCode,
    request: HubRequest,
    compressed = false,
  ) {
    const url = new URL(upstream.base + pathAndQuery)
    const answer = await upstream.egress.get({ url, kind: 'api', compressed, ...request })
    if (answer.status !== 200) throw await refusalOf(answer, absent, request.token, clock)
    return answer
  }

  async function json(upstream: Upstream, pathAndQuery: string, absent: ErrorCode, request: HubRequest) {
    const answer = await fetch(upstream, pathAndQuery, absent, request, compressed)
    const body = await readBody(answer, MAX_PAGE_BYTES)
    return { value: parseHubJson(body, answer.url.host), bytes: body.byteLength, answer }
  }

  async function revision(
    upstream: Upstream,
    repo: Repo,
    name: Revision,
    request: HubRequest,
  ): Promise<HubRevision> {
    const path = hubRoutes.revision(repo, name)
    const absent = name === 'HEAD' || name === 'main' ? 'repo-not-found' : 'revision-not-found'
    const full = await json(upstream, path, absent, request).catch((error: unknown) => {
      // The list of files makes the info of very large repos long; they come from the tree anyway.
      if (hasCode(error, 'origin-bad-answer') && error.details.limitBytes !== undefined)
        return json(upstream, `${path}?expand=sha&expand=private&expand=gated`, absent, request)
      throw error
    })
    const { host } = full.answer.url
    const found = parseRevision(full.value, host, !request.token)
    if (isCommit(name) && found.commit !== name) {
      throw new ShoalError('origin-bad-answer', `${host} gives another commit than the one asked for`, {
        host,
      })
    }
    return found
  }

  async function tree(upstream: Upstream, repo: Repo, commit: Commit, request: HubRequest): Promise<HubTree> {
    const { host } = new URL(upstream.base)
    const reader = new TreeReader(host)
    const bad = (why: string) => new ShoalError('origin-bad-answer', `${host}: ${why}`, { host })
    const seen = new Set<string>()
    let bytes = 0
    for (let next: string | undefined = hubRoutes.tree(repo, commit); next !== undefined; ) {
      if (seen.has(next)) throw bad('the pages of a tree go in a circle')
      if (seen.size >= MAX_TREE_PAGES || bytes > MAX_TREE_BYTES)
        throw new ShoalError('too-large', 'the tree of the repo has too many pages', { host })
      seen.add(next)
      const page = await json(upstream, next, 'revision-not-found', request)
      bytes += page.bytes
      const told = page.answer.header('x-repo-commit')
      if (told !== undefined && told !== commit) throw bad('a page of the tree is of another commit')
      reader.add(page.value)
      next = nextPage(upstream, page.answer, bad)
    }
    return reader.finish()
  }

  async function pass(upstream: Upstream, pathAndQuery: string, request: HubRequest): Promise<HubAnswer> {
    const url = new URL(upstream.base + pathAndQuery)
    if (!url.href.startsWith(`${upstream.base}/api/`))
      throw new ShoalError('bad-request', 'not a path of the API')
    const answer = await upstream.egress.get({ url, kind: 'api', compressed, ...request })
    if (answer.status === 408 || answer.status === 429 || answer.status >= 500)
      throw await refusalOf(answer, 'not-found', request.token, clock)
    return {
      status: answer.status,
      contentType: answer.header('content-type'),
      errorCode: answer.header('x-error-code'),
      errorMessage: answer.header('x-error-message'),
      link: answer.header('link'),
      body: await readBody(answer, MAX_PAGE_BYTES),
    }
  }

  return {
    revision: (repo, name, request) =>
      inOrder(request, (upstream) => revision(upstream, repo, name, request)),
    tree: (repo, commit, request) => inOrder(request, (upstream) => tree(upstream, repo, commit, request)),
    async authCheck(repo, request) {
      await inOrder(request, async (upstream) => {
        const answer = await fetch(upstream, hubRoutes.authCheck(repo), 'repo-not-found', request)
        answer.discard()
      })
    },
    async pass(pathAndQuery, request) {
      let absent: HubAnswer | undefined
      const given = await inOrder(request, async (upstream) => {
        const answer = await pass(upstream, pathAndQuery, request)
        // Another origin may have it. If none has, the first answer is what the client sees.
        if (answer.status !== 404 || upstream === upstreams.at(-1)) return answer
        absent ??= answer
        throw new ShoalError('not-found', 'this origin does not have it')
      })
      return given.status === 404 ? (absent ?? given) : given
    },
    source: (file, token) =>
      createOriginSource(file, token, {
        upstreams,
        rule: transfers,
        clock,
        random: deps.random,
        watch: deps.origin,
        pace: deps.pace,
        links: deps.links,
      }),
    raw: (file, limitBytes, request) =>
      inOrder(request, async (upstream) => {
        const path = hubRoutes.raw(file.repo, file.commit, file.path)
        const answer = await fetch(upstream, path, 'file-not-found', request)
        return readBody(answer, limitBytes)
      }),
    async close() {
      await Promise.all(upstreams.map((upstream) => upstream.egress.close()))
    },
  }
}

/** Path and query of the next page below the upstream's base; only the upstream itself may be named. */
function nextPage(
  upstream: Upstream,
  answer: EgressAnswer,
  bad: (why: string) => ShoalError,
): string | undefined {
  const link = parseNextLink(answer.header('link'))
  if (link === undefined) return undefined
  if (!URL.canParse(link, answer.url.href)) throw bad('the link to the next page is not a URL')
  const url = new URL(link, answer.url)
  if (!url.href.startsWith(`${upstream.base}/api/`)) throw bad('the link to the next page leads elsewhere')
  return url.href.slice(upstream.base.length)
}
