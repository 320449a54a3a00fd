// The agent's HTTP server: opens last, closes first. Guards every request before anything is routed, gives Hub paths to
// hub-api and the rest to node-api, bounds time and size of everything a client can hold open, counts. Routes nothing else.
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import { isAbort, ShoalError } from '@shoal/protocol/errors.ts'
import { formatListenAddress, type ListenAddress } from '@shoal/protocol/listen-address.ts'
import type { Service } from '@shoal/protocol/service.ts'
import type { Clock } from '@shoal/protocol/time.ts'
import type { Log } from '../log.ts'
import type { HttpRouteLabel, Metrics } from '../metrics.ts'
import type { HubCall } from './answer.ts'
import { type Admitted, allowedHosts, guard, MAX_HEADER_BYTES } from './guards.ts'
import type { HubApi } from './hub-api.ts'
import { hubErrorAnswer, nodeErrorAnswer } from './hub-errors.ts'
import { readBody } from './read-body.ts'
import { ReadBuffers } from './read-buffers.ts'
import { send } from './send.ts'
import { askApp, type WebApp } from './web-bridge.ts'

export interface HttpLimits {
  /** How long a client may take nothing of what waits for it. */
  readonly stallTimeoutMs: number
  readonly headersTimeoutMs: number
  /** For a whole request, body included. */
  readonly requestTimeoutMs: number
  readonly checkIntervalMs: number
  readonly keepAliveTimeoutMs: number
  /** How long open requests may go on after `stop`. */
  readonly drainTimeoutMs: number
  readonly maxConnections: number
  /** Memory through which files on disk go to clients. */
  readonly readMemoryBytes: number
}

export const HTTP_LIMITS: HttpLimits = {
  stallTimeoutMs: 60_000,
  headersTimeoutMs: 10_000,
  requestTimeoutMs: 30_000,
  checkIntervalMs: 5_000,
  // Longer than the idle times of the clients' pools, or a reused connection meets its own end.
  keepAliveTimeoutMs: 65_000,
  drainTimeoutMs: 10_000,
  maxConnections: 2048,
  readMemoryBytes: 32 * 1024 * 1024,
}

export interface HttpServerDeps {
  readonly listen: ListenAddress
  /** From the settings: names besides the loopback ones and the listening address. */
  readonly allowedHosts: readonly string[]
  readonly hubApi: HubApi
  /** Answers what is not a Hub path: a Hono app. */
  readonly nodeApi: WebApp
  readonly metrics: Metrics
  readonly clock: Clock
  readonly log: Log
  /** Our peer id, for the loop guard; undefined before the mesh has one. */
  readonly self: () => string | undefined
  /** The loop guard's word on `x-shoal-via`, which also remembers who asks; without it only `self` is looked for. */
  readonly admitsVia?: (via: string | undefined) => boolean
  /** Memory for files on their way from disk; without it `limits.readMemoryBytes`. */
  readonly buffers?: ReadBuffers
  readonly limits?: Partial<HttpLimits>
}

export interface HttpServer extends Service {
  /** Base URL without a trailing slash. @throws ShoalError `not-running` before start */
  readonly url: string
  /** Bytes of files given to clients since start. */
  readonly sentBytes: number
  /** Memory in use now for files on their way from disk to clients. */
  readonly lentBytes: number
}

export function createHttpServer(deps: HttpServerDeps): HttpServer {
  return new ShoalHttpServer(deps)
}

class ShoalHttpServer implements HttpServer {
  readonly name = 'http'
  readonly #deps: HttpServerDeps
  readonly #limits: HttpLimits
  readonly #buffers: ReadBuffers
  #server: Server | undefined
  #address: ListenAddress | undefined
  #hosts: ReadonlySet<string> = new Set()
  #sentBytes = 0
  /** Every connection, with how many requests on it are being answered. */
  readonly #openAnswers = new Map<Socket, number>()
  #stopping: Promise<void> | undefined

  constructor(deps: HttpServerDeps) {
    this.#deps = deps
    this.#limits = { ...HTTP_LIMITS, ...deps.limits }
    this.#buffers = deps.buffers ?? new ReadBuffers(this.#limits.readMemoryBytes)
  }

