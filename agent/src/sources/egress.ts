// The only way out to an origin: one HTTP client per upstream, on undici. Owns connections, pace, addresses, redirects and
// where a token may go. Knows nothing of the Hub's routes, does not retry, keeps no link.
import type { IncomingHttpHeaders } from 'node:http'
import { pipeline, type Readable } from 'node:stream'
import { createGunzip } from 'node:zlib'
import { asShoalError, messageOf, ShoalError } from '@shoal/protocol/errors.ts'
import { abortError, type Clock, sleep, throwIfAborted } from '@shoal/protocol/time.ts'
import { Agent, buildConnector } from 'undici'
import type { OriginBucket } from '../plan/origin-buckets.ts'
import { createConnectGuard, type ResolveHost, systemResolve } from './connect-guard.ts'
import { isRedirect, parseRateLimit, parseRetryAfter, redirectTarget } from './http-facts.ts'
import { LOOP_HEADER } from './loop-guard.ts'
import type { OriginBudgets } from './origin-budgets.ts'

const MAX_HEADER_BYTES = 16 * 1024
const MAX_HOSTS = 256
/** Of a body that are taken in before its reader has come to them: at 64 KiB the socket is stopped and started for each read. */
const BODY_BYTES = 512 * 1024
/** A body that is not wanted is read up to here, so that its connection can be used again; a longer one is cut. */
const DISCARD_BYTES = 16 * 1024
const IDLE_MS = 10_000
/** How undici names an answer that breaks HTTP. */
const NOT_HTTP: ReadonlySet<string> = new Set([
  'Z_DATA_ERROR',
  'Z_BUF_ERROR',
  'HTTPParserError',
  'UND_ERR_HEADERS_OVERFLOW',
  'UND_ERR_RES_CONTENT_LENGTH_MISMATCH',
])

export interface EgressOptions {
  /** Without a trailing slash. */
  readonly upstream: string
  readonly maxPerHost: number
  readonly connectTimeoutMs: number
  /** Longest silence before the headers and within the body. */
  readonly readTimeoutMs: number
  /** A request that the pace would hold back longer fails at once with `origin-rate-limited`. */
  readonly maxPaceWaitMs: number
  readonly userAgent: string
  /** False: each request has a connection of its own. */
  readonly keepAlive: boolean
}

export interface EgressDeps {
  readonly clock: Clock
  /** Keeps the pace, for all upstreams and whoever else asks them. */
  readonly budgets: Pick<OriginBudgets, 'delay' | 'take' | 'answered'>
  /** Value of the loop header; see loop-guard.ts. */
  readonly via: () => string
  readonly resolveHost?: ResolveHost | undefined
  /** Every request that left: `failed` when no answer came. */
  readonly onRequest: (kind: OriginBucket, status: number | 'failed') => void
  readonly onRateLimit?: ((bucket: string, remaining: number) => void) | undefined
  /** A connection for answers with bytes of files was opened. */
  readonly onConnected?: ((address: string, port: number) => void) | undefined
}

export interface EgressRequest {
  readonly url: URL
  readonly kind: OriginBucket
  /** Sent to the exact origin of the upstream only. */
  readonly token: string | undefined
  readonly headers?: Readonly<Record<string, string>>
  /** The answer may be compressed on its way. Never for bytes of files. */
  readonly compressed?: boolean
  readonly signal: AbortSignal
}

/** An answer whose body is still to be read, exactly once, or to be discarded. */
export interface EgressAnswer {
  readonly status: number
  /** Where it came from, after redirects. */
  readonly url: URL
  /** undefined when absent or sent more than once. */
  header(name: string): string | undefined
  /** @throws ShoalError `origin-unreachable` | `origin-bad-answer` | `aborted`. Leaving the loop early cuts the connection. */
  readonly body: AsyncIterable<Uint8Array>
  /** Gives the body up: a short one is read to its end, else the connection is cut. */
  discard(): void
}

export interface Egress {
  /**
   * GET, following redirects by hand. `onRedirect` sees each redirecting answer before it is followed and may throw.
   * @throws ShoalError `origin-refused` | `origin-unreachable` | `origin-rate-limited` | `origin-bad-answer` | `aborted`
   */
  get(request: EgressRequest, onRedirect?: (answer: EgressAnswer) => void): Promise<EgressAnswer>
  /** True when a URL has exactly the upstream's scheme, host and port. */
  isUpstream(url: URL): boolean
  close(): Promise<void>
}

