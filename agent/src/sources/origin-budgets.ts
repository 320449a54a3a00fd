// Whose requests an origin counts together, and the pace of each such budget. Anonymous requests are counted by address, so the hosts of a
// site share that budget; requests with a token share the token's, wherever they come from; a refusal that names no empty bucket is meant
// for all. Budgets are named by digests: no token leaves this file. Keeps paces only; who tells whom is site-budget.ts.
import { createHash } from 'node:crypto'
import type { Clock, Random } from '@shoal/protocol/time.ts'
import { BoundedMap } from '../bounded-map.ts'
import type { BucketWord, OriginBucket } from '../plan/origin-buckets.ts'
import { OriginPace, type PaceFacts } from '../plan/origin-pace.ts'

export const BUDGET_KEY_BYTES = 8
/** Budgets that this host uses, and budgets it has only heard of. */
const MAX_USED = 64
const MAX_HEARD = 64

export interface OriginBudgetsDeps {
  readonly clock: Clock
  readonly random: Random
  /** This host among those that tell. */
  readonly self: string
  /** Label of the site; hosts without one are of one site. */
  readonly site: string | undefined
}

/** What one host was told about one bucket of one budget. */
export interface BudgetWord extends BucketWord {
  readonly budget: Uint8Array
}

export class OriginBudgets {
  readonly #deps: OriginBudgetsDeps
  readonly #used = new BoundedMap<string, OriginPace>(MAX_USED)
  readonly #heard = new BoundedMap<string, OriginPace>(MAX_HEARD)
  #onNews: () => void = () => {}

  constructor(deps: OriginBudgetsDeps) {
    this.#deps = deps
  }

  /** Calls `task` whenever the other hosts should be told at once. */
  onNews(task: () => void): void {
    this.#onNews = task
  }

  /** Milliseconds until a request may leave; 0 = now. `upstream` is the base URL, without a trailing slash. */
  delay(upstream: string, token: string | undefined, bucket: OriginBucket): number {
    const now = this.#deps.clock.now()
    const account = this.#account(upstream, token, bucket).delay(bucket, now)
    return Math.max(account, this.#everybody(upstream).delay(bucket, now))
  }

  /** A request leaves now. */
  take(upstream: string, token: string | undefined, bucket: OriginBucket): void {
    this.#account(upstream, token, bucket).take(bucket, this.#deps.clock.now())
  }

  answered(upstream: string, token: string | undefined, bucket: OriginBucket, facts: PaceFacts): void {
    const { clock, random } = this.#deps
    const refused = facts.status === 429 || (facts.status === 503 && facts.retryAfterMs !== undefined)
    const named = facts.rateLimits.some(({ remaining }) => remaining === 0)
    const takeIn = (pace: OriginPace, what: PaceFacts) =>
      pace.answered(bucket, what, clock.now(), random.next())
    // Both always: each learns from a good answer.
    const ofAccount = !(refused && !named) && takeIn(this.#account(upstream, token, bucket), facts)
    const ofAll = !(refused && named) && takeIn(this.#everybody(upstream), { ...facts, rateLimits: [] })
    if (ofAccount || ofAll) this.#onNews()
  }

  /** Another host tells. Budgets that this host does not use are kept apart, so that made-up ones push out no used one. */
  hear(teller: string, words: readonly BudgetWord[]): void {
    const { clock, random, self } = this.#deps
    for (const word of words) {
      const key = Buffer.from(word.budget).toString('hex')
      let pace = this.#used.get(key) ?? this.#heard.get(key)
      if (pace === undefined) {
        pace = new OriginPace(self)
        this.#heard.set(key, pace)
      }
      pace.hear(teller, word, clock.now(), random.next())
    }
  }

  /** What this host itself was told lately, at most `limit` words, those with a back-off first. */
  words(limit: number): readonly BudgetWord[] {
    const now = this.#deps.clock.now()
    return [...this.#used.entries()]
      .flatMap(([key, pace]) =>
        pace.words(now).map((word) => ({ ...word, budget: Uint8Array.from(Buffer.from(key, 'hex')) })),
      )
      .toSorted((a, b) => (b.blockedMs ?? 0) - (a.blockedMs ?? 0))
      .slice(0, limit)
  }

  #account(upstream: string, token: string | undefined, bucket: OriginBucket): OriginPace {
    // Storage hosts never see a token.
    const isAnonymous = bucket === 'content' || token === undefined || token === ''
    return this.#pace(upstream, isAnonymous ? `anonymous\n${this.#site}` : `token\n${token}`)
  }

  #everybody(upstream: string): OriginPace {
    return this.#pace(upstream, `everybody\n${this.#site}`)
  }

  get #site(): string {
    return this.#deps.site ?? ''
  }

  #pace(upstream: string, account: string): OriginPace {
    const key = keyOf(upstream, account)
    const pace = this.#used.get(key) ?? this.#heard.get(key) ?? new OriginPace(this.#deps.self)
    this.#heard.delete(key)
    this.#used.set(key, pace)
    return pace
  }
}

function keyOf(upstream: string, account: string): string {
  return createHash('sha256')
    .update(`shoal-budget-1\n${new URL(upstream).origin}\n${account}`)
    .digest('hex')
    .slice(0, 2 * BUDGET_KEY_BYTES)
}
