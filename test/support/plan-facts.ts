// Plans with plain facts, for tests that look at one decision at a time.
import { DownloadPlan, type PlanSettings } from '@shoal/agent/plan/download-plan.ts'
import { ownerOf, shareSeed } from '@shoal/agent/plan/origin-share.ts'
import type { PeerFacts } from '@shoal/agent/plan/peer-table.ts'
import { SourceScores } from '@shoal/agent/plan/source-score.ts'
import { ChunkMap } from '@shoal/protocol/chunks.ts'

export const BYTES = 4 * 1024 * 1024

export function newPlan(
  chunks: number,
  settings: Partial<PlanSettings> = {},
  scores = new SourceScores(),
): DownloadPlan {
  return new DownloadPlan(
    {
      blob: 'blob',
      self: 'self',
      held: new ChunkMap(chunks),
      whole: true,
      originDepth: 4,
      totalDepth: 16,
      originFetchers: 4,
      originNotBefore: 0,
      ...settings,
    },
    scores,
  )
}

export function mapOf(count: number, ...indices: number[]): ChunkMap {
  const map = new ChunkMap(count)
  for (const index of indices) map.add(index)
  return map
}

export function shown(decision: ReturnType<DownloadPlan['next']>): string[] {
  return decision.start.map(({ index, source, why }) => `${index} ${source} ${why}`)
}

/** Chunks that `host` owns among these hosts. */
export function owned(host: string, hosts: readonly string[], chunks: number): number[] {
  const seeds = hosts.map((name) => shareSeed('blob', name))
  return Array.from({ length: chunks }, (_, index) => index).filter((index) => ownerOf(index, seeds) === host)
}

export function withoutOrigin(plan: DownloadPlan): DownloadPlan {
  plan.setOrigin(false)
  return plan
}

export function withPeer(plan: DownloadPlan, state: PeerFacts): DownloadPlan {
  plan.peerState('peer', state, 0)
  return plan
}
