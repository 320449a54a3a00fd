// Who may read what: verdicts of the Hub per repo and token, kept for minutes, in memory only. The newest known access of a
// repo decides, not what it was when a manifest was made. Tokens are kept as digests.
import { createHash } from 'node:crypto'
import { asShoalError, isAbort, ShoalError } from '@shoal/protocol/errors.ts'
import { type Repo, repoKey } from '@shoal/protocol/ids.ts'
import type { Access } from '@shoal/protocol/manifest.ts'
import type { Clock } from '@shoal/protocol/time.ts'
import { BoundedMap } from './bounded-map.ts'
import { createSingleFlight, outcomeWithin } from './single-flight.ts'
import type { Hub } from './sources/hub.ts'
import type { Records } from './store/records.ts'

const MAX_VERDICTS = 10_000
const MAX_REPOS = 10_000

export interface AccessGateDeps {
  readonly hub: Pick<Hub, 'authCheck'>
  readonly records: Pick<Records, 'access' | 'putAccess'>
  readonly clock: Clock
  readonly settings: {
    /** A passed check holds so long, and so long again while the Hub cannot be asked (`accessGraceMs` in all). */
    readonly accessTtlMs: number
    readonly accessGraceMs: number
    readonly refusalTtlMs: number
    readonly hubPatienceMs: number
  }
}

interface Verdict {
  /** On the monotonic clock. */
  readonly at: number
  /** undefined: passed. */
  readonly refusal: ShoalError | undefined
}

export interface AccessGate {
  /** The newest word on a repo; undefined when nobody ever said. */
  known(repo: Repo): Promise<Access | undefined>
  /** What the Hub says now. */
  learn(repo: Repo, access: Access): Promise<void>
  /** What a peer says: believed only where it is not laxer than what is known. Gives what holds now. */
  learnFromPeer(repo: Repo, access: Access): Promise<Access>
  /**
   * A peer says that the Hub calls a repo public. Believed where nothing else is known, in memory only, and the origin is asked without
   * a token for its files until it says so itself: what is not public stays out of reach. Gives what holds now.
   */
  hear(repo: Repo): Promise<Access>
  /** That it is public is a peer's word. */
  isHearsay(repo: Repo): boolean
  /** The Hub has just shown that this token passes. */
  passed(repo: Repo, token: string | undefined): void
  /** Passes or throws what the Hub says to this token. @throws ShoalError `repo-*` | `unauthorized` | `forbidden` | `origin-*` */
  require(repo: Repo, access: Access, token: string | undefined, signal: AbortSignal): Promise<void>
  forget(repo: Repo): void
  stop(): Promise<void>
}

/** Names a token in keys without holding it. */
export function tokenKey(token: string | undefined): string {
  return token === undefined ? 'anonymous' : createHash('sha256').update(token).digest('base64url')
}

const STRICTNESS: Readonly<Record<Access, number>> = { public: 0, gated: 1, private: 2 }

export function createAccessGate(deps: AccessGateDeps): AccessGate {
  const { clock, records, settings } = deps
  const verdicts = new BoundedMap<string, Verdict>(MAX_VERDICTS)
  const accesses = new BoundedMap<string, Access>(MAX_REPOS)
  const heard = new BoundedMap<string, true>(MAX_REPOS)
  const checks = createSingleFlight<void>()
  const keyOf = (repo: Repo, token: string | undefined) => `${repoKey(repo)} ${tokenKey(token)}`

  async function known(repo: Repo): Promise<Access | undefined> {
    const cached = accesses.get(repoKey(repo))
    if (cached !== undefined) return cached
    const recorded = await records.access(repo)
    if (recorded !== undefined) accesses.set(repoKey(repo), recorded)
    return recorded
  }

  async function learn(repo: Repo, access: Access): Promise<void> {
    const before = await known(repo)
    accesses.set(repoKey(repo), access)
    const wasHeard = heard.get(repoKey(repo)) === true
    heard.delete(repoKey(repo))
    if (before !== access || wasHeard) await records.putAccess(repo, access)
  }

  async function check(repo: Repo, token: string | undefined, signal: AbortSignal): Promise<void> {
    const key = keyOf(repo, token)
    try {
      await deps.hub.authCheck(repo, { token, signal })
      verdicts.set(key, { at: clock.now(), refusal: undefined })
    } catch (error) {
      const refusal = asShoalError(error)
      if (refusal !== undefined && isDefinite(refusal)) verdicts.set(key, { at: clock.now(), refusal })
      throw error
    }
  }

  return {
    known,
    learn,
    async learnFromPeer(repo, access) {
      const before = await known(repo)
      if (before !== undefined && STRICTNESS[before] >= STRICTNESS[access]) return before
      await learn(repo, access)
      return access
    },
    async hear(repo) {
      const before = await known(repo)
      if (before !== undefined) return before
      accesses.set(repoKey(repo), 'public')
      heard.set(repoKey(repo), true)
      return 'public'
    },
    isHearsay: (repo) => heard.get(repoKey(repo)) === true,
    passed(repo, token) {
      verdicts.set(keyOf(repo, token), { at: clock.now(), refusal: undefined })
    },
    async require(repo, access, token, signal) {
      const key = keyOf(repo, token)
      const verdict = verdicts.get(key)
      const ageMs = verdict === undefined ? Number.POSITIVE_INFINITY : clock.now() - verdict.at
      if (verdict?.refusal !== undefined && ageMs < settings.refusalTtlMs) throw verdict.refusal
      if (verdict !== undefined && verdict.refusal === undefined && ageMs < settings.accessTtlMs) return
      const honoured =
        verdict !== undefined && verdict.refusal === undefined && ageMs < settings.accessGraceMs
      const question = checks.run(key, (ending) => check(repo, token, ending), signal)
      const outcome = honoured
        ? await outcomeWithin(question, settings.hubPatienceMs, clock)
        : await question.then(
            () => ({ state: 'done' as const }),
            (error: unknown) => ({ state: 'failed' as const, error }),
          )
      if (outcome.state === 'done' || outcome.state === 'open') return
      if (isAbort(outcome.error) || isDefinite(outcome.error)) throw outcome.error
      if (honoured) return
      // Whatever the Hub would say to somebody without a token, it is not yes.
      throw token === undefined ? anonymousRefusal(access) : outcome.error
    },
    forget(repo) {
      const key = repoKey(repo)
      accesses.delete(key)
      heard.delete(key)
      verdicts.deleteWhere((one) => one.startsWith(`${key} `))
    },
    stop: () => checks.stop(),
  }
}

/** The Hub itself said so: as opposed to not being reached, or talking nonsense. */
export function isDefinite(error: unknown): boolean {
  const code = asShoalError(error)?.code
  if (code === undefined) return false
  return !code.startsWith('origin-') && code !== 'aborted' && code !== 'not-running'
}

function anonymousRefusal(access: Access): ShoalError {
  return access === 'gated'
    ? new ShoalError('repo-gated', 'Access to this repository is restricted. Please log in.', {
        httpStatus: 401,
        hubCode: 'GatedRepo',
      })
    : new ShoalError('repo-not-found', 'Repository not found', { httpStatus: 401, hubCode: 'RepoNotFound' })
}
