// Files of repos that only another host called public. The origin is asked for them without a token, so that a word of a peer opens nothing
// that the origin keeps closed. When it refuses, the origin's own word on the repo is asked for: a mirror may want a token for everything.
import type { Commit, Repo } from '@shoal/protocol/ids.ts'
import type { Access } from '@shoal/protocol/manifest.ts'
import type { Hub } from './sources/hub.ts'
import { isRefusal } from './transfer/caller-tokens.ts'

export interface HearsayDeps {
  readonly hub: Pick<Hub, 'source'>
  readonly isHearsay: (repo: Repo) => boolean
  /** What the origin says to this token. @throws ShoalError as the Hub's `revision` */
  readonly settle: (
    repo: Repo,
    commit: Commit,
    token: string | undefined,
    signal: AbortSignal,
  ) => Promise<Access>
}

export function withoutHearsay({ hub, isHearsay, settle }: HearsayDeps): Pick<Hub, 'source'> {
  return {
    source(file, token) {
      const { repo, commit } = file
      const source = hub.source(file, () => (isHearsay(repo) ? undefined : token()))
      return {
        id: source.id,
        kind: source.kind,
        async fetch(request, options) {
          const wasHearsay = isHearsay(repo)
          try {
            return await source.fetch(request, options)
          } catch (error) {
            if (!wasHearsay || token() === undefined || !isRefusal(error)) throw error
            // Readers that passed on a peer's word have not passed the Hub's gate: their download ends.
            if ((await settle(repo, commit, token(), options.signal)) !== 'public') throw error
            return source.fetch(request, options)
          }
        },
      }
    },
  }
}
