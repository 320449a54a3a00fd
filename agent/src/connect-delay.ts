// How long the way to a host takes just now: the time of a bare TCP connection, made by the two kernels and closed at once. It waits in
// the queues of the links like any packet, and, unlike a message on a connection in use, behind nothing else. Measures only.
import { connect } from 'node:net'
import type { Clock } from '@shoal/protocol/time.ts'

export interface WayTarget {
  /** An address, no name: nothing is looked up. */
  readonly address: string
  readonly port: number
}

/** @returns milliseconds; undefined: nobody answered within the time, or there is no way there */
export function connectDelay(
  { address, port }: WayTarget,
  timeoutMs: number,
  clock: Clock,
): Promise<number | undefined> {
  return new Promise((resolve) => {
    const startedAt = clock.now()
    const socket = connect({ host: address, port })
    const end = (delayMs: number | undefined) => {
      cancel()
      socket.destroy()
      resolve(delayMs)
    }
    const cancel = clock.after(timeoutMs, () => end(undefined))
    socket.once('connect', () => end(clock.now() - startedAt))
    // A port that nobody listens on answers as well: it has taken as long.
    socket.on('error', (error: Error & { readonly code?: string }) =>
      end(error.code === 'ECONNREFUSED' || error.code === 'ECONNRESET' ? clock.now() - startedAt : undefined),
    )
  })
}

/** Where a multiaddr leads; undefined for one without address and TCP port. */
export function targetOf(multiaddr: string): WayTarget | undefined {
  const match = /^\/ip[46]\/([0-9A-Fa-f:.]+)\/tcp\/(\d{1,5})(?:\/|$)/.exec(multiaddr)
  return match === null ? undefined : { address: match[1] ?? '', port: Number(match[2]) }
}
