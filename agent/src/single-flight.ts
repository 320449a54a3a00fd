// One question, many askers: who asks while the same question is open gets its answer. The question outlives askers that
// give up, so that the next one finds it further along; its own time-outs end it.
import { ShoalError } from '@shoal/protocol/errors.ts'
import { abortError, type Clock } from '@shoal/protocol/time.ts'

/** Questions open at once. More come only from a flood of different names. */
const MAX_OPEN = 2_048

export interface SingleFlight<T> {
  /**
   * The answer of `work`, begun unless a question with this key is open. `signal` ends the waiting only.
   * @throws what `work` throws; ShoalError `aborted`; `origin-rate-limited` when too many questions are open
   */
  run(key: string, work: (signal: AbortSignal) => Promise<T>, signal: AbortSignal): Promise<T>
  /** Aborts all and waits for their end. */
  stop(): Promise<void>
}

export function createSingleFlight<T>(): SingleFlight<T> {
  const open = new Map<string, Promise<T>>()
  const stopping = new AbortController()
  return {
    run(key, work, signal) {
      if (signal.aborted) return Promise.reject(abortError(signal))
      let question = open.get(key)
      if (question === undefined) {
        if (stopping.signal.aborted)
          return Promise.reject(new ShoalError('not-running', 'the agent is stopping'))
        if (open.size >= MAX_OPEN)
          return Promise.reject(
            new ShoalError('origin-rate-limited', 'too many questions wait for the Hub', {
              retryAfterMs: 5_000,
            }),
          )
        question = work(stopping.signal).finally(() => open.delete(key))
        // Its askers see the error; when all have left, nobody does.
        question.catch(() => {})
        open.set(key, question)
      }
      return orAborted(question, signal)
    },
    async stop() {
      stopping.abort(new ShoalError('not-running', 'the agent is stopping'))
      await Promise.allSettled(open.values())
    },
  }
}

/** `promise`, or `aborted` as soon as `signal` fires. The promise itself goes on. */
export function orAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const onAbort = () => reject(abortError(signal))
    if (signal.aborted) onAbort()
    signal.addEventListener('abort', onAbort, { once: true })
    promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', onAbort))
  })
}

export type Outcome<T> =
  | { readonly state: 'done'; readonly value: T }
  | { readonly state: 'failed'; readonly error: unknown }
  /** Not yet: it goes on. */
  | { readonly state: 'open' }

/** How `promise` stands after at most `patienceMs`. */
export function outcomeWithin<T>(promise: Promise<T>, patienceMs: number, clock: Clock): Promise<Outcome<T>> {
  return new Promise((resolve) => {
    const cancel = clock.after(patienceMs, () => resolve({ state: 'open' }))
    promise.then(
      (value) => {
        cancel()
        resolve({ state: 'done', value })
      },
      (error: unknown) => {
        cancel()
        resolve({ state: 'failed', error })
      },
    )
  })
}
