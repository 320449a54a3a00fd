// Makes a connection hand what is written at once to the system at once. Of itself libp2p writes each part of a message
// alone: a muxer's header of 12 bytes becomes an encrypted record of its own, and each record a system call, and the other side
// reads them one by one. Reaches into private fields of @libp2p/tcp and @libp2p/tls, and changes nothing where they have moved:
// then everything works as before, only dearer; a canary test tells.
import type { MessageStream } from '@libp2p/interface'

/** A `net.Socket` in both libraries. */
interface CorkedSocket {
  cork(): void
  uncork(): void
}

interface SocketConnection {
  readonly socket: CorkedSocket
  sendData: (data: unknown) => unknown
}

/** Changes `connection` in place. @returns false for a connection of another make, which is left alone */
export function joinWrites(connection: MessageStream): boolean {
  const candidate: unknown = connection
  if (!isSocketConnection(candidate)) return false
  const { socket } = candidate
  const sendData = candidate.sendData.bind(candidate)
  candidate.sendData = (data) => {
    socket.cork()
    try {
      return sendData(data)
    } finally {
      socket.uncork()
    }
  }
  return true
}

function isSocketConnection(value: unknown): value is SocketConnection {
  if (typeof value !== 'object' || value === null || !('socket' in value) || !('sendData' in value))
    return false
  const { socket, sendData } = value
  return (
    typeof sendData === 'function' &&
    typeof socket === 'object' &&
    socket !== null &&
    'cork' in socket &&
    typeof socket.cork === 'function' &&
    'uncork' in socket &&
    typeof socket.uncork === 'function'
  )
}
