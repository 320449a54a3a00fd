// Requests written byte by byte on a socket, for what no HTTP client would send. Gives back everything the server said.
import { connect } from 'node:net'

/** Sends `text` and resolves with the server's bytes (latin1) once it closes the connection, or after `untilIdleMs` of silence. */
export function rawHttp(port: number, text: string, untilIdleMs = 2000): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect(port, '127.0.0.1')
    const pieces: Buffer[] = []
    const finish = () => {
      socket.destroy()
      resolve(Buffer.concat(pieces).toString('latin1'))
    }
    socket.setTimeout(untilIdleMs, finish)
    socket.on('data', (piece) => pieces.push(piece))
    socket.on('close', finish)
    socket.on('error', (error: NodeJS.ErrnoException) =>
      error.code === 'ECONNRESET' || error.code === 'EPIPE' ? finish() : reject(error),
    )
    socket.on('connect', () => socket.write(text, 'latin1'))
  })
}

/** Status of the first answer in what {@link rawHttp} gave; undefined when the connection just ended. */
export function rawStatus(answer: string): number | undefined {
  const match = /^HTTP\/1\.1 (\d{3})/.exec(answer)
  return match === null ? undefined : Number(match[1])
}