  get url(): string {
    if (this.#address === undefined) throw new ShoalError('not-running', 'the HTTP server has not started')
    return `http://${formatListenAddress(this.#address)}`
  }

  get sentBytes(): number {
    return this.#sentBytes
  }

  get lentBytes(): number {
    return this.#buffers.lentBytes
  }

  async start(): Promise<void> {
    if (this.#server !== undefined) return
    const limits = this.#limits
    const server = createServer({
      maxHeaderSize: MAX_HEADER_BYTES,
      headersTimeout: limits.headersTimeoutMs,
      requestTimeout: limits.requestTimeoutMs,
      connectionsCheckingInterval: limits.checkIntervalMs,
      keepAliveTimeout: limits.keepAliveTimeoutMs,
      // A missing Host is refused by the guard, with a sentence.
      requireHostHeader: false,
    })
    // Never drop headers unread: the guard counts them, and the size is bounded above.
    server.maxHeadersCount = 0
    server.maxConnections = limits.maxConnections
    server.timeout = limits.stallTimeoutMs
    server.on('connection', (socket: Socket) => {
      this.#openAnswers.set(socket, 0)
      socket.on('close', () => this.#openAnswers.delete(socket))
    })
    server.on('timeout', (socket) => this.#cutIfStalled(socket))
    server.on('request', (request, response) => void this.#handle(request, response))
    server.on('checkContinue', (request, response) => void this.#handle(request, response))
    server.on('connect', (_request, socket: Socket) => refuseConnect(socket))
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject)
      server.listen(this.#deps.listen.port, this.#deps.listen.host, () => {
        server.off('error', reject)
        resolve()
      })
    })
    const bound = server.address()
    const port = typeof bound === 'object' && bound !== null ? bound.port : this.#deps.listen.port
    this.#address = { host: this.#deps.listen.host, port }
    this.#hosts = allowedHosts(this.#address, this.#deps.allowedHosts)
    this.#server = server
    this.#stopping = undefined
  }

  stop(): Promise<void> {
    const server = this.#server
    if (server === undefined) return Promise.resolve()
    this.#stopping ??= this.#drain(server)
    return this.#stopping
  }

  async #drain(server: Server): Promise<void> {
    const cancelCut = this.#deps.clock.after(this.#limits.drainTimeoutMs, () => server.closeAllConnections())
    // Stops accepting; the callback comes when the last connection has ended. Those on which nothing is being answered
    // end now, also the ones that never asked anything.
    const closed = new Promise<void>((resolve) => server.close(() => resolve()))
    for (const [socket, answers] of this.#openAnswers) if (answers === 0) socket.destroy()
    await closed
    cancelCut()
    this.#server = undefined
  }

  /** Never rejects: every failure is an answer or the end of a connection. */
  async #handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { clock, metrics, log } = this.#deps
    const startedAt = clock.now()
    const gone = new AbortController()
    let route: HttpRouteLabel = 'refused'
    const { socket } = request
    this.#count(socket, 1)
    response.on('close', () => {
      this.#count(socket, -1)
      if (!response.writableFinished) gone.abort()
      metrics.httpRequest(route, response.statusCode, (clock.now() - startedAt) / 1000)
      if (response.statusCode === 401 || response.statusCode === 403) metrics.authFailure()
    })
    // A socket error is a client that went away: 'close' follows and says all there is to say.
    response.on('error', () => {})
    request.on('error', () => {})
    try {
      if (this.#stopping !== undefined) response.setHeader('Connection', 'close')
      const { method = '', url: target = '', rawHeaders } = request
      const admitted = guard(
        { method, target, rawHeaders },
        { hosts: this.#hosts, admitsVia: (via) => this.#admitsVia(via) },
      )
      if (!admitted.ok) {
        const form = isNodePath(target.split('?', 1)[0] ?? '')
          ? nodeErrorAnswer(admitted.error)
          : hubErrorAnswer(admitted.error, false)
        const headers = { ...form.headers, ...admitted.headers, Connection: 'close' }
        await this.#send(response, method, { ...form, status: admitted.status, headers }, gone.signal)
        return
      }
      const isNode = isNodePath(admitted.rawPath)
      if (isNode) route = nodeRoute(admitted.rawPath)
      const answered = isNode
        ? { route, answer: await this.#askNode(request, response, admitted, gone.signal) }
        : await this.#deps.hubApi.answer(hubCall(request, response, admitted, gone.signal))
      route = answered.route
      if (answered.answer.status >= 500 && 'error' in answered)
        log.warn({ route, err: answered.error }, 'a Hub request failed')
      // What is left of a body nobody read must not be taken for the next request.
      if (!request.complete) response.setHeader('Connection', 'close')
      await this.#send(response, method, answered.answer, gone.signal)
    } catch (error) {
      response.destroy()
      if (isAbort(error)) log.debug({ route, err: error }, 'a client went away')
      else log.warn({ route, err: error }, 'an answer was cut')
    }
  }

  #admitsVia(via: string | undefined): boolean {
    const { admitsVia, self } = this.#deps
    if (admitsVia !== undefined) return admitsVia(via)
    const own = self()
    return own === undefined || !(via ?? '').split(',').some((id) => id.trim() === own)
  }

  async #askNode(
    request: IncomingMessage,
    response: ServerResponse,
    admitted: Admitted,
    signal: AbortSignal,
  ) {
    try {
      return await askApp(this.#deps.nodeApi, request, response, admitted, signal)
    } catch (error) {
      return nodeErrorAnswer(error)
    }
  }

  /** Nothing moved for the idle time. Waiting for us to have bytes is fine; not taking those that wait is not. */
  #cutIfStalled(socket: Socket): void {
    if (socket.writableLength > 0) socket.resetAndDestroy()
    else if ((this.#openAnswers.get(socket) ?? 0) === 0) socket.destroy()
  }

  #count(socket: Socket, by: 1 | -1): void {
    const answers = this.#openAnswers.get(socket)
    if (answers === undefined) return
    this.#openAnswers.set(socket, answers + by)
    // A connection kept alive across a stop would hold it up.
    if (answers + by === 0 && this.#stopping !== undefined) socket.destroySoon()
  }

  #send(response: ServerResponse, method: string, answer: Parameters<typeof send>[2], signal: AbortSignal) {
    return send(response, method, answer, {
      clock: this.#deps.clock,
      stallTimeoutMs: this.#limits.stallTimeoutMs,
      signal,
      buffers: this.#buffers,
      onFileBytes: (bytes) => {
        this.#sentBytes += bytes
        this.#deps.metrics.bytes('disk', 'client', bytes)
      },
    })
  }
}

function hubCall(
  request: IncomingMessage,
  response: ServerResponse,
  admitted: Admitted,
  signal: AbortSignal,
): HubCall {
  return {
    method: request.method ?? '',
    rawPath: admitted.rawPath,
    rawQuery: admitted.rawQuery,
    header(name) {
      const value = request.headers[name]
      return Array.isArray(value) ? value.join(', ') : value
    },
    caller: { kind: 'client', token: admitted.token },
    baseUrl: `http://${admitted.host}`,
    body: () => readBody(request, response),
    signal,
  }
}

/** What is not the Hub's. Exact names, so that a repository may be called `docs`. */
export function isNodePath(rawPath: string): boolean {
  return nodeRoute(rawPath) !== 'unknown'
}

function nodeRoute(rawPath: string): HttpRouteLabel {
  if (rawPath === '/api/v1' || rawPath.startsWith('/api/v1/')) return 'api'
  return NODE_PATHS.get(rawPath) ?? 'unknown'
}

const NODE_PATHS = new Map<string, HttpRouteLabel>([
  ['/healthz', 'probe'],
  ['/readyz', 'probe'],
  ['/metrics', 'metrics'],
  ['/openapi.json', 'docs'],
  ['/docs', 'docs'],
  ['/docs/style.css', 'docs'],
])

function refuseConnect(socket: Socket): void {
  socket.on('error', () => {})
  socket.end('HTTP/1.1 405 Method Not Allowed\r\nConnection: close\r\nContent-Length: 0\r\n\r\n')
}