export function createEgress(options: EgressOptions, deps: EgressDeps): Egress {
  const { clock } = deps
  const upstream = new URL(options.upstream)
  const guard = createConnectGuard(upstream, deps.resolveHost ?? systemResolve)
  const { budgets } = deps
  const closing = new AbortController()
  const connectSocket = buildConnector({
    allowH2: false,
    timeout: options.connectTimeoutMs,
    lookup: guard.lookup,
  })
  const agentOf = (connections: number, onConnected?: EgressDeps['onConnected']) =>
    new Agent({
      connections,
      // 0: a connection is closed after its answer.
      pipelining: options.keepAlive ? 1 : 0,
      allowH2: false,
      maxOrigins: MAX_HOSTS,
      maxHeaderSize: MAX_HEADER_BYTES,
      headersTimeout: options.readTimeoutMs,
      bodyTimeout: options.readTimeoutMs,
      keepAliveTimeout: IDLE_MS,
      keepAliveMaxTimeout: IDLE_MS,
      connect(target, callback) {
        connectSocket(target, (error, socket) => {
          if (error !== null) return callback(error, null)
          try {
            guard.checkSocket(socket)
          } catch (refusal) {
            socket.destroy()
            return callback(refusal as Error, null)
          }
          onConnected?.(socket.remoteAddress ?? '', socket.remotePort ?? 0)
          callback(null, socket)
        })
      },
    })
  // Answers about files never queue behind their bodies: a quarter of the connections is theirs.
  const controlShare = options.maxPerHost === 1 ? 0 : Math.max(1, Math.floor(options.maxPerHost / 4))
  const contentAgent = agentOf(options.maxPerHost - controlShare, deps.onConnected)
  const controlAgent = controlShare === 0 ? contentAgent : agentOf(controlShare)

  const isUpstream = (url: URL) => url.origin === upstream.origin

  async function waitForPace(
    kind: OriginBucket,
    token: string | undefined,
    signal: AbortSignal,
  ): Promise<void> {
    for (;;) {
      throwIfAborted(signal)
      const waitMs = budgets.delay(options.upstream, token, kind)
      if (waitMs <= 0) break
      if (waitMs > options.maxPaceWaitMs) throw rateLimited(upstream.host, waitMs)
      await sleep(clock, Math.ceil(waitMs), signal)
    }
    budgets.take(options.upstream, token, kind)
  }

  async function send(request: EgressRequest): Promise<EgressAnswer> {
    const { url } = request
    const kind = isUpstream(url) ? request.kind : 'content'
    guard.checkHost(url.hostname)
    await waitForPace(kind, request.token, request.signal)
    const sentAt = clock.now()
    const headers: Record<string, string> = {
      'accept-encoding': request.compressed === true ? 'gzip' : 'identity',
      'user-agent': options.userAgent,
      [LOOP_HEADER]: deps.via(),
      ...request.headers,
    }
    if (request.token !== undefined && request.token !== '' && isUpstream(url))
      headers.authorization = `Bearer ${request.token}`
    const signal = AbortSignal.any([request.signal, closing.signal])
    const failed = (error: unknown) => egressError(error, url.host, signal)
    const agent = kind === 'api' ? controlAgent : contentAgent
    let answer: Awaited<ReturnType<Agent['request']>>
    try {
      answer = await agent.request({
        origin: url.origin,
        path: url.pathname + url.search,
        method: 'GET',
        headers,
        signal,
        highWaterMark: BODY_BYTES,
      })
    } catch (error) {
      if (!signal.aborted) deps.onRequest(kind, 'failed')
      throw failed(error)
    }
    deps.onRequest(kind, answer.statusCode)
    // A body that is given up reports its end as an error; whoever reads it sees it there.
    answer.body.on('error', () => {})
    const header = (name: string) => single(answer.headers, name)
    const rateLimits = isUpstream(url) ? parseRateLimit(header('ratelimit')) : []
    for (const limit of rateLimits) deps.onRateLimit?.(limit.bucket, limit.remaining)
    budgets.answered(options.upstream, request.token, kind, {
      status: answer.statusCode,
      retryAfterMs: parseRetryAfter(header('retry-after'), clock.wallTime()),
      rateLimits,
      sentAt,
    })
    const encoding = answer.headers['content-encoding']
    const isZipped = request.compressed === true && encoding === 'gzip'
    const lengths: unknown = answer.headers['content-length']
    if ((encoding !== undefined && encoding !== 'identity' && !isZipped) || Array.isArray(lengths)) {
      answer.body.destroy()
      const why = Array.isArray(lengths) ? 'gives two lengths' : 'encoded an answer although asked not to'
      throw new ShoalError('origin-bad-answer', `${url.host} ${why}`, { host: url.host })
    }
    return {
      status: answer.statusCode,
      url,
      header,
      body: pieces(isZipped ? unzipped(answer.body) : answer.body, failed),
      discard() {
        answer.body.dump({ limit: DISCARD_BYTES }).catch(() => {})
      },
    }
  }

  return {
    async get(request, onRedirect) {
      let url = request.url
      for (let hops = 0; ; hops++) {
        const answer = await send({ ...request, url })
        if (!isRedirect(answer.status)) return answer
        answer.discard()
        onRedirect?.(answer)
        url = redirectTarget(url, answer.header('location'), hops)
      }
    },
    isUpstream,
    async close() {
      closing.abort(new ShoalError('not-running', 'the agent is stopping'))
      await Promise.all([contentAgent.destroy(), controlAgent.destroy()])
    },
  }
}

