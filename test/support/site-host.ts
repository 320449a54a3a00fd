// A host of a site as far as it speaks to the Hub: a real mesh node, a real Hub client, catalog and rights, with records in memory. No store
// and no downloads: what is under test is what the Hub is asked.
import type { TestContext } from 'node:test'
import { type CatalogService, createCatalog } from '@shoal/agent/catalog.ts'
import { silentLog } from '@shoal/agent/log.ts'
import {
  type HostIdentity,
  newIdentity,
  publicKeyOfPeer,
  verifyStatement,
} from '@shoal/agent/net/identity.ts'
import type { MeshNode } from '@shoal/agent/net/mesh-node.ts'
import { createMesh } from '@shoal/agent/net/mesh-node.ts'
import { askPeersForManifest } from '@shoal/agent/peer-manifests.ts'
import { ReadRights } from '@shoal/agent/read-rights.ts'
import { type Site, siteOf } from '@shoal/agent/site.ts'
import { createHubClient, type HubClient } from '@shoal/agent/sources/hub-client.ts'
import { isCommit, parseRepoKey } from '@shoal/protocol/ids.ts'
import { seededRandom, systemClock } from '@shoal/protocol/time.ts'
import { memoryRecords } from './catalog-world.ts'
import { atEnd } from './cleanups.ts'
import { addressOf, noHandlers, testSecret, until } from './mesh-host.ts'
import { tempFolder } from './temp-folder.ts'

export interface SiteHost {
  readonly mesh: MeshNode
  readonly site: Site
  readonly hub: HubClient
  readonly catalog: CatalogService
  readonly rights: ReadRights
  readonly records: ReturnType<typeof memoryRecords>
}

export interface SiteHostOptions {
  readonly hub: string
  readonly label?: string
  readonly token?: string
  readonly identity?: HostIdentity
  /** Answers turns otherwise than it should. */
  readonly liar?: (site: Site) => Site['turns']['answer']
}

const never = new AbortController().signal

export async function startSiteHost(context: TestContext, options: SiteHostOptions): Promise<SiteHost> {
  const identity = options.identity ?? newIdentity()
  const clock = systemClock
  const random = seededRandom(1)
  const records = memoryRecords()
  const rights = new ReadRights({
    self: identity.peer,
    signatures: {
      publicKey: identity.publicKey,
      sign: (statement) => identity.sign(statement),
      verify: verifyStatement,
    },
    publicKeyOf: publicKeyOfPeer,
    clock,
  })
  const onFailure = (_name: string, error: unknown) => {
    throw error
  }
  const answer = (): Site['turns']['answer'] => options.liar?.(site) ?? site.turns.answer.bind(site.turns)
  const mesh = createMesh(
    {
      listen: ['/ip4/127.0.0.1/tcp/0'],
      staticPeers: async () => [],
      mdns: false,
      secret: async () => testSecret,
      storagePath: await tempFolder(context),
    },
    {
      identity,
      handlers: {
        ...noHandlers,
        async manifest(peer, ask) {
          const repo = parseRepoKey(ask.repo)
          const manifest = isCommit(ask.revision)
            ? await records.records.manifest(repo, ask.revision)
            : undefined
          if (manifest === undefined || !rights.mayHaveRepo(peer, repo, ask.grant)) return { found: false }
          return { found: true, commit: manifest.commit, manifest: JSON.stringify(manifest) }
        },
      },
      turn: (peer, ask, signal) => answer()(peer, ask, signal),
      clock,
      random,
      log: () => {},
      onFailure,
    },
  )
  const site = siteOf({ mesh, label: options.label, rights, clock, random, log: silentLog, onFailure })
  const hub = createHubClient(
    {
      hub: { upstreams: [options.hub] },
      connections: {
        maxPerHost: 4,
        keepAlive: true,
        compression: false,
        connectTimeoutMs: 5_000,
        readTimeoutMs: 5_000,
        retryBackoffFactor: 2,
        maxRetryDelayMs: 50,
      },
      downloads: { maxRetries: 2, retryDelayMs: 5 },
    },
    {
      clock,
      random,
      budgets: site.budgets,
      links: site.links,
      log: () => {},
      via: () => identity.peer,
      onOriginRequest: () => {},
    },
  )
  const catalog = createCatalog(
    { revisionTtlMs: 60_000, hubPatienceMs: 8_000 },
    {
      hub,
      records: {
        ...records.records,
        putManifest: async (manifest) => {
          rights.learn(manifest)
          await records.records.putManifest(manifest)
        },
        putAccess: async (repo, access) => {
          rights.setAccess(repo, access)
          await records.records.putAccess(repo, access)
        },
      },
      peers: (repo, revision, signal) =>
        askPeersForManifest({ mesh, clock, log: silentLog }, repo, revision, signal),
      site: site.metadata,
      operatorToken: () => options.token,
      clock,
      log: () => {},
    },
  )
  await mesh.start()
  await site.budget.start()
  atEnd(context, async () => {
    await site.budget.stop()
    await catalog.stop()
    await hub.close()
    await mesh.stop()
  })
  return { mesh, site, hub, catalog, rights, records }
}

/** Hosts that are all connected with each other. */
export async function startSite(
  context: TestContext,
  options: readonly SiteHostOptions[],
): Promise<readonly SiteHost[]> {
  const hosts: SiteHost[] = []
  for (const one of options) {
    const host = await startSiteHost(context, one)
    for (const { mesh } of hosts) await host.mesh.dial(addressOf(mesh), never)
    hosts.push(host)
  }
  await until(
    'all are connected',
    () => hosts.every(({ mesh }) => mesh.peers().length === hosts.length - 1),
    30_000,
  )
  return hosts
}
