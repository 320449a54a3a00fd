// Long-lived streams to one protocol of one peer, lent to one request at a time. Grows to a limit, then callers wait in
// line. A stream goes back only after a complete answer; any other end aborts it, so that no late byte is ever mistaken.
import type { Stream } from '@libp2p/interface'
import { ShoalError } from '@shoal/protocol/errors.ts'
import { abortError, type Clock } from '@shoal/protocol/time.ts'
import { ExactStream } from './exact-stream.ts'

export const MAX_STREAMS_PER_PEER = 8
const MAX_WAITING = 64
/** Below the server's limit, so that it is nearly always we who close first. */
const IDLE_CLOSE_MS = 20_000
const CLOSE_TIMEOUT_MS = 5_000

export interface Lease {
  readonly bytes: ExactStream
  /** The stream was used before: the other side may have closed it meanwhile. */
  readonly reused: boolean
  /** The answer was complete. */
  giveBack(): void
  /** Anything else. */
  discard(reason: Error): void
}

interface PooledStream {
  readonly stream: Stream
  readonly bytes: ExactStream
  /** Cancels the timer that ends a stream which nobody uses. */
  cancelTimer: () => void
}

interface Waiter {
  readonly resolve: (lease: Lease) => void
  readonly reject: (error: Error) => void
  readonly signal: AbortSignal
  readonly onAbort: () => void
}

export class StreamPool {
  readonly #open: (signal: AbortSignal) => Promise<Stream>
  readonly #clock: Clock
  readonly #maxBufferedBytes: number
  readonly #idle: PooledStream[] = []
  readonly #streams = new Set<Stream>()
  readonly #waiting: Waiter[] = []
  #lent = 0
  #closed = false

  /** @param maxBufferedBytes the largest answer: more unread bytes than that reset the stream */
  constructor(open: (signal: AbortSignal) => Promise<Stream>, clock: Clock, maxBufferedBytes: number) {
    this.#open = open
    this.#clock = clock
    this.#maxBufferedBytes = maxBufferedBytes
  }

  /** True when nothing is lent, kept or waited for. */
  get unused(): boolean {
    return this.#lent === 0 && this.#streams.size === 0 && this.#waiting.length === 0
  }

  /**
   * A stream for one request: a kept one, a new one, or the next that is given back.
   * @param fresh never a kept one
   * @throws ShoalError `peer-busy` when too many wait already; what opening throws; the signal's reason
   */
  async lease(signal: AbortSignal, fresh = false): Promise<Lease> {
    if (signal.aborted) throw abortError(signal)
    if (this.#closed) throw new ShoalError('peer-unreachable', 'the connection is closing')
    // When one kept stream turned out dead, the others most likely are.
    if (fresh) for (const old of [...this.#idle]) this.#retire(old)
    const kept = this.#takeIdle()
    if (kept !== undefined) {
      this.#lent++
      return this.#leaseOf(kept, true)
    }
    if (this.#lent < MAX_STREAMS_PER_PEER) return this.#openLease(signal)
    if (this.#waiting.length >= MAX_WAITING)
      throw new ShoalError('peer-busy', `${MAX_WAITING} requests to this peer wait already`)
    return new Promise((resolve, reject) => {
      const onAbort = () => {
        this.#waiting.splice(this.#waiting.indexOf(waiter), 1)
        reject(abortError(signal))
      }
      const waiter: Waiter = { resolve, reject, signal, onAbort }
      this.#waiting.push(waiter)
      signal.addEventListener('abort', onAbort, { once: true })
    })
  }

  /** Aborts every stream; requests under way and in line fail. */
  close(reason: Error): void {
    this.#closed = true
    for (const waiter of this.#waiting.splice(0)) {
      waiter.signal.removeEventListener('abort', waiter.onAbort)
      waiter.reject(reason)
    }
    for (const kept of this.#idle) kept.cancelTimer()
    for (const stream of [...this.#streams]) stream.abort(reason)
  }

  async #openLease(signal: AbortSignal): Promise<Lease> {
    this.#lent++
    try {
      const stream = await this.#open(signal)
      if (this.#closed) {
        const gone = new ShoalError('peer-unreachable', 'the connection is closing')
        stream.abort(gone)
        throw gone
      }
      this.#streams.add(stream)
      const pooled: PooledStream = {
        stream,
        bytes: new ExactStream(stream, this.#maxBufferedBytes),
        cancelTimer: () => {},
      }
      stream.addEventListener('close', () => this.#forget(pooled), { once: true })
      // Nothing may arrive while nothing is asked for; it would be taken for the next answer.
      stream.addEventListener('message', () => {
        if (this.#idle.includes(pooled)) stream.abort(new Error('bytes that nobody asked for'))
      })
      stream.addEventListener('remoteCloseWrite', () => {
        if (this.#idle.includes(pooled)) this.#retire(pooled)
      })
      return this.#leaseOf(pooled, false)
    } catch (error) {
      this.#lent--
      this.#serveNext()
      throw error
    }
  }

  #leaseOf(pooled: PooledStream, reused: boolean): Lease {
    let ended = false
    const end = (whenLive: () => void) => {
      if (ended) return
      ended = true
      this.#lent--
      whenLive()
      this.#serveNext()
    }
    return {
      bytes: pooled.bytes,
      reused,
      giveBack: () => end(() => this.#keep(pooled)),
      discard: (reason) => end(() => pooled.stream.abort(reason)),
    }
  }

  #keep(pooled: PooledStream): void {
    const { stream } = pooled
    const live = stream.status === 'open' && stream.remoteWriteStatus === 'writable'
    // Bytes behind the answer would be taken for the next one.
    if (!live || this.#closed || pooled.bytes.unreadBytes > 0) {
      stream.abort(new Error('not reusable'))
      return
    }
    this.#idle.push(pooled)
    pooled.cancelTimer = this.#clock.after(IDLE_CLOSE_MS, () => this.#retire(pooled))
  }

  #takeIdle(): PooledStream | undefined {
    const pooled = this.#idle.pop()
    pooled?.cancelTimer()
    return pooled
  }

  #retire(pooled: PooledStream): void {
    const { stream } = pooled
    this.#dropIdle(pooled)
    pooled.cancelTimer = this.#clock.after(CLOSE_TIMEOUT_MS, () =>
      stream.abort(new Error('not closed in time')),
    )
    stream.close().catch((error: Error) => stream.abort(error))
  }

  #forget(pooled: PooledStream): void {
    this.#dropIdle(pooled)
    this.#streams.delete(pooled.stream)
  }

  #dropIdle(pooled: PooledStream): void {
    pooled.cancelTimer()
    const at = this.#idle.indexOf(pooled)
    if (at !== -1) this.#idle.splice(at, 1)
  }

  #serveNext(): void {
    if (this.#closed || this.#waiting.length === 0 || this.#lent >= MAX_STREAMS_PER_PEER) return
    const waiter = this.#waiting.shift()
    if (waiter === undefined) return
    waiter.signal.removeEventListener('abort', waiter.onAbort)
    this.lease(waiter.signal).then(waiter.resolve, waiter.reject)
  }
}
