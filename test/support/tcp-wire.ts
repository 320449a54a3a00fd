// A TCP connection between two programs that a test can slow down and break.
import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import type { TestContext } from 'node:test'

export interface TcpWire {
  /** Connect here, on 127.0.0.1. */
  readonly port: number
  /** Resets every connection that goes through it. New ones are taken again. */
  break(): void
}

/** A forwarder to a port of 127.0.0.1, ended with the test. @param bytesPerSecond in each direction of each connection */
export async function tcpWire(
  context: Pick<TestContext, 'after'>,
  toPort: number,
  bytesPerSecond = Number.POSITIVE_INFINITY,
): Promise<TcpWire> {
  const sockets = new Set<Socket>()
  const forward = (from: Socket, to: Socket) => {
    sockets.add(from)
    from.on('error', () => {})
    from.on('close', () => {
      sockets.delete(from)
      to.destroy()
    })
    from.on('data', (data) => {
      from.pause()
      to.write(data)
      setTimeout(() => from.resume(), (data.byteLength * 1_000) / bytesPerSecond)
    })
  }
  const server = createServer((inbound) => {
    const outbound = connect(toPort, '127.0.0.1')
    forward(inbound, outbound)
    forward(outbound, inbound)
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const breakAll = () => {
    for (const socket of sockets) socket.resetAndDestroy()
  }
  context.after(() => {
    breakAll()
    server.close()
  })
  return { port: (server.address() as AddressInfo).port, break: breakAll }
}

/** A port of 127.0.0.1 that nobody listens on just now. */
export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, 'close')
  return port
}
