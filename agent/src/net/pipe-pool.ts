// Long-lived pipes for chunks of one peer, lent to one request at a time. Grows to a limit, then callers wait in
// line. A pipe goes back only after a complete answer; any other end aborts it, so that no late byte is ever mistaken.
import { ShoalError } from '@shoal/protocol/errors.ts'
import { abortError, type Clock } from '@shoal/protocol/time.ts'
import type { BytePipe } from './byte-pipe.ts'

export const MAX_STREAMS_PER_PEER = 8
const MAX_WAITING = 64
/** Below the server's limit, so that it is nearly always we who close first. */
const IDLE_CLOSE_MS = 20_000
const CLOSE_TIMEOUT_MS = 5_000

export interface Lease {
  readonly bytes: BytePipe
  /** The pipe was used before: the other side may have closed it meanwhile. */
  readonly reused: boolean
  /** The answer was complete. */
  giveBack(): void
  /** Anything else. */
  discard(reason: Error): void
}

interface PooledPipe {
  readonly pipe: BytePipe
  /** Cancels the timer that ends a pipe which nobody uses. */
  cancelTimer: () => void
}

interface Waiter {
  readonly resolve: (lease: Lease) => void
  readonly reject: (error: Error) => void
  readonly signal: AbortSignal
  readonly onAbort: () => void
}

export class PipePool {
  readonly #open: (signal: AbortSignal) => Promise<BytePipe>
  readonly #clock: Clock
  readonly #idle: PooledPipe[] = []
  readonly #pipes = new Set<BytePipe>()
  readonly #waiting: Waiter[] = []
  #lent = 0
  #closed = false

  constructor(open: (signal: AbortSignal) => Promise<BytePipe>, clock: Clock) {
    this.#open = open
    this.#clock = clock
  }

  /** True when nothing is lent, kept or waited for. */
  get unused(): boolean {
    return this.#lent === 0 && this.#pipes.size === 0 && this.#waiting.length === 0
  }

  /**
   * A pipe for one request: a kept one, a new one, or the next that is given back.
   * @param fresh never a kept one
   * @throws ShoalError `peer-busy` when too many wait already; what opening throws; the signal's reason
   */
  async lease(signal: AbortSignal, fresh = false): Promise<Lease> {
    if (signal.aborted) throw abortError(signal)
    if (this.#closed) throw new ShoalError('peer-unreachable', 'the connection is closing')
    // When one kept pipe turned out dead, the others most likely are.
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

  /** Aborts every pipe; requests under way and in line fail. */
  close(reason: Error): void {
    this.#closed = true
    for (const waiter of this.#waiting.splice(0)) {
      waiter.signal.removeEventListener('abort', waiter.onAbort)
      waiter.reject(reason)
    }
    for (const kept of this.#idle) kept.cancelTimer()
    for (const pipe of [...this.#pipes]) pipe.abort(reason)
  }

  async #openLease(signal: AbortSignal): Promise<Lease> {
    this.#lent++
    try {
      const pipe = await this.#open(signal)
      if (this.#closed) {
        const gone = new ShoalError('peer-unreachable', 'the connection is closing')
        pipe.abort(gone)
        throw gone
      }
      this.#pipes.add(pipe)
      const pooled: PooledPipe = { pipe, cancelTimer: () => {} }
      pipe.watch({
        closed: () => this.#forget(pooled),
        // Nothing may arrive while nothing is asked for; it would be taken for the next answer.
        came: () => {
          if (this.#idle.includes(pooled)) pipe.abort(new Error('bytes that nobody asked for'))
        },
        ended: () => {
          if (this.#idle.includes(pooled)) this.#retire(pooled)
        },
      })
      return this.#leaseOf(pooled, false)
    } catch (error) {
      this.#lent--
      this.#serveNext()
      throw error
    }
  }

  #leaseOf(pooled: PooledPipe, reused: boolean): Lease {
    let ended = false
    const end = (whenLive: () => void) => {
      if (ended) return
      ended = true
      this.#lent--
      whenLive()
      this.#serveNext()
    }
    return {
      bytes: pooled.pipe,
      reused,
      giveBack: () => end(() => this.#keep(pooled)),
      discard: (reason) => end(() => pooled.pipe.abort(reason)),
    }
  }

  #keep(pooled: PooledPipe): void {
    const { pipe } = pooled
    // Bytes behind the answer would be taken for the next one.
    if (!pipe.usable || this.#closed || pipe.unreadBytes > 0) {
      pipe.abort(new Error('not reusable'))
      return
    }
    this.#idle.push(pooled)
    pooled.cancelTimer = this.#clock.after(IDLE_CLOSE_MS, () => this.#retire(pooled))
  }

  #takeIdle(): PooledPipe | undefined {
    const pooled = this.#idle.pop()
    pooled?.cancelTimer()
    return pooled
  }

  #retire(pooled: PooledPipe): void {
    const { pipe } = pooled
    this.#dropIdle(pooled)
    pooled.cancelTimer = this.#clock.after(CLOSE_TIMEOUT_MS, () =>
      pipe.abort(new Error('not closed in time')),
    )
    pipe.close().catch((error: Error) => pipe.abort(error))
  }

  #forget(pooled: PooledPipe): void {
    this.#dropIdle(pooled)
    this.#pipes.delete(pooled.pipe)
  }

  #dropIdle(pooled: PooledPipe): void {
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
