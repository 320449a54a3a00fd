// The socket under the routes: opens last, closes first, bounds the time and size of what a client can hold open.
import { createServer, type Server } from 'node:http'
import { getRequestListener } from '@hono/node-server'
import { ShoalError } from '@shoal/protocol/errors.ts'
import { formatListenAddress, type ListenAddress } from '@shoal/protocol/listen-address.ts'
import type { Service } from '@shoal/protocol/service.ts'
import type { Clock } from '@shoal/protocol/time.ts'

const MAX_HEADER_BYTES = 16 * 1024
const MAX_CONNECTIONS = 1024
const HEADERS_TIMEOUT_MS = 10_000
const REQUEST_TIMEOUT_MS = 30_000
const IDLE_TIMEOUT_MS = 60_000
const DRAIN_TIMEOUT_MS = 5_000

export interface HttpServer extends Service {
  /** Where it listens, with the real port. @throws ShoalError `not-running` before start */
  address(): ListenAddress
}

export function createHttpServer(
  listen: ListenAddress,
  handler: (request: Request) => Response | Promise<Response>,
  clock: Clock,
): HttpServer {
  let server: Server | undefined
  let bound: ListenAddress | undefined
  return {
    name: 'http',
    address() {
      if (bound === undefined) throw new ShoalError('not-running', 'the HTTP server has not started')
      return bound
    },
    async start() {
      if (server !== undefined) return
      const created = createServer(
        {
          maxHeaderSize: MAX_HEADER_BYTES,
          headersTimeout: HEADERS_TIMEOUT_MS,
          requestTimeout: REQUEST_TIMEOUT_MS,
          keepAliveTimeout: IDLE_TIMEOUT_MS,
          // A missing Host is refused by the guard, with a sentence.
          requireHostHeader: false,
        },
        getRequestListener(handler, { overrideGlobalObjects: false }),
      )
      created.maxConnections = MAX_CONNECTIONS
      await listening(created, listen)
      const address = created.address()
      bound = { host: listen.host, port: typeof address === 'object' && address !== null ? address.port : 0 }
      server = created
    },
    async stop() {
      const open = server
      if (open === undefined) return
      server = undefined
      const cancelCut = clock.after(DRAIN_TIMEOUT_MS, () => open.closeAllConnections())
      await new Promise<void>((resolve) => open.close(() => resolve()))
      cancelCut()
    },
  }
}

async function listening(server: Server, listen: ListenAddress): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      const where = formatListenAddress(listen)
      const why =
        error.code === 'EADDRINUSE' ? 'another program listens there' : `it cannot be opened (${error.code})`
      reject(new ShoalError('bad-config', `coordinator.listen: ${where}: ${why}`, {}, error))
    })
    server.listen(listen.port, listen.host, resolve)
  })
}
