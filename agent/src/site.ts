// What the hosts of one site do together towards the origin, put together: one budget, one question for all, links found once.
import type { Clock, Random } from '@shoal/protocol/time.ts'
import type { SiteMetadata } from './catalog-peers.ts'
import type { Log } from './log.ts'
import type { Mesh } from './net/mesh.ts'
import type { ReadRights } from './read-rights.ts'
import { SiteBudget } from './site-budget.ts'
import { siteLinks } from './site-links.ts'
import { siteMetadata } from './site-metadata.ts'
import { SiteTurns } from './site-turns.ts'
import { OriginBudgets } from './sources/origin-budgets.ts'
import type { SharedLinks } from './sources/shared-link.ts'

export interface SiteDeps {
  readonly mesh: Mesh
  /** Hosts with the same label, or none, are of one site. */
  readonly label: string | undefined
  readonly rights: ReadRights
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
  readonly onFailure: (name: string, error: unknown) => void
}

export interface Site {
  readonly budgets: OriginBudgets
  /** Tells and hears what the origin said; to be started with the mesh. */
  readonly budget: SiteBudget
  readonly turns: SiteTurns
  readonly links: SharedLinks
  readonly metadata: SiteMetadata
}

export function siteOf(deps: SiteDeps): Site {
  const { mesh, label, rights, clock, random, log, onFailure } = deps
  const budgets = new OriginBudgets({ clock, random, self: mesh.self, site: label })
  const turns = new SiteTurns({ mesh, site: label, clock, log })
  return {
    budgets,
    budget: new SiteBudget({ mesh, budgets, clock, log, onFailure }),
    turns,
    links: siteLinks({ turns, isOpen: (repo) => rights.isOpen(repo) }),
    metadata: siteMetadata({ turns, mesh, hearsay: (repo) => rights.hear(repo), clock, random, log }),
  }
}
