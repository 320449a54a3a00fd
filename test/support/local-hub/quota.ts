// The Hub's rate limits: one fixed window a caller and bucket, told in RateLimit headers on every answer. Pure; `now` is given.
import type { RouteKind } from './route.ts'

export interface Quotas {
  /** Requests a window, for callers without a token and for users. */
  readonly api: { readonly anonymous: number; readonly user: number }
  readonly resolvers: { readonly anonymous: number; readonly user: number }
  readonly windowSeconds: number
  /** Whether a 429 also says Retry-After (the real one says it in RateLimit). */
  readonly retryAfter: boolean
}

/** What the real Hub gave in September 2025. */
export const REAL_QUOTAS: Quotas = {
  api: { anonymous: 500, user: 1000 },
  resolvers: { anonymous: 3000, user: 5000 },
  windowSeconds: 300,
  retryAfter: false,
}

export class RateLimiter {
  readonly #windows = new Map<string, { used: number; startedAt: number }>()
  quotas: Quotas

  constructor(quotas: Quotas) {
    this.quotas = quotas
  }

  /** Counts one request. @param nowMs from any clock that only grows */
  take(
    kind: RouteKind,
    user: string | undefined,
    nowMs: number,
  ): { ok: boolean; headers: Record<string, string> } {
    const bucket = bucketOf(kind)
    if (bucket === undefined) return { ok: true, headers: {} }
    const quota = this.quotas[bucket][user === undefined ? 'anonymous' : 'user']
    const window = this.#window(`${bucket} ${user ?? ''}`, nowMs)
    window.used += 1
    const left = Math.max(0, quota - window.used)
    // Counted from the window's start: `(now + length) - now` may round to more than the length.
    const seconds = Math.ceil(this.quotas.windowSeconds - (nowMs - window.startedAt) / 1000)
    const ok = window.used <= quota
    return {
      ok,
      headers: {
        RateLimit: `"${bucket}";r=${left};t=${seconds}`,
        'RateLimit-Policy': `"fixed window";"${bucket}";q=${quota};w=${this.quotas.windowSeconds}`,
        ...(!ok && this.quotas.retryAfter ? { 'Retry-After': String(seconds) } : {}),
      },
    }
  }

  #window(key: string, nowMs: number): { used: number; startedAt: number } {
    const known = this.#windows.get(key)
    if (known !== undefined && nowMs - known.startedAt < this.quotas.windowSeconds * 1000) return known
    const fresh = { used: 0, startedAt: nowMs }
    this.#windows.set(key, fresh)
    return fresh
  }
}

function bucketOf(kind: RouteKind): 'api' | 'resolvers' | undefined {
  // Whether the second hop of a small file counts is not known; here it does not.
  if (kind === 'cdn' || kind === 'resolve-cache') return undefined
  return kind === 'resolve' || kind === 'raw' ? 'resolvers' : 'api'
}
