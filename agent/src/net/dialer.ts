// Keeps this host connected: dials who is known and not connected, again and again with growing pauses. Who is due is
// decided in peer-book.ts; whom of those to dial, and how a connection is made, is handed in.
import { messageOf } from '@shoal/protocol/errors.ts'
import type { PeerId } from '@shoal/protocol/ids.ts'
import type { Tasks } from '@shoal/protocol/service.ts'
import type { Clock } from '@shoal/protocol/time.ts'
import type { DialTarget, PeerBook } from './peer-book.ts'

const MAX_DIALS = 8
/** Never fewer, so that one dead host does not hold up all others. */
const MIN_DIALS = 2
/** A dial that fails after so long was most likely lost in a crowd: hosts that all start at once starve each other's handshakes. */
const SLOW_MS = 2_500
/** Also without news the book is looked at this often. */
const LONGEST_PAUSE_MS = 30_000

export interface DialerDeps {
  readonly book: PeerBook
  readonly tasks: Tasks
  readonly clock: Clock
  /** No dial is needed: connected, or banned for now. */
  readonly isSettled: (peer: PeerId) => boolean
  /** Whom to dial of those that are due, best first, while others are being dialled. */
  readonly choose: (
    due: readonly DialTarget[],
    dialling: readonly (PeerId | undefined)[],
  ) => readonly DialTarget[]
  /** Connects and tells who answered. `self` when it was this host. */
  readonly dial: (addresses: readonly string[], signal: AbortSignal) => Promise<PeerId | 'self'>
  readonly onFailed: (addresses: readonly string[], reason: string) => void
}

export class Dialer {
  readonly #deps: DialerDeps
  readonly #dialling = new Map<string, PeerId | undefined>()
  /** Dials at once: halved by one that takes too long, one more for each that works. */
  #limit = MAX_DIALS
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
    const { book, clock, isSettled } = this.#deps
    while (!signal.aborted) {
      this.#dialDue()
      // Who is due already is being dialled, or waits for a place: both end with a call of wake().
      const next = book.nextDueAt(clock.now(), isSettled)
      const pause = next === undefined ? LONGEST_PAUSE_MS : next - clock.now()
      await this.#pause(Math.min(LONGEST_PAUSE_MS, Math.max(50, pause)), signal)
    }
  }

  #dialDue(): void {
    const { book, clock, isSettled, choose } = this.#deps
    if (this.#dialling.size >= this.#limit) return
    const due = book.due(clock.now(), isSettled).filter(({ key }) => !this.#dialling.has(key))
    for (const target of choose(due, [...this.#dialling.values()])) {
      if (this.#dialling.size >= this.#limit) return
      this.#dialling.set(target.key, target.peer)
      this.#deps.tasks.run('dial', (signal) => this.#dialOne(target, signal))
    }
  }

  async #dialOne(target: DialTarget, signal: AbortSignal): Promise<void> {
    const { book, clock } = this.#deps
    const start = clock.now()
    try {
      const peer = await this.#deps.dial(target.addresses, signal)
      this.#limit = Math.min(MAX_DIALS, this.#limit + 1)
      if (peer === 'self') book.forget(target.key)
      else book.succeeded(target.key, peer)
    } catch (error) {
      if (signal.aborted) return
      if (clock.now() - start >= SLOW_MS) this.#limit = Math.max(MIN_DIALS, Math.floor(this.#limit / 2))
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
