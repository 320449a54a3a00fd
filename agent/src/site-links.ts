// Links to public files, found once for all hosts of a site. Links to gated and private files are not shared: each host asks for them with
// its caller's own token.
import type { Repo } from '@shoal/protocol/ids.ts'
import type { SiteTurns } from './site-turns.ts'
import type { SharedLinks } from './sources/shared-link.ts'

const PATIENCE_MS = 5_000

export interface SiteLinksDeps {
  readonly turns: Pick<SiteTurns, 'take'>
  readonly isOpen: (repo: Repo) => boolean
}

export function siteLinks({ turns, isOpen }: SiteLinksDeps): SharedLinks {
  return {
    async take({ repo, entry }, upstream, useless, signal) {
      if (!isOpen(repo)) return { state: 'yours', told: () => {}, failed: () => {} }
      // The key is the blob's, as for its owners: who keeps the turn is one of those that fetch it, if all do.
      const subject = { kind: `link\n${new URL(upstream).origin}`, key: entry.blob, patienceMs: PATIENCE_MS }
      const turn = await turns.take(subject, useless, signal)
      if (turn.state === 'yours') return turn
      return { state: 'told', link: turn.value, lifeMs: turn.lifeMs }
    },
  }
}
