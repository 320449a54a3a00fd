// A host's pulls as they really are (keeper, turns, planner) over the real transfer layer, with the Hub, peers and the disk in memory.
// What is in a `Lasting` outlives the program.
import assert from 'node:assert/strict'
import { DownloadTurns } from '@shoal/agent/download-turns.ts'
import { silentLog } from '@shoal/agent/log.ts'
import { ModelKeeper } from '@shoal/agent/models.ts'
import type { PullOptions, PullProgress } from '@shoal/agent/models-port.ts'
import type { BestRates } from '@shoal/agent/plan/pull-efficiency.ts'
import { PullPlanner } from '@shoal/agent/pull-planner.ts'
import { parseRepoSpec, parseRevision } from '@shoal/protocol/ids.ts'
import type { Manifest } from '@shoal/protocol/manifest.ts'
import { memoryRecords } from './catalog-world.ts'
import { makeBlob } from './made-blob.ts'
import { MemoryCatalog } from './memory-catalog.ts'
import { memoryIndex } from './memory-index.ts'
import { createMemoryStore, type MemoryStore } from './memory-store.ts'
import { CHUNK, TransferWorld } from './transfer-world.ts'

export const MAIN = parseRevision('main')
export const bytesOf = (seed: number, sizeBytes: number) => makeBlob(seed, sizeBytes).bytes

export interface Lasting {
  readonly store: MemoryStore
  readonly rows: Map<string, unknown>
  readonly records: ReturnType<typeof memoryRecords>
  readonly catalog: MemoryCatalog
}

export function lasting(): Lasting {
  return {
    store: createMemoryStore(),
    rows: new Map(),
    records: memoryRecords(),
    catalog: new MemoryCatalog(),
  }
}

export async function keeperOf(
  t: Parameters<typeof TransferWorld.start>[0],
  disk = lasting(),
  options: { readonly places?: number; readonly rates?: BestRates; readonly site?: string } = {},
) {
  // Before the world, which then looks whether anything is left.
  t.after(() => world.pass(keeper.stop()))
  const world = await TransferWorld.start(t, { store: disk.store })
  const removed: string[] = []
  const rates = options.rates ?? { total: undefined, origin: undefined, peers: undefined }
  const planner = new PullPlanner({
    mesh: world.mesh,
    store: disk.store,
    rights: world.rights,
    downloads: world.downloader,
    limits: { values: () => ({ up: undefined, upPerPeer: undefined, down: undefined, origin: undefined }) },
    bestRates: () => rates,
    site: options.site,
    clock: world.clock,
    log: silentLog,
    chunkBytes: CHUNK,
  })
  const keeper = new ModelKeeper({
    catalog: disk.catalog,
    downloads: world.downloader,
    clock: world.clock,
    turns: new DownloadTurns(options.places ?? 2),
    concurrency: 2,
    planOf: (manifest, files, signal) => planner.planOf(manifest, files, signal),
    bestRates: () => rates,
    store: disk.store,
    records: disk.records.records,
    view: {
      path: '/hub',
      remove: async (repo) => {
        removed.push(`view ${repo.id}`)
      },
    },
    index: memoryIndex(disk.rows),
    log: silentLog,
    abandon: (blob) => world.downloader.abandon(blob),
    onForgotten: (repo) => {
      removed.push(`forgotten ${repo.id}`)
      world.downloader.forgetShown()
    },
    onFailure: (_name, error) => world.failures.push(error),
  })
  for (const manifest of await disk.catalog.known()) learn(world, disk, manifest)
  await keeper.start()
  const ended = async (id: string): Promise<PullProgress> => {
    const now = () => keeper.pullById(id)
    for (let waited = 0; waited < 5_000 && now()?.endedAt === undefined; waited++)
      await world.clock.advance(20)
    const pull = now()
    assert.ok(pull !== undefined)
    return pull
  }
  const pull = (
    spec: string,
    patterns: { include?: string[]; exclude?: string[] } = {},
    wish: PullOptions = {},
  ) =>
    keeper.pull(
      {
        repo: parseRepoSpec(spec).repo,
        revision: MAIN,
        include: patterns.include ?? [],
        exclude: patterns.exclude ?? [],
      },
      wish,
    )
  return { world, keeper, removed, ended, pull, disk }
}

function learn(world: TransferWorld, disk: Lasting, manifest: Manifest): void {
  world.rights.learn(manifest)
  for (const entry of manifest.files) world.origin.add(entry.blob, disk.catalog.bytesOf(entry))
}

/** A repo at the Hub. What is pulled goes on record, as the real catalog does it. */
export async function addRepo(
  disk: Lasting,
  spec: string,
  files: Record<string, Uint8Array>,
): Promise<Manifest> {
  const lfs = Object.fromEntries(Object.entries(files).map(([path, bytes]) => [path, { bytes, lfs: true }]))
  const manifest = disk.catalog.add({ spec, files: lfs })
  await disk.records.records.putManifest(manifest)
  await disk.records.records.putRef(manifest.repo, MAIN, {
    commit: manifest.commit,
    resolvedAt: 1,
    from: 'origin',
  })
  return manifest
}