/** Unpacks as it is read, a piece at a time: whoever reads no further unpacks no more. */
function unzipped(body: Readable): AsyncIterable<Uint8Array> {
  return pipeline(body, createGunzip(), () => {})
}

async function* pieces(
  body: AsyncIterable<Uint8Array>,
  failed: (error: unknown) => ShoalError,
): AsyncGenerator<Uint8Array> {
  try {
    yield* body
  } catch (error) {
    throw failed(error)
  }
}

/**
 * All of a body. @throws ShoalError `origin-bad-answer` as soon as it is longer than `limitBytes`, and as `EgressAnswer.body`
 */
export async function readBody(answer: EgressAnswer, limitBytes: number): Promise<Uint8Array> {
  const tooLong = () => {
    answer.discard()
    return new ShoalError('origin-bad-answer', `${answer.url.host} sent more than ${limitBytes} bytes`, {
      host: answer.url.host,
      limitBytes,
    })
  }
  if (Number(answer.header('content-length') ?? 0) > limitBytes) throw tooLong()
  const parts: Uint8Array[] = []
  let length = 0
  for await (const piece of answer.body) {
    length += piece.byteLength
    if (length > limitBytes) throw tooLong()
    parts.push(piece)
  }
  return Buffer.concat(parts, length)
}

export function rateLimited(host: string, waitMs: number): ShoalError {
  return new ShoalError(
    'origin-rate-limited',
    `${host} asks for fewer requests; waiting ${Math.ceil(waitMs / 1000)} s`,
    {
      host,
      retryAfterMs: Math.ceil(waitMs),
    },
  )
}

function single(headers: IncomingHttpHeaders, name: string): string | undefined {
  const value: unknown = headers[name]
  return typeof value === 'string' ? value : undefined
}

function egressError(error: unknown, host: string, signal: AbortSignal): ShoalError {
  if (signal.aborted) return abortError(signal)
  const known = asShoalError(error)
  if (known !== undefined) return known
  const reason = codeOf(error)
  // What the parser refuses is an answer, however bad; everything else is the lack of one.
  if (NOT_HTTP.has(reason))
    return new ShoalError(
      'origin-bad-answer',
      `${host} does not speak HTTP properly`,
      { host, reason },
      error,
    )
  return new ShoalError(
    'origin-unreachable',
    `${host} cannot be reached: ${messageOf(error) || reason}`,
    { host, reason },
    error,
  )
}

/** undici's parser errors carry no code: their name is taken. */
function codeOf(error: unknown): string {
  if (!(error instanceof Error)) return 'unknown'
  if (error.name === 'HTTPParserError') return error.name
  const code: unknown = (error as { code?: unknown }).code
  return typeof code === 'string' ? code.slice(0, 64) : 'unknown'
}
