// Where the bytes of one file are at one origin: the Hub's `resolve` answer leads to a signed link, which is kept until it
// nearly expires and asked for again when it is refused. One question for all chunks that wait. Never stored, never logged.
import type { ByteRange } from '@shoal/protocol/chunks.ts'
import { ShoalError } from '@shoal/protocol/errors.ts'
import { abortError, type Clock } from '@shoal/protocol/time.ts'
import type { EgressAnswer } from './egress.ts'
import { bareEtag, signedUrlExpiry } from './http-facts.ts'
import type { HubFile } from './hub.ts'
import { refusalOf } from './hub-refusal.ts'
import { hubRoutes } from './hub-routes.ts'
import { checkIdentity } from './origin-answer.ts'
import type { Upstream } from './upstreams.ts'

const EXPIRY_MARGIN_MS = 30_000
/** A link that does not say when it ends. */
const DEFAULT_LIFE_MS = 10 * 60_000
const MAX_RENEWALS = 2
const RENEWAL_WINDOW_MS = 60_000
/** What storage hosts answer to a link that has expired. */
const EXPIRED: ReadonlySet<number> = new Set([400, 401, 403, 404, 410])

interface Link {
  readonly url: URL
  readonly until: number
  /** Strong ETag of the content behind this link, once seen: all parts must carry the same. */
  etag: string | undefined
}

export class OriginLink {
  readonly #file: HubFile
  readonly #upstream: Upstream
  readonly #clock: Clock
  readonly #resolveUrl: URL
  #link: Link | undefined
  #resolving: Promise<void> | undefined
  #renewals: readonly number[] = []

  constructor(file: HubFile, upstream: Upstream, clock: Clock) {
    this.#file = file
    this.#upstream = upstream
    this.#clock = clock
    this.#resolveUrl = new URL(upstream.base + hubRoutes.resolve(file.repo, file.commit, file.entry.path))
  }

  /**
   * GET of a range, wherever the file lies now. Status 200 or 206; identity checked, range headers not yet.
   * @throws ShoalError `origin-*`, `repo-*`, `file-not-found`, `unauthorized`, `forbidden`, `aborted`
   */
  async open(
    range: ByteRange | undefined,
    token: () => string | undefined,
    signal: AbortSignal,
  ): Promise<EgressAnswer> {
    for (;;) {
      const link = this.#link
      if (link !== undefined && this.#clock.now() < link.until) {
        const answer = await this.#get(link.url, range, token(), signal)
        if (!EXPIRED.has(answer.status) || link.url.href === this.#resolveUrl.href)
          return this.#accept(answer, link, token())
        answer.discard()
        if (this.#link === link) this.#expire()
        continue
      }
      if (this.#resolving !== undefined) {
        await settled(this.#resolving, signal)
        continue
      }
      return await this.#resolve(range, token, signal)
    }
  }

  async #resolve(
    range: ByteRange | undefined,
    token: () => string | undefined,
    signal: AbortSignal,
  ): Promise<EgressAnswer> {
    const { promise, resolve: done } = Promise.withResolvers<void>()
    this.#resolving = promise
    try {
      const answer = await this.#get(this.#resolveUrl, range, token(), signal)
      const moved = answer.url.href !== this.#resolveUrl.href
      if (moved && EXPIRED.has(answer.status) && !this.#upstream.egress.isUpstream(answer.url)) {
        answer.discard()
        this.#expire()
        throw new ShoalError('origin-unreachable', `${answer.url.host} refuses a link just given`, {
          host: answer.url.host,
          httpStatus: answer.status,
        })
      }
      const link: Link = { url: answer.url, until: this.#endOf(answer.url), etag: undefined }
      const accepted = await this.#accept(answer, link, token())
      this.#link = link
      return accepted
    } finally {
      this.#resolving = undefined
      done()
    }
  }

  #get(
    url: URL,
    range: ByteRange | undefined,
    token: string | undefined,
    signal: AbortSignal,
  ): Promise<EgressAnswer> {
    const { egress } = this.#upstream
    const headers: Record<string, string> =
      range === undefined ? {} : { range: `bytes=${range.start}-${range.end - 1}` }
    return egress.get({ url, kind: 'resolvers', token, headers, signal }, (redirect) =>
      this.#check(redirect, false),
    )
  }

  async #accept(answer: EgressAnswer, link: Link, token: string | undefined): Promise<EgressAnswer> {
    const details = { host: answer.url.host, httpStatus: answer.status }
    if (answer.status === 416) {
      answer.discard()
      throw new ShoalError('origin-changed', `${details.host} has a file of another size`, details)
    }
    if (answer.status >= 400) {
      const refusal = await refusalOf(answer, 'file-not-found', token, this.#clock)
      // Only the Hub's own host may say who may read what.
      if (this.#upstream.egress.isUpstream(answer.url) || refusal.code.startsWith('origin-')) throw refusal
      throw new ShoalError('origin-bad-answer', `${details.host} answered ${answer.status}`, details)
    }
    try {
      if (answer.status !== 200 && answer.status !== 206)
        throw new ShoalError('origin-bad-answer', `${details.host} answered ${answer.status}`, details)
      this.#check(answer, this.#upstream.egress.isUpstream(answer.url))
      const etag = strongEtag(answer.header('etag'))
      if (link.etag !== undefined && etag !== undefined && etag !== link.etag)
        throw new ShoalError('origin-changed', `${details.host} has other content than before`, details)
      link.etag ??= etag
      return answer
    } catch (error) {
      answer.discard()
      throw error
    }
  }

  #check(answer: EgressAnswer, own: boolean): void {
    const facts = { status: answer.status, host: answer.url.host, header: answer.header }
    checkIdentity(facts, this.#file.commit, this.#file.entry, own)
  }

  /** Forgets the link. @throws ShoalError `origin-unreachable` when that happens too often */
  #expire(): void {
    this.#link = undefined
    const now = this.#clock.now()
    this.#renewals = this.#renewals.filter((at) => now - at < RENEWAL_WINDOW_MS)
    if (this.#renewals.length >= MAX_RENEWALS) {
      const { host } = this.#resolveUrl
      throw new ShoalError('origin-unreachable', `the links that ${host} gives are refused again and again`, {
        host,
        httpStatus: 403,
      })
    }
    this.#renewals = [...this.#renewals, now]
  }

  /** On our own clock: how long the link may be used. */
  #endOf(url: URL): number {
    const now = this.#clock.now()
    const expiry = signedUrlExpiry(url)
    if (expiry === undefined) return now + DEFAULT_LIFE_MS
    return now + Math.min(expiry - this.#clock.wallTime() - EXPIRY_MARGIN_MS, 24 * 3_600_000)
  }
}

function strongEtag(text: string | undefined): string | undefined {
  return text?.startsWith('W/') ? undefined : bareEtag(text)
}

/** Waits for `promise`, which never rejects, or for the signal. */
async function settled(promise: Promise<void>, signal: AbortSignal): Promise<void> {
  const { promise: stopped, reject } = Promise.withResolvers<never>()
  const onAbort = () => reject(abortError(signal))
  if (signal.aborted) onAbort()
  signal.addEventListener('abort', onAbort, { once: true })
  try {
    await Promise.race([promise, stopped])
  } finally {
    signal.removeEventListener('abort', onAbort)
  }
}
