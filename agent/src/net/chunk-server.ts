// Answering peers that ask for chunks: one request at a time per stream, so many streams per peer over all its
// connections, so many answers under way in all. What a chunk is and who may have it is the handler's decision.
import { hasCode, isAbort, ShoalError } from '@shoal/protocol/errors.ts'
import type { PeerId } from '@shoal/protocol/ids.ts'
import {
  type ChunkHeader,
  type ChunkRequestMessage,
  chunkRequestSchema,
  decodeMessage,
  encodeMessage,
  LIMITS,
} from '@shoal/protocol/messages.ts'
import { type Clock, deadline, throwIfAborted } from '@shoal/protocol/time.ts'
import { type Pace, UNLIMITED } from '../limits-port.ts'
import type { BytePipe } from './byte-pipe.ts'
import { frameOf, LENGTH_BYTES, readFrame, streamError } from './framing.ts'
import { Line } from './line.ts'
import type { ChunkReply, MeshHandlers } from './mesh.ts'
import { PiecePace } from './piece-pace.ts'
import { MAX_STREAMS_PER_PEER } from './pipe-pool.ts'
import type { Traffic } from './traffic.ts'

export const MAX_UPLOADS = 64
/** A stream without a request for so long is closed. */
const IDLE_MS = 30_000
/** A reader that takes nothing for so long is cut off. */
const NO_PROGRESS_MS = 10_000
/** Requests are small; more than two unread at once breaks the order of the protocol. */
export const MAX_UNREAD_REQUEST_BYTES = 2 * (LENGTH_BYTES + LIMITS.chunkRequest)

export interface ChunkServerDeps {
  readonly clock: Clock
  readonly traffic: Pick<Traffic, 'sent'>
  readonly chunk: MeshHandlers['chunk']
  /** Told of each peer that broke the rules of the wire. */
  readonly onBadMessage: (peer: PeerId, reason: string) => void
  /** The handler failed: not the peer's fault. */
  readonly onFailure: (error: unknown) => void
  readonly messageBytes?: number | undefined
  readonly maxUploads?: number | undefined
  readonly noProgressMs?: number | undefined
  /** Limit on what a peer is sent; asked anew for each answer. */
  readonly pace?: ((peer: PeerId) => Pace) | undefined
}

interface PeerShare {
  readonly pipes: Set<BytePipe>
  /**
   * Pieces are sent in turns, one stream after the other: left to itself yamux serves the oldest stream until it has no
   * more, and on a slow link the youngest waits for minutes.
   */
  readonly turns: Line
}

/** One pipe of a peer, while it lives. */
interface Session {
  readonly peer: PeerId
  readonly bytes: BytePipe
  readonly pace: PiecePace
  readonly turns: Line
  /** Beyond the peer's share. */
  readonly surplus: boolean
  /** Fires when the stream ends or the host stops. */
  readonly signal: AbortSignal
}

export class ChunkServer {
  readonly #deps: ChunkServerDeps
  readonly #maxUploads: number
  readonly #noProgressMs: number
  readonly #shares = new Map<string, PeerShare>()
  #uploads = 0

  constructor(deps: ChunkServerDeps) {
    this.#deps = deps
    this.#maxUploads = deps.maxUploads ?? MAX_UPLOADS
    this.#noProgressMs = deps.noProgressMs ?? NO_PROGRESS_MS
  }

