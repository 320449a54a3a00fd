// Asking peers for chunks: one request, one header, exactly the promised bytes, straight into the caller's buffer.
// Keeps a few long-lived pipes per peer. Proves nothing about the bytes: that is the downloader's.
import { chunkLength, MAX_CHUNK_BYTES } from '@shoal/protocol/chunks.ts'
import { hasCode, ShoalError } from '@shoal/protocol/errors.ts'
import type { PeerId } from '@shoal/protocol/ids.ts'
import {
  type ChunkHeader,
  type ChunkRequestMessage,
  chunkHeaderSchema,
  decodeMessage,
  encodeMessage,
  LIMITS,
} from '@shoal/protocol/messages.ts'
import { type Clock, type Deadline, deadline } from '@shoal/protocol/time.ts'
import { bothPaces, type Pace } from '../limits-port.ts'
import type { ChunkRequest, FetchedChunk, FetchOptions } from '../sources/source.ts'
import type { BytePipe } from './byte-pipe.ts'
import { frameOf, LENGTH_BYTES, readFrame, readInto, streamError } from './framing.ts'
import { type Lease, PipePool } from './pipe-pool.ts'
import type { Traffic } from './traffic.ts'

/** A request that moves no byte for so long is given up. */
export const NO_PROGRESS_MS = 10_000
export const MAX_ANSWER_BYTES = LENGTH_BYTES + LIMITS.chunkHeader + MAX_CHUNK_BYTES

export interface ChunkClientDeps {
  readonly clock: Clock
  readonly traffic: Pick<Traffic, 'received'>
  /** Opens a pipe to a connected peer that takes at most so many unread bytes. @throws ShoalError `peer-unreachable` */
  readonly openPipe: (peer: PeerId, maxUnreadBytes: number, signal: AbortSignal) => Promise<BytePipe>
  readonly noProgressMs?: number | undefined
  /** Limit on what all peers send us. */
  readonly pace?: Pace | undefined
}

export class ChunkClient {
  readonly #deps: ChunkClientDeps
  readonly #noProgressMs: number
  readonly #pools = new Map<PeerId, PipePool>()

  constructor(deps: ChunkClientDeps) {
    this.#deps = deps
    this.#noProgressMs = deps.noProgressMs ?? NO_PROGRESS_MS
  }

  /**
   * Fills `request.into` with what `peer` says the chunk is.
   * @throws ShoalError `peer-timeout` | `peer-unreachable` | `peer-lacks-chunk` | `peer-busy` | `peer-refused` |
   *   `bad-message` | `aborted`
   */
  async fetch(
    peer: PeerId,
    request: ChunkRequest,
    extra: Pick<ChunkRequestMessage, 'waitMs' | 'grant'>,
    options: FetchOptions,
  ): Promise<FetchedChunk> {
    const length = chunkLength(request.geometry, request.index)
    if (request.into.byteLength !== length)
      throw new Error(`a buffer of ${request.into.byteLength} bytes for a chunk of ${length}`)
    const message: ChunkRequestMessage = {
      blob: request.blob,
      geometry: request.geometry.text,
      index: request.index,
      waitMs: extra.waitMs,
      grant: extra.grant,
    }
    const frame = frameOf(encodeMessage(message, LIMITS.chunkRequest))
    const first = await this.#attempt(peer, frame, request, extra.waitMs, options, false)
    if (first !== 'stale') return first
    const second = await this.#attempt(peer, frame, request, extra.waitMs, options, true)
    if (second !== 'stale') return second
    throw new ShoalError('peer-unreachable', `${peer} closes every stream before it answers`, { peer })
  }

  /** The peer is gone: its requests fail, its streams are dropped. */
  close(peer: PeerId): void {
    const pool = this.#pools.get(peer)
    this.#pools.delete(peer)
    pool?.close(new ShoalError('peer-unreachable', `the connection with ${peer} is closed`, { peer }))
  }

