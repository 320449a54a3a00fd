// Keeps this host connected: dials who is known and not connected, again and again with growing pauses. What to dial
// and when is decided in peer-book.ts; how a connection is made is handed in.
import { messageOf } from '@shoal/protocol/errors.ts'
import type { PeerId } from '@shoal/protocol/ids.ts'
import type { Tasks } from '@shoal/protocol/service.ts'
import type { Clock } from '@shoal/protocol/time.ts'
import type { DialTarget, PeerBook } from './peer-book.ts'

const MAX_DIALS = 8
/** Also without news the book is looked at this often. */
const LONGEST_PAUSE_MS = 30_000

export interface DialerDeps {
  readonly book: PeerBook
  readonly tasks: Tasks
  readonly clock: Clock
  /** No dial is needed: connected, or banned for now. */
  readonly isSettled: (peer: PeerId) => boolean
  /** Enough connections: nobody else is dialled until one ends. */
  readonly isFull: () => boolean
  /** Connects and tells who answered. `self` when it was this host. */
  readonly dial: (addresses: readonly string[], signal: AbortSignal) => Promise<PeerId | 'self'>
  readonly onFailed: (addresses: readonly string[], reason: string) => void
}

export class Dialer {
  readonly #deps: DialerDeps
  readonly #dialling = new Set<string>()
  #wake: () => void = () => {}

  constructor(deps: DialerDeps) {
    this.#deps = deps
  }

  start(): void {
    this.#deps.tasks.run('dialer', (signal) => this.#run(signal))
  }

  /** Something changed: look at the book now. */
  wake(): void {
    this.#wake()
  }

  async #run(signal: AbortSignal): Promise<void> {
    const { book, clock, isSettled, isFull } = this.#deps
    while (!signal.aborted) {
      this.#dialDue()
      const busy = isFull() || this.#dialling.size >= MAX_DIALS
      const next = busy ? undefined : book.nextDueAt(isSettled, this.#dialling)
      const pause = next === undefined ? LONGEST_PAUSE_MS : next - clock.now()
      await this.#pause(Math.min(LONGEST_PAUSE_MS, Math.max(50, pause)), signal)
    }
  }

  #dialDue(): void {
    const { book, clock, isSettled, isFull } = this.#deps
    if (isFull()) return
    for (const target of book.due(clock.now(), isSettled)) {
      if (this.#dialling.size >= MAX_DIALS) return
      if (this.#dialling.has(target.key)) continue
      this.#dialling.add(target.key)
      this.#deps.tasks.run('dial', (signal) => this.#dialOne(target, signal))
    }
  }

  async #dialOne(target: DialTarget, signal: AbortSignal): Promise<void> {
    const { book, clock } = this.#deps
    try {
      const peer = await this.#deps.dial(target.addresses, signal)
      if (peer === 'self') book.forget(target.key)
      else book.succeeded(target.key, peer)
    } catch (error) {
      if (signal.aborted) return
      book.failed(target.key, clock.now())
      this.#deps.onFailed(target.addresses, messageOf(error))
    } finally {
      this.#dialling.delete(target.key)
      this.#wake()
    }
  }

  #pause(delayMs: number, signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const end = () => {
        cancel()
        signal.removeEventListener('abort', end)
        this.#wake = () => {}
        resolve()
      }
      const cancel = this.#deps.clock.after(delayMs, end)
      signal.addEventListener('abort', end, { once: true })
      this.#wake = end
    })
  }
}