  /**
   * Answers requests on `bytes` until it ends. Never rejects.
   * @param way a peer that changes from streams to data connections may have as many of these as it still has of those
   */
  async serve(
    bytes: BytePipe,
    peer: PeerId,
    signal: AbortSignal,
    way: 'stream' | 'data' = 'stream',
  ): Promise<void> {
    const key = `${way} ${peer}`
    const share = this.#shares.get(key) ?? { pipes: new Set(), turns: new Line(1, Number.POSITIVE_INFINITY) }
    this.#shares.set(key, share)
    const { pipes, turns } = share
    const surplus = pipes.size >= MAX_STREAMS_PER_PEER
    pipes.add(bytes)
    const died = new AbortController()
    const closed = () => {
      died.abort()
      pipes.delete(bytes)
      if (pipes.size === 0 && this.#shares.get(key) === share) this.#shares.delete(key)
    }
    bytes.watch({ closed })
    const session: Session = {
      peer,
      bytes,
      pace: new PiecePace(this.#deps.messageBytes),
      turns,
      surplus,
      signal: AbortSignal.any([signal, died.signal]),
    }
    try {
      await this.#answerAll(session)
      await bytes.close(session.signal)
    } catch (error) {
      const failure = streamError(error, peer, session.signal)
      if (hasCode(failure, 'bad-message')) this.#deps.onBadMessage(peer, failure.message)
      bytes.abort(failure)
    } finally {
      bytes.watch({})
      closed()
    }
  }

  /** One request after the other, until the peer has no more. A surplus stream gets one answer. */
  async #answerAll(session: Session): Promise<void> {
    const { clock } = this.#deps
    let last = { bytes: 0, from: clock.now() }
    do {
      const request = await this.#readRequest(session)
      if (request === undefined) return
      session.pace.arrived(last.bytes, clock.now() - last.from)
      last = await this.#answerOne(session, request)
    } while (!session.surplus)
  }

  /** @returns bytes of the body, and when sending it began */
  async #answerOne(
    session: Session,
    request: ChunkRequestMessage | 'bad',
  ): Promise<{ bytes: number; from: number }> {
    const { peer, signal } = session
    if (request === 'bad') {
      await this.#send(session, { status: 'bad' })
      throw new ShoalError('bad-message', `${peer} sent a request that makes no sense`, { peer })
    }
    if (session.surplus || this.#uploads >= this.#maxUploads) return this.#send(session, { status: 'busy' })
    this.#uploads++
    let reply: ChunkReply | undefined
    try {
      reply = await this.#make(peer, request, signal)
      throwIfAborted(signal)
      return await this.#send(session, reply)
    } finally {
      this.#uploads--
      reply?.release?.()
      if (reply !== undefined) void whenFlushed(session.bytes, signal, reply)
    }
  }

  async #make(peer: PeerId, request: ChunkRequestMessage, signal: AbortSignal): Promise<ChunkReply> {
    try {
      return await this.#deps.chunk(peer, request, signal)
    } catch (error) {
      if (signal.aborted || isAbort(error)) throw error
      this.#deps.onFailure(error)
      return { status: 'lacks' }
    }
  }

  async #readRequest({ bytes, signal }: Session): Promise<ChunkRequestMessage | 'bad' | undefined> {
    using limit = deadline(
      this.#deps.clock,
      IDLE_MS,
      () => new ShoalError('aborted', 'no request came'),
      signal,
    )
    let encoded: Uint8Array
    try {
      encoded = await readFrame(bytes, LIMITS.chunkRequest, limit.signal)
    } catch (error) {
      if (bytes.ended && !signal.aborted && !hasCode(error, 'bad-message')) return undefined
      throw streamError(error, 'the asking peer', limit.signal)
    }
    try {
      return decodeMessage(chunkRequestSchema, encoded, LIMITS.chunkRequest)
    } catch {
      return 'bad'
    }
  }

  async #send(session: Session, reply: ChunkReply): Promise<{ bytes: number; from: number }> {
    const { pace } = session
    const body = reply.status === 'ok' ? (reply.bytes ?? new Uint8Array()) : new Uint8Array()
    const { status, voucher, line } = reply
    const header: ChunkHeader = { status, length: body.byteLength, voucher, line }
    const from = this.#deps.clock.now()
    await this.#write(session, frameOf(encodeMessage(header, LIMITS.chunkHeader)))
    const limit = this.#deps.pace?.(session.peer) ?? UNLIMITED
    for (let sent = 0; sent < body.byteLength; ) {
      const piece = body.subarray(sent, sent + Math.min(pace.pieceBytes, limit.pieceBytes))
      await session.turns.enter(session.signal)
      try {
        // Within the turn: under a limit each peer then has its share, however many streams it opens.
        await limit.pass(piece.byteLength, session.signal)
        await this.#write(session, piece)
      } finally {
        session.turns.leave()
      }
      this.#deps.traffic.sent(session.peer, piece.byteLength)
      sent += piece.byteLength
    }
    return { bytes: body.byteLength, from }
  }

  async #write({ bytes, peer, signal }: Session, piece: Uint8Array): Promise<void> {
    using limit = deadline(
      this.#deps.clock,
      this.#noProgressMs,
      () => new ShoalError('peer-timeout', `${peer} takes no bytes`, { peer }),
      signal,
    )
    await bytes.write(piece, limit.signal)
  }
}

async function whenFlushed(bytes: BytePipe, signal: AbortSignal, { reuse, lost }: ChunkReply): Promise<void> {
  try {
    if (bytes.flushed === undefined) return lost?.()
    await bytes.flushed(signal)
    reuse?.()
  } catch {
    // Of a connection that broke nobody can say what it still refers to.
    lost?.()
  }
}
