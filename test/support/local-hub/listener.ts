// One HTTP server of the local Hub on a port that it keeps: it can go down (connections are refused and open
// ones reset) and come up again at the same address. Knows nothing of what is served.
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { type Clock, sleep } from '@shoal/protocol/time.ts'

export type Handler = (request: IncomingMessage, response: ServerResponse) => Promise<void>

const LOOPBACK = '127.0.0.1'
const PORT_TRIES = 100
const PORT_RETRY_MS = 50

export class Listener {
  readonly #clock: Clock
  readonly #handler: Handler
  readonly #running = new Set<Promise<void>>()
  readonly #host: string
  #server: Server | undefined
  #port: number

  /** @param port 0: any free one, then kept */
  constructor(clock: Clock, handler: Handler, port = 0, host = LOOPBACK) {
    this.#clock = clock
    this.#host = host
    this.#handler = handler
    this.#port = port
  }

  get url(): string {
    return `http://${this.#host}:${this.#port}`
  }

  async open(): Promise<void> {
    if (this.#server !== undefined) return
    for (let tries = 1; ; tries += 1) {
      try {
        this.#server = await listen(this.#port, this.#host, (request, response) =>
          this.#accept(request, response),
        )
        this.#port = (this.#server.address() as AddressInfo).port
        return
      } catch (error) {
        // An outgoing connection of another process may hold the port for a moment.
        if (tries === PORT_TRIES) throw error
        await sleep(this.#clock, PORT_RETRY_MS)
      }
    }
  }

  /** Refuses connections from now on, resets those that are open, and waits for their handlers. */
  async close(): Promise<void> {
    const server = this.#server
    if (server === undefined) return
    this.#server = undefined
    const closed = new Promise<void>((resolve) => server.close(() => resolve()))
    server.closeAllConnections()
    await closed
    await Promise.allSettled(this.#running)
  }

  #accept(request: IncomingMessage, response: ServerResponse): void {
    const task = this.#handler(request, response)
      .catch((error: unknown) => {
        response.destroy()
        if (!request.destroyed && !response.destroyed) throw error
      })
      .finally(() => this.#running.delete(task))
    this.#running.add(task)
  }
}

function listen(
  port: number,
  host: string,
  accept: (request: IncomingMessage, response: ServerResponse) => void,
): Promise<Server> {
  return new Promise((resolve, reject) => {
    const server = createServer({ keepAliveTimeout: 60_000 }, accept)
    server.once('error', reject)
    server.listen(port, host, () => {
      server.off('error', reject)
      resolve(server)
    })
  })
}
