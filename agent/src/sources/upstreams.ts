// Several origins as one: the Hub and mirrors in their order, retries with back-off, and a rest for one that cannot be
// reached. Decides whom to ask next; what is asked is the caller's business.
//
// Rules: an origin that fails (unreachable, 5xx, 408, 429, nonsense) is passed over for the next one, and when all have
// failed the whole order is tried again after a pause. One that lacks what was asked (404, or a 401 that may mean so) is
// passed over too, and "not found" is the result only when every origin said so. A refusal by an origin that knows the repo
// (gated, disabled, bad token) is final: no other origin is asked to get around it.
import { asShoalError, type ErrorCode, isAbort, type ShoalError } from '@shoal/protocol/errors.ts'
import { type Clock, type Random, sleep } from '@shoal/protocol/time.ts'
import { BoundedMap } from '../bounded-map.ts'
import { type Backoff, retryDelayMs } from '../plan/origin-pace.ts'
import type { Egress } from './egress.ts'

const FIRST_REST_MS = 2_000
const MAX_REST_MS = 30_000
const MAX_STORAGE_HOSTS = 64

export interface RetryRule {
  readonly maxRetries: number
  readonly backoff: Backoff
  /** A pause that an origin asks for and that is longer ends the question. */
  readonly maxPaceWaitMs: number
}

/** One origin: where it is, how to ask it, and whether it is worth asking just now. */
export class Upstream {
  /** Without a trailing slash. */
  readonly base: string
  readonly egress: Egress
  #restUntil = 0
  #failures = 0
  #lastFailure: ShoalError | undefined
  readonly #storage = new BoundedMap<string, true>(MAX_STORAGE_HOSTS)

  constructor(base: string, egress: Egress) {
    this.base = base
    this.egress = egress
  }

  /** Why it is not asked at `now`, or undefined. */
  resting(now: number): ShoalError | undefined {
    return now < this.#restUntil ? this.#lastFailure : undefined
  }

  /** It could not be reached in spite of retries: requests fail at once for a while, so that nobody waits in vain. */
  rest(failure: ShoalError, now: number): void {
    this.#lastFailure = failure
    this.#restUntil = now + Math.min(FIRST_REST_MS * 2 ** Math.min(this.#failures++, 8), MAX_REST_MS)
  }

  /** It led to a file at this host (and port). */
  noteStorage(host: string): void {
    this.#storage.set(host, true)
  }

  isStorage(host: string): boolean {
    return this.#storage.get(host) === true
  }

  answered(): void {
    this.#restUntil = 0
    this.#failures = 0
  }
}

const ABSENT: ReadonlySet<ErrorCode> = new Set([
  'repo-not-found',
  'revision-not-found',
  'file-not-found',
  'not-found',
])

/** The origin does not have it, as far as the asker may know: another may. */
export function isAbsent(error: ShoalError): boolean {
  return ABSENT.has(error.code)
}

/** The origin could not give a proper answer: another may, or the same one later. */
export function isOriginFailure(error: ShoalError): boolean {
  return error.code.startsWith('origin-')
}

/** Worth asking the same origin again soon, after `tries` failed tries. */
export function mayRetry(error: ShoalError, tries: number, rule: RetryRule): boolean {
  if (tries > rule.maxRetries) return false
  if (error.code === 'origin-unreachable') return true
  if (error.code === 'origin-rate-limited')
    return Number(error.details.retryAfterMs ?? 0) <= rule.maxPaceWaitMs
  return error.code === 'origin-bad-answer' && tries <= 1
}

/**
 * Asks the origins in order until one answers. @throws what `ask` throws, chosen by the rules above.
 * A request fails within one time-out when all origins rest.
 */
export async function askInOrder<T>(
  upstreams: readonly Upstream[],
  rule: RetryRule,
  deps: { readonly clock: Clock; readonly random: Random },
  ask: (upstream: Upstream) => Promise<T>,
  signal: AbortSignal,
): Promise<T> {
  for (let tries = 1; ; tries++) {
    const unreachable: Upstream[] = []
    let failure: ShoalError | undefined
    let absent: ShoalError | undefined
    let asked = 0
    for (const upstream of upstreams) {
      const resting = upstream.resting(deps.clock.now())
      if (resting !== undefined) {
        failure ??= resting
        continue
      }
      asked++
      try {
        const answer = await ask(upstream)
        upstream.answered()
        return answer
      } catch (error) {
        const known = asShoalError(error)
        if (known === undefined || isAbort(error)) throw error
        const noAnswer = known.code === 'origin-unreachable' && known.details.httpStatus === undefined
        if (noAnswer) unreachable.push(upstream)
        else upstream.answered()
        if (isAbsent(known)) absent ??= known
        else if (isOriginFailure(known)) failure = known
        else throw known
      }
    }
    if (failure === undefined) throw absent ?? new Error('no origin is configured')
    if (asked === 0 || !mayRetry(failure, tries, rule)) {
      for (const upstream of unreachable) upstream.rest(failure, deps.clock.now())
      throw failure
    }
    // A rate limit is waited for by the pace; everything else by back-off.
    if (failure.code !== 'origin-rate-limited')
      await sleep(deps.clock, retryDelayMs(tries, rule.backoff, deps.random.next()), signal)
  }
}
