// The agent's real Hub client with short time-outs, and a bare HTTP server that answers exactly as a test tells it: for
// faults that a well-behaved server library would not produce.
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'
import type { TestContext } from 'node:test'
import { createHubClient, type HubClient, type HubClientDeps } from '@shoal/agent/sources/hub-client.ts'
import { createLoopGuard } from '@shoal/agent/sources/loop-guard.ts'
import type { ChunkSource } from '@shoal/agent/sources/source.ts'
import { type ChunkGeometry, chunkLength } from '@shoal/protocol/chunks.ts'
import type { BlobId } from '@shoal/protocol/ids.ts'
import { seededRandom, systemClock } from '@shoal/protocol/time.ts'
import { atEnd } from './cleanups.ts'

export interface ClientOptions {
  readonly upstreams: readonly string[]
  readonly maxRetries?: number
  readonly readTimeoutMs?: number
  readonly maxPerHost?: number
  readonly keepAlive?: boolean
  readonly compression?: boolean
  readonly backoff?: { readonly firstMs: number; readonly factor: number; readonly maxMs: number }
  readonly maxPaceWaitMs?: number
  readonly rateFloor?: { readonly bytesPerSecond: number; readonly windowMs: number }
  readonly resolveHost?: HubClientDeps['resolveHost']
}

export interface TestClient {
  readonly hub: HubClient
  /** `kind status`, one for each request that left. */
  readonly requests: readonly string[]
  readonly limits: readonly string[]
  /** Bytes of file content that arrived. */
  bytes(): number
}

export function testClient(context: Pick<TestContext, 'after'>, options: ClientOptions): TestClient {
  const requests: string[] = []
  const limits: string[] = []
  let bytes = 0
  const loop = createLoopGuard('test-agent', systemClock)
  const hub = createHubClient(
    {
      hub: { upstreams: options.upstreams },
      connections: {
        maxPerHost: options.maxPerHost ?? 8,
        keepAlive: options.keepAlive ?? true,
        compression: options.compression ?? true,
        connectTimeoutMs: 2_000,
        readTimeoutMs: options.readTimeoutMs ?? 2_000,
        retryBackoffFactor: options.backoff?.factor ?? 2,
        maxRetryDelayMs: options.backoff?.maxMs ?? 50,
      },
      downloads: { maxRetries: options.maxRetries ?? 3, retryDelayMs: options.backoff?.firstMs ?? 5 },
      ...(options.maxPaceWaitMs === undefined ? {} : { maxPaceWaitMs: options.maxPaceWaitMs }),
      ...(options.rateFloor === undefined ? {} : { rateFloor: options.rateFloor }),
    },
    {
      clock: systemClock,
      random: seededRandom(1),
      log: () => {},
      via: () => loop.outgoing(),
      onOriginRequest: (kind, status) => requests.push(`${kind} ${status}`),
      onRateLimit: (bucket, remaining) => limits.push(`${bucket} ${remaining}`),
      origin: {
        closed: () => undefined,
        onBytes: (count) => {
          bytes += count
        },
        onConnected: () => {},
      },
      ...(options.resolveHost === undefined ? {} : { resolveHost: options.resolveHost }),
    },
  )
  atEnd(context, () => hub.close())
  return { hub, requests, limits, bytes: () => bytes }
}

/** Fetches one chunk. */
export async function fetchChunk(
  source: ChunkSource,
  blob: BlobId,
  geometry: ChunkGeometry,
  index: number,
  signal: AbortSignal = new AbortController().signal,
): Promise<{ readonly bytes: Uint8Array; readonly progress: readonly number[] }> {
  const into = new Uint8Array(chunkLength(geometry, index))
  const progress: number[] = []
  await source.fetch(
    { blob, geometry, index, into },
    { signal, onProgress: (filled) => progress.push(filled) },
  )
  return { bytes: into, progress }
}

export type Handler = (request: IncomingMessage, response: ServerResponse) => void

export interface FakeOrigin {
  readonly url: string
  readonly port: number
  /** What was asked so far. */
  readonly seen: readonly IncomingMessage[]
  /** Connections ever accepted. */
  connections(): number
}

/** A server on 127.0.0.1 (or `host`) that lives as long as the test. */
export async function fakeOrigin(
  context: Pick<TestContext, 'after'>,
  handler: Handler,
  host = '127.0.0.1',
): Promise<FakeOrigin> {
  const seen: IncomingMessage[] = []
  const sockets = new Set<Socket>()
  let accepted = 0
  const server = createServer((request, response) => {
    seen.push(request)
    handler(request, response)
  })
  server.on('connection', (socket) => {
    accepted++
    sockets.add(socket)
    socket.on('error', () => {})
    socket.on('close', () => sockets.delete(socket))
  })
  await new Promise<void>((resolve) => server.listen(0, host, resolve))
  atEnd(context, async () => {
    for (const socket of sockets) socket.destroy()
    await new Promise((resolve) => server.close(resolve))
  })
  const { port } = server.address() as AddressInfo
  return { url: `http://${host}:${port}`, port, seen, connections: () => accepted }
}

/** Sends bytes past the HTTP library: a status line, headers and whatever else. Ends the connection unless `keep`. */
export function sendRaw(response: ServerResponse, text: string, body?: Uint8Array, keep = false): void {
  const { socket } = response
  if (socket === null) return
  socket.write(text.replaceAll('\n', '\r\n'))
  if (body !== undefined) socket.write(body)
  if (!keep) socket.end()
}