  closeAll(): void {
    for (const peer of [...this.#pools.keys()]) this.close(peer)
  }

  /** `stale`: a kept stream died before one byte of the answer, as when the peer had just closed it for idling. */
  async #attempt(
    peer: PeerId,
    frame: Uint8Array,
    request: ChunkRequest,
    waitMs: number,
    options: FetchOptions,
    fresh: boolean,
  ): Promise<FetchedChunk | 'stale'> {
    const lease = await this.#lease(peer, options.signal, fresh)
    // The clock of the peer starts here: that others of ours stood in line before us is not its fault.
    using limit = this.#noProgress(peer, options.signal, waitMs)
    let header: ChunkHeader
    try {
      await lease.bytes.write(frame, limit.signal)
      const encoded = await readFrame(lease.bytes, LIMITS.chunkHeader, limit.signal)
      header = decodeMessage(chunkHeaderSchema, encoded, LIMITS.chunkHeader)
      checkLength(header, request.into.byteLength, peer)
    } catch (error) {
      const failure = streamError(error, peer, limit.signal)
      lease.discard(failure)
      if (lease.reused && hasCode(failure, 'peer-unreachable')) return 'stale'
      throw failure
    }
    if (header.status !== 'ok') {
      lease.giveBack()
      throw refusal(header.status, peer)
    }
    await this.#readBody(lease, peer, request.into, options)
    return { voucher: header.voucher, line: header.line }
  }

  async #readBody(lease: Lease, peer: PeerId, into: Uint8Array, options: FetchOptions): Promise<void> {
    using limit = this.#noProgress(peer, options.signal)
    let counted = 0
    try {
      const onProgress = (filledBytes: number) => {
        limit.extend()
        this.#deps.traffic.received(peer, filledBytes - counted)
        counted = filledBytes
        options.onProgress(filledBytes)
      }
      const pace = bothPaces(this.#deps.pace, options.pace)
      await readInto(lease.bytes, into, limit.signal, onProgress, pace)
      lease.giveBack()
    } catch (error) {
      const failure = streamError(error, peer, limit.signal)
      lease.discard(failure)
      throw failure
    }
  }

  async #lease(peer: PeerId, signal: AbortSignal, fresh: boolean): Promise<Lease> {
    try {
      return await this.#pool(peer).lease(signal, fresh)
    } catch (error) {
      throw streamError(error, peer, signal)
    }
  }

  async #open(peer: PeerId, signal: AbortSignal): Promise<BytePipe> {
    using limit = this.#noProgress(peer, signal)
    try {
      return await this.#deps.openPipe(peer, MAX_ANSWER_BYTES, limit.signal)
    } catch (error) {
      throw streamError(error, peer, limit.signal)
    }
  }

  #noProgress(peer: PeerId, signal: AbortSignal, waitMs = 0): Deadline {
    return deadline(
      this.#deps.clock,
      this.#noProgressMs + waitMs,
      () => new ShoalError('peer-timeout', `${peer} sent nothing for ${this.#noProgressMs} ms`, { peer }),
      signal,
    )
  }

  #pool(peer: PeerId): PipePool {
    for (const [other, pool] of this.#pools) if (pool.unused) this.#pools.delete(other)
    let pool = this.#pools.get(peer)
    if (pool === undefined) {
      pool = new PipePool((signal) => this.#open(peer, signal), this.#deps.clock)
      this.#pools.set(peer, pool)
    }
    return pool
  }
}

function checkLength(header: ChunkHeader, chunkBytes: number, peer: PeerId): void {
  const expected = header.status === 'ok' ? chunkBytes : 0
  if (header.length !== expected)
    throw new ShoalError('bad-message', `${peer} announced ${header.length} bytes where ${expected} belong`, {
      peer,
    })
}

function refusal(status: Exclude<ChunkHeader['status'], 'ok'>, peer: PeerId): ShoalError {
  switch (status) {
    case 'lacks':
      return new ShoalError('peer-lacks-chunk', `${peer} does not hold the chunk`, { peer })
    case 'busy':
      return new ShoalError('peer-busy', `${peer} has no upload slot free`, { peer })
    case 'later':
      return new ShoalError('peer-later', `${peer} is giving the chunk to another host`, { peer })
    case 'refused':
      return new ShoalError('peer-refused', `${peer} may not give us the chunk`, { peer })
    case 'bad':
      return new ShoalError('peer-refused', `${peer} does not understand our request`, { peer })
  }
}
