// Where the bytes of one file are at one origin: the Hub's `resolve` answer leads to a signed link, which is kept until it
// nearly expires and asked for again when it is refused. One question for all chunks that wait, and for all hosts of the site
// that may read the file. Never stored, never logged.
import type { ByteRange } from '@shoal/protocol/chunks.ts'
import { hasCode, ShoalError } from '@shoal/protocol/errors.ts'
import { abortError, type Clock } from '@shoal/protocol/time.ts'
import type { EgressAnswer } from './egress.ts'
import { bareEtag, signedUrlExpiry } from './http-facts.ts'
import type { HubFile } from './hub.ts'
import { refusalOf } from './hub-refusal.ts'
import { hubRoutes } from './hub-routes.ts'
import { checkIdentity } from './origin-answer.ts'
import { checkedLink, type LinkTurn, type SharedLinks } from './shared-link.ts'
import type { Upstream } from './upstreams.ts'

const EXPIRY_MARGIN_MS = 30_000
/** A link that does not say when it ends. */
const DEFAULT_LIFE_MS = 10 * 60_000
const MAX_RENEWALS = 2
const RENEWAL_WINDOW_MS = 60_000
/** The first may just have expired. */
const MAX_WASTED = 2
/** What storage hosts answer to a link that has expired. */
const EXPIRED: ReadonlySet<number> = new Set([400, 401, 403, 404, 410])

interface Link {
  readonly url: URL
  readonly until: number
  /** Strong ETag of the content behind this link, once seen: all parts must carry the same. */
  etag: string | undefined
  /** Another host found it. */
  readonly shared: boolean
  /** Times in a row that no proper answer came to it. */
  failures: number
}

export class OriginLink {
  readonly #file: HubFile
  readonly #upstream: Upstream
  readonly #clock: Clock
  readonly #resolveUrl: URL
  #link: Link | undefined
  #resolving: Promise<void> | undefined
  readonly #shared: SharedLinks | undefined
  #renewals: readonly number[] = []
  /** The last link that the storage host refused. */
  #useless: string | undefined
  /** Links from other hosts in a row that did not serve: after a few this host asks the origin itself. */
  #wasted = 0

  constructor(file: HubFile, upstream: Upstream, clock: Clock, shared?: SharedLinks) {
    this.#file = file
    this.#upstream = upstream
    this.#clock = clock
    this.#shared = shared
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
        const answer = await this.#follow(link, range, token, signal)
        if (answer !== undefined) return answer
        continue
      }
      if (this.#resolving !== undefined) {
        await settled(this.#resolving, signal)
        continue
      }
      const answer = await this.#resolve(range, token, signal)
      if (answer !== undefined) return answer
    }
  }

  /** undefined: the link has expired, or does not serve and came from another host. */
  async #follow(
    link: Link,
    range: ByteRange | undefined,
    token: () => string | undefined,
    signal: AbortSignal,
  ): Promise<EgressAnswer | undefined> {
    try {
      const answer = await this.#get(link.url, range, token(), signal)
      if (!EXPIRED.has(answer.status) || link.url.href === this.#resolveUrl.href) {
        const accepted = await this.#accept(answer, link, token())
        if (link.shared) this.#wasted = 0
        link.failures = 0
        return accepted
      }
      answer.discard()
    } catch (error) {
      // A storage host that is busy, or away for a moment, is no fault of the link.
      const isBusy = signal.aborted || hasCode(error, 'origin-rate-limited')
      const isFirst = hasCode(error, 'origin-unreachable') && link.failures++ === 0
      if (!link.shared || isBusy || isFirst) throw error
    }
    if (this.#link === link) this.#refused(link)
    return undefined
  }

  /** undefined: there is a link from another host now. */

  async #resolve(
    range: ByteRange | undefined,
    token: () => string | undefined,
    signal: AbortSignal,
  ): Promise<EgressAnswer | undefined> {
    const { promise, resolve: done } = Promise.withResolvers<void>()
    this.#resolving = promise
    let turn: LinkTurn | undefined
    try {
      turn = await this.#shared?.take(this.#file, this.#upstream.base, this.#useless, signal)
      if (turn?.state === 'told' && this.#takeLink(turn)) return undefined
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
      const link: Link = {
        url: answer.url,
        until: this.#endOf(answer.url),
        etag: undefined,
        shared: false,
        failures: 0,
      }
      const accepted = await this.#accept(answer, link, token())
      this.#link = link
      if (moved) this.#upstream.noteStorage(link.url.host)
      // A link that is the question itself saves others nothing but the wait.
      if (turn?.state === 'yours') turn.told(link.url.href, link.until - this.#clock.now())
      turn = undefined
      return accepted
    } finally {
      if (turn?.state === 'yours') turn.failed()
      this.#resolving = undefined
      done()
    }
  }

  /** @returns false when the link of another host cannot be used */
  #takeLink({ link, lifeMs }: Extract<LinkTurn, { state: 'told' }>): boolean {
    if (this.#wasted >= MAX_WASTED || link === this.#useless) return false
    const url = checkedLink(link, this.#file, this.#upstream.base, (host) => this.#upstream.isStorage(host))
    if (url === undefined) return false
    const until = Math.min(this.#endOf(url), this.#clock.now() + lifeMs)
    if (until <= this.#clock.now()) return false
    this.#link = { url, until, etag: undefined, shared: true, failures: 0 }
    return true
  }

  #refused(link: Link): void {
    this.#useless = link.url.href
    if (link.shared) {
      // It costs no renewal: those are counted to find a Hub whose links never serve.
      this.#link = undefined
      this.#wasted++
    } else this.#expire()
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
