// libp2p's TLS with the session run on the TCP socket itself. Same handshake, certificate and checks as @libp2p/tls, which is what
// the other side may run; but that one lays the session over libp2p's connection, so that every read and every record of a
// connection crosses JavaScript twice and small reads cost as much as large ones. A connection that is no plain TCP socket is
// secured by the stock encrypter. Reaches into private fields of @libp2p/tcp: integration/socket-tls tells when they have moved.
import { once } from 'node:events'
import { Socket } from 'node:net'
import { connect, TLSSocket } from 'node:tls'
import type {
  ConnectionEncrypter,
  MessageStream,
  SecureConnectionOptions,
  SecuredConnection,
  StreamMuxerFactory,
} from '@libp2p/interface'
import { type TLSComponents, tls } from '@libp2p/tls'
import { generateCertificate, toMessageStream, verifyPeerCertificate } from '@libp2p/tls/utils'
import { ShoalError } from '@shoal/protocol/errors.ts'
import { abortError, type Clock, throwIfAborted } from '@shoal/protocol/time.ts'
import { CIPHERS } from './data-socket.ts'

/** Said in ALPN by whoever settles on a muxer after the handshake. */
const NO_EARLY_MUXER = 'libp2p'
/** Peers refuse a certificate from the future: one made while the clock was wrong must not stay. */
const CERTIFICATE_MS = 60 * 60 * 1000

type Direction = 'inbound' | 'outbound'
type Muxers = ReadonlyMap<string, StreamMuxerFactory>

/** In place of `tls()` of @libp2p/tls. One certificate serves all connections of a node for an hour. */
export function socketTls(
  clock: Pick<Clock, 'wallTime'>,
): (components: TLSComponents) => ConnectionEncrypter {
  return (components) => {
    const stock = tls()(components)
    const certificates = new Certificates(clock, () => generateCertificate(components.privateKey))
    const secure = async (
      connection: MessageStream,
      direction: Direction,
      options: SecureConnectionOptions | undefined,
    ): Promise<SecuredConnection> => {
      const own = await certificates.current()
      const raw = takeSocket(connection)
      if (raw === undefined)
        return direction === 'inbound'
          ? stock.secureInbound(connection, options)
          : stock.secureOutbound(connection, options)
      const muxers: Muxers =
        options?.skipStreamMuxerNegotiation === true ? new Map() : components.upgrader.getStreamMuxers()
      return handshake(connection, start(raw, own, direction, muxers), muxers, options)
    }
    return {
      protocol: stock.protocol,
      secureInbound: (connection, options) => secure(connection, 'inbound', options),
      secureOutbound: (connection, options) => secure(connection, 'outbound', options),
    }
  }
}

interface Certificate {
  readonly cert: string
  readonly key: string
}

/** One at a time, made anew when it failed to be made, is old, or is from a time that the host's clock has not reached (again). */
class Certificates {
  readonly #clock: Pick<Clock, 'wallTime'>
  readonly #make: () => Promise<Certificate>
  #latest: Promise<Certificate> | undefined
  #madeAt = 0

  constructor(clock: Pick<Clock, 'wallTime'>, make: () => Promise<Certificate>) {
    this.#clock = clock
    this.#make = make
  }

  current(): Promise<Certificate> {
    const age = this.#clock.wallTime() - this.#madeAt
    if (this.#latest !== undefined && age >= 0 && age < CERTIFICATE_MS) return this.#latest
    const made = this.#make()
    this.#latest = made
    this.#madeAt = this.#clock.wallTime()
    made.catch(() => {
      if (this.#latest === made) this.#latest = undefined
    })
    return made
  }
}

interface TcpConnection {
  readonly socket: Socket
  /** What came and was not read. */
  readonly readBuffer: {
    readonly byteLength: number
    subarray(): Uint8Array
    consume(bytes: number): void
  }
}

/**
 * Takes the socket from its connection, which keeps watching its end and its errors but reads no more. What it has read already,
 * such as the other side's first handshake message, is put back.
 * @returns undefined for a connection of another make, which is left alone
 */
function takeSocket(connection: MessageStream): Socket | undefined {
  const candidate: unknown = connection
  if (!isTcpConnection(candidate)) return undefined
  const { socket, readBuffer } = candidate
  socket.pause()
  socket.removeAllListeners('data')
  const early = readBuffer.subarray()
  readBuffer.consume(early.byteLength)
  if (early.byteLength > 0) socket.unshift(early)
  return socket
}

/** Whether @libp2p/tcp made it, and its fields are where they were. */
export function isTcpConnection(value: unknown): value is TcpConnection {
  if (typeof value !== 'object' || value === null || !('socket' in value) || !('readBuffer' in value))
    return false
  const { socket, readBuffer } = value
  return (
    socket instanceof Socket &&
    !(socket instanceof TLSSocket) &&
    !socket.destroyed &&
    typeof readBuffer === 'object' &&
    readBuffer !== null &&
    'subarray' in readBuffer &&
    'consume' in readBuffer
  )
}

function start(raw: Socket, certificate: Certificate, direction: Direction, muxers: Muxers): TLSSocket {
  const common = {
    ...certificate,
    minVersion: 'TLSv1.3',
    maxVersion: 'TLSv1.3',
    ciphers: CIPHERS,
    // Certificates are self-signed: who signed them is checked by verifyPeerCertificate.
    rejectUnauthorized: false,
  } as const
  if (direction === 'outbound')
    return connect({ ...common, socket: raw, ALPNProtocols: [...muxers.keys(), NO_EARLY_MUXER] })
  return new TLSSocket(raw, {
    ...common,
    isServer: true,
    requestCert: true,
    ALPNCallback: ({ protocols }) =>
      protocols.find((protocol) => muxers.has(protocol) || protocol === NO_EARLY_MUXER),
  })
}

async function handshake(
  connection: MessageStream,
  socket: TLSSocket,
  muxers: Muxers,
  options: SecureConnectionOptions | undefined,
): Promise<SecuredConnection> {
  const signal = options?.signal
  // For as long as the socket lives: an error without a listener would end the process.
  socket.on('error', (error) => connection.abort(error))
  const ended = new AbortController()
  socket.once('close', () =>
    ended.abort(new ShoalError('peer-unreachable', 'the connection ended in the handshake')),
  )
  const stop = signal === undefined ? ended.signal : AbortSignal.any([signal, ended.signal])
  try {
    await once(socket, 'secure', { signal: stop })
    const remotePeer = await verifyPeerCertificate(
      socket.getPeerCertificate().raw,
      options?.remotePeer,
      connection.log,
    )
    throwIfAborted(stop)
    const streamMuxer = typeof socket.alpnProtocol === 'string' ? muxers.get(socket.alpnProtocol) : undefined
    return {
      connection: toMessageStream(connection, socket),
      remotePeer,
      ...(streamMuxer === undefined ? {} : { streamMuxer }),
    }
  } catch (error) {
    const failure = stop.aborted ? abortError(stop) : error
    socket.destroy()
    connection.abort(failure instanceof Error ? failure : new Error(String(failure)))
    throw failure
  }
}
