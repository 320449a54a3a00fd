// Answering peers that ask for chunks: one request at a time per stream, so many streams per peer over all its
// connections, so many answers under way in all. What a chunk is and who may have it is the handler's decision.
import type { Stream } from '@libp2p/interface'
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
import { abortError, type Clock, deadline } from '@shoal/protocol/time.ts'
import { ExactStream } from './exact-stream.ts'
import { frameOf, LENGTH_BYTES, readFrame, streamError } from './framing.ts'
import type { ChunkReply, MeshHandlers } from './mesh.ts'
import { PiecePace } from './piece-pace.ts'
import { MAX_STREAMS_PER_PEER } from './stream-pool.ts'
import type { Traffic } from './traffic.ts'

export const MAX_UPLOADS = 64
/** A stream without a request for so long is closed. */
const IDLE_MS = 30_000
/** A reader that takes nothing for so long is cut off. */
const NO_PROGRESS_MS = 10_000
/** Requests are small; more than two at once breaks the order of the protocol. */
const MAX_BUFFERED_BYTES = 2 * (LENGTH_BYTES + LIMITS.chunkRequest)

export interface ChunkServerDeps {
  readonly clock: Clock
  readonly traffic: Traffic
  readonly chunk: MeshHandlers['chunk']
  /** Told of each peer that broke the rules of the wire. */
  readonly onBadMessage: (peer: PeerId, reason: string) => void
  /** The handler failed: not the peer's fault. */
  readonly onFailure: (error: unknown) => void
  readonly messageBytes?: number | undefined
  readonly maxUploads?: number | undefined
  readonly noProgressMs?: number | undefined
}

export class ChunkServer {
  readonly #deps: ChunkServerDeps
  readonly #maxUploads: number
  readonly #noProgressMs: number
  readonly #streams = new Map<PeerId, Set<Stream>>()
  #uploads = 0

  constructor(deps: ChunkServerDeps) {
    this.#deps = deps
    this.#maxUploads = deps.maxUploads ?? MAX_UPLOADS
    this.#noProgressMs = deps.noProgressMs ?? NO_PROGRESS_MS
  }

  /** Answers requests on `stream` until it ends. Never rejects. */
  async serve(stream: Stream, peer: PeerId, signal: AbortSignal): Promise<void> {
    const streams = this.#streams.get(peer) ?? new Set()
    this.#streams.set(peer, streams)
    const surplus = streams.size >= MAX_STREAMS_PER_PEER
    streams.add(stream)
    const died = new AbortController()
    const onClose = () => died.abort()
    stream.addEventListener('close', onClose, { once: true })
    const work = AbortSignal.any([signal, died.signal])
    try {
      const bytes = new ExactStream(stream, MAX_BUFFERED_BYTES)
      const pace = new PiecePace(this.#deps.messageBytes)
      let more = true
      while (more) more = (await this.#serveOne(stream, bytes, pace, peer, work, surplus)) && !surplus
      await stream.close({ signal: work })
    } catch (error) {
      const failure = streamError(error, peer, work)
      if (hasCode(failure, 'bad-message')) this.#deps.onBadMessage(peer, failure.message)
      stream.abort(failure)
    } finally {
      stream.removeEventListener('close', onClose)
      streams.delete(stream)
      if (streams.size === 0) this.#streams.delete(peer)
    }
  }

  /** False when the peer has no more requests. */
  async #serveOne(
    stream: Stream,
    bytes: ExactStream,
    pace: PiecePace,
    peer: PeerId,
    signal: AbortSignal,
    surplus: boolean,
  ): Promise<boolean> {
    const request = await this.#readRequest(stream, bytes, signal)
    if (request === undefined) return false
    if (request === 'bad') {
      await this.#send(bytes, pace, { status: 'bad' }, peer, signal)
      throw new ShoalError('bad-message', `${peer} sent a request that makes no sense`, { peer })
    }
    if (surplus || this.#uploads >= this.#maxUploads) {
      await this.#send(bytes, pace, { status: 'busy' }, peer, signal)
      return true
    }
    this.#uploads++
    let reply: ChunkReply | undefined
    try {
      reply = await this.#answer(peer, request, signal)
      if (signal.aborted) throw abortError(signal)
      await this.#send(bytes, pace, reply, peer, signal)
      return true
    } finally {
      this.#uploads--
      reply?.release?.()
    }
  }

  async #answer(peer: PeerId, request: ChunkRequestMessage, signal: AbortSignal): Promise<ChunkReply> {
    try {
      return await this.#deps.chunk(peer, request, signal)
    } catch (error) {
      if (signal.aborted || isAbort(error)) throw error
      this.#deps.onFailure(error)
      return { status: 'lacks' }
    }
  }

  async #readRequest(
    stream: Stream,
    bytes: ExactStream,
    signal: AbortSignal,
  ): Promise<ChunkRequestMessage | 'bad' | undefined> {
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
      const ended =
        stream.remoteWriteStatus !== 'writable' && !signal.aborted && !hasCode(error, 'bad-message')
      if (ended) return undefined
      throw streamError(error, 'the asking peer', limit.signal)
    }
    try {
      return decodeMessage(chunkRequestSchema, encoded, LIMITS.chunkRequest)
    } catch {
      return 'bad'
    }
  }

  async #send(
    bytes: ExactStream,
    pace: PiecePace,
    reply: ChunkReply,
    peer: PeerId,
    signal: AbortSignal,
  ): Promise<void> {
    const body = reply.status === 'ok' ? (reply.bytes ?? new Uint8Array()) : new Uint8Array()
    const header: ChunkHeader = { status: reply.status, length: body.byteLength, voucher: reply.voucher }
    using limit = deadline(
      this.#deps.clock,
      this.#noProgressMs,
      () => new ShoalError('peer-timeout', `${peer} takes no bytes`, { peer }),
      signal,
    )
    await bytes.write(frameOf(encodeMessage(header, LIMITS.chunkHeader)), limit.signal)
    const { clock, traffic } = this.#deps
    for (let sent = 0; sent < body.byteLength; ) {
      const piece = body.subarray(sent, sent + pace.pieceBytes)
      const from = clock.now()
      await bytes.write(piece, limit.signal)
      pace.took(clock.now() - from)
      limit.extend()
      sent += piece.byteLength
      traffic.sent(peer, piece.byteLength)
    }
  }
}
