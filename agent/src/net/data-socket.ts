// TLS sockets for data connections. The two hosts know each other's certificate from the connection on which they were admitted, so
// that a digest is all there is to compare: no name, no chain, no date. Owns handshakes and their limits, not what is sent.
import { createHash } from 'node:crypto'
import { createServer, type OnReadOpts, type Socket } from 'node:net'
import { type ConnectionOptions, connect, createSecureContext, type SecureContext, TLSSocket } from 'node:tls'
import { ShoalError } from '@shoal/protocol/errors.ts'
import { abortError, type Clock, deadline } from '@shoal/protocol/time.ts'
import { Inlet, SocketPipe } from './socket-pipe.ts'

/** AES with 128 bits is the fastest wherever the processor knows AES; the cheap one of those without comes next. */
export const CIPHERS = 'TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256:TLS_AES_256_GCM_SHA384'
const PROTOCOL = 'shoal-data/1'
const HANDSHAKE_MS = 3_000
/** Sockets whose handshake is not done. */
const MAX_PENDING = 64
const MAX_SOCKETS = 2_048

export interface DataCertificate {
  readonly context: SecureContext
  /** SHA-256 of the certificate, 32 bytes. */
  readonly digest: Uint8Array
}

/** @param pair a self-signed certificate and its key, in PEM */
export function dataCertificate(pair: { readonly cert: string; readonly key: string }): DataCertificate {
  const der = Buffer.from(pair.cert.replaceAll(/-----[^-]+-----|\s/g, ''), 'base64')
  return {
    context: createSecureContext({
      ...pair,
      minVersion: 'TLSv1.3',
      maxVersion: 'TLSv1.3',
      ciphers: CIPHERS,
    }),
    digest: createHash('sha256').update(der).digest(),
  }
}

/** Digest of the certificate that the other side has proven to own the key of; undefined when it showed none. */
function remoteDigest(socket: TLSSocket): string | undefined {
  const certificate = socket.getPeerX509Certificate()
  return certificate === undefined
    ? undefined
    : digestKey(createHash('sha256').update(certificate.raw).digest())
}

export function digestKey(digest: Uint8Array): string {
  return Buffer.from(digest).toString('base64')
}

/**
 * Connects to a host that must own `expected`.
 * @param maxUnreadBytes as of {@link SocketPipe}
 * @throws ShoalError `peer-unreachable` | the signal's reason
 */
export async function connectData(
  target: { readonly host: string; readonly port: number; readonly expected: Uint8Array },
  own: DataCertificate,
  maxUnreadBytes: number,
  clock: Clock,
  signal: AbortSignal,
): Promise<SocketPipe> {
  const where = `${target.host} port ${target.port}`
  using limit = deadline(
    clock,
    HANDSHAKE_MS,
    () => new ShoalError('peer-unreachable', `no data connection with ${where} in ${HANDSHAKE_MS} ms`),
    signal,
  )
  const inlet = new Inlet()
  const options: ConnectionOptions & { readonly onread: OnReadOpts } = {
    host: target.host,
    port: target.port,
    secureContext: own.context,
    rejectUnauthorized: false,
    ALPNProtocols: [PROTOCOL],
    onread: {
      buffer: () => inlet.nextBuffer(),
      callback: (bytes, buffer) => inlet.took(bytes, buffer),
    },
  }
  const socket = connect(options)
  socket.setNoDelay(true)
  try {
    await secured(socket, limit.signal)
    if (remoteDigest(socket) !== digestKey(target.expected))
      throw new ShoalError('peer-unreachable', `another host answers at ${where}`)
    return new SocketPipe(socket, inlet, maxUnreadBytes)
  } catch (error) {
    socket.on('error', () => {})
    socket.destroy()
    if (limit.signal.aborted) throw abortError(limit.signal)
    throw error
  }
}

function secured(socket: TLSSocket, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const end = (settle: () => void) => {
      socket.off('secureConnect', onSecure)
      socket.off('error', onError)
      socket.off('close', onClose)
      signal.removeEventListener('abort', onAbort)
      settle()
    }
    const unreachable = (reason: string) =>
      new ShoalError('peer-unreachable', `no data connection: ${reason}`)
    const onSecure = () => end(resolve)
    const onError = (error: Error) => end(() => reject(unreachable(error.message)))
    const onClose = () => end(() => reject(unreachable('it was closed')))
    const onAbort = () => end(() => reject(abortError(signal)))
    socket.on('secureConnect', onSecure)
    socket.on('error', onError)
    socket.on('close', onClose)
    signal.addEventListener('abort', onAbort)
    if (signal.aborted) onAbort()
  })
}

export interface DataListener {
  readonly port: number
  close(): Promise<void>
}

/**
 * Takes data connections.
 * @param accept told of each whose handshake is done, with the digest of the certificate of the other side; false: cut it
 * @throws the system's error when it cannot listen there
 */
export async function listenForData(
  where: { readonly host: string; readonly port: number },
  own: DataCertificate,
  maxUnreadBytes: number,
  clock: Clock,
  accept: (digest: string, pipe: SocketPipe) => boolean,
): Promise<DataListener> {
  const sockets = new Set<Socket>()
  let pending = 0
  const server = createServer({ noDelay: true }, (raw) => {
    if (pending >= MAX_PENDING) {
      raw.destroy()
      return
    }
    pending++
    sockets.add(raw)
    const socket = new TLSSocket(raw, {
      isServer: true,
      secureContext: own.context,
      requestCert: true,
      rejectUnauthorized: false,
      ALPNProtocols: [PROTOCOL],
    })
    let isPending = true
    const settled = () => {
      if (isPending) pending--
      isPending = false
      cancelTimer()
    }
    const cancelTimer = clock.after(HANDSHAKE_MS, () => socket.destroy())
    socket.on('error', () => socket.destroy())
    socket.once('close', () => {
      sockets.delete(raw)
      settled()
    })
    socket.once('secure', () => {
      settled()
      const digest = remoteDigest(socket)
      const inlet = new Inlet()
      const pipe = new SocketPipe(socket, inlet, maxUnreadBytes)
      socket.on('data', (piece: Uint8Array) => {
        if (!inlet.took(piece.byteLength, piece)) socket.pause()
      })
      if (digest === undefined || !accept(digest, pipe)) socket.destroy()
    })
  })
  server.maxConnections = MAX_SOCKETS
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen({ host: where.host, port: where.port, backlog: 64 }, resolve)
  })
  const address = server.address()
  if (typeof address !== 'object' || address === null) throw new Error('a listening server has an address')
  return {
    port: address.port,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve())
        for (const socket of sockets) socket.destroy()
      }),
  }
}
