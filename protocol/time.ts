// Time and chance as values that can be handed in. The only file that touches timers, the clock or randomness;
// everything else takes a Clock or a Random, so that tests and the simulation can own them.
import { ShoalError } from './errors.ts'

export interface Clock {
  /** Milliseconds that only ever grow (a host that slept or had its clock set does not confuse them). */
  now(): number
  /** Unix time in milliseconds: for stamps that other hosts read, never for durations. */
  wallTime(): number
  /** Runs `task` once after `delayMs`; the returned function cancels it. */
  after(delayMs: number, task: () => void): () => void
}

export interface Random {
  /** Uniform in [0, 1). */
  next(): number
}

export const systemClock: Clock = {
  now: () => performance.now(),
  wallTime: () => Date.now(),
  after(delayMs, task) {
    const timer = setTimeout(task, delayMs)
    return () => clearTimeout(timer)
  },
}

export const systemRandom: Random = { next: () => Math.random() }

/** A small fast seeded generator (mulberry32, public domain by T. Ettinger): same seed, same run. */
export function seededRandom(seed: number): Random {
  let state = seed >>> 0
  return {
    next() {
      state = (state + 0x6d2b79f5) >>> 0
      let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
      mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
      return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296
    },
  }
}

/** Resolves after `delayMs`, or rejects with `aborted` as soon as `signal` fires. */
export function sleep(clock: Clock, delayMs: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(abortError(signal))
    const onAbort = () => {
      cancel()
      reject(abortError(signal))
    }
    const cancel = clock.after(delayMs, () => {
      signal?.removeEventListener('abort', onAbort)
      resolve()
    })
    signal?.addEventListener('abort', onAbort, { once: true })
  })
}

/** What a waiting function throws when its signal fires. Keeps a ShoalError given as the reason. */
export function abortError(signal?: AbortSignal): ShoalError {
  const reason: unknown = signal?.reason
  if (reason instanceof ShoalError) return reason
  return new ShoalError('aborted', 'the work was cancelled', {}, reason)
}

/** Throws what {@link abortError} gives if the signal has fired. */
export function throwIfAborted(signal?: AbortSignal): void {
  if (signal?.aborted) throw abortError(signal)
}

export interface Deadline extends Disposable {
  readonly signal: AbortSignal
  /** Starts the time again: for "no progress for so long" rather than "longer than so long". */
  extend(): void
}

/**
 * A signal that fires when `parent` does or when `timeoutMs` has passed, with `makeError()` as the reason.
 * Dispose it when the work is done. A deadline aborts the work itself; it does not only stop waiting for it.
 */
export function deadline(
  clock: Clock,
  timeoutMs: number,
  makeError: () => ShoalError,
  parent?: AbortSignal,
): Deadline {
  const controller = new AbortController()
  let disposed = false
  let cancelTimer: () => void = () => {}
  let endsAt = clock.now() + timeoutMs
  // Extended for each piece of a transfer: that only moves the end, and the timer looks again when it fires.
  const wait = (waitMs: number) => {
    cancelTimer = clock.after(waitMs, () => {
      const leftMs = endsAt - clock.now()
      if (leftMs > 0) wait(leftMs)
      else controller.abort(makeError())
    })
  }
  const onParent = () => {
    cancelTimer()
    controller.abort(abortError(parent))
  }
  if (parent?.aborted) onParent()
  else {
    parent?.addEventListener('abort', onParent, { once: true })
    wait(timeoutMs)
  }
  return {
    signal: controller.signal,
    extend() {
      if (!controller.signal.aborted && !disposed) endsAt = clock.now() + timeoutMs
    },
    [Symbol.dispose]() {
      disposed = true
      cancelTimer()
      parent?.removeEventListener('abort', onParent)
    },
  }
}

/** Runs `act` when everything that the system has ready just now has been taken in. */
export function atEndOfTurn(act: () => void): void {
  setImmediate(act)
}
