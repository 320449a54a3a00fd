// Puts the agent together: which concrete part stands behind each port, in which order they start, and what each is given. Holds
// no rules; nothing else knows concrete classes.
import { join } from 'node:path'
import { type Service, startAll } from '@shoal/protocol/service.ts'
import type { Clock, Random } from '@shoal/protocol/time.ts'
import { ByteTotals } from './byte-totals.ts'
import { createCatalog } from './catalog.ts'
import type { Settings } from './config.ts'
import { DownloadTurns } from './download-turns.ts'
import { Downloader } from './downloader.ts'
import { loadHashing } from './hashing.ts'
import { createHealth } from './health.ts'
import { withoutHearsay } from './hearsay.ts'
import { HostLimits, type MachineLoad } from './host-limits.ts'
import type { Host } from './host-port.ts'
import { hostStatus } from './host-status.ts'
import { createHubApi } from './http/hub-api.ts'
import { createNodeApi } from './http/node-api.ts'
import { createHttpServer } from './http/server.ts'
import { learningRecords } from './learning-records.ts'
import type { ProgramLog } from './logging.ts'
import { MemoryBudget, type ProcessMemory } from './memory-budget.ts'
import { createMetrics } from './metrics.ts'
import { ModelKeeper } from './models.ts'
import {
  type HostIdentity,
  loadIdentity,
  peerOfPublicKey,
  publicKeyOfPeer,
  verifyStatement,
} from './net/identity.ts'
import { readJoinedPeers } from './net/joined-peers.ts'
import { createMesh } from './net/mesh-node.ts'
import { loadMeshSecret } from './net/mesh-secret.ts'
import { OriginQuotas } from './origin-quotas.ts'
import { peerDistances } from './peer-distances.ts'
import { askPeersForManifest } from './peer-manifests.ts'
import { PEER_DEPTH } from './plan/download-plan.ts'
import { ObservedRates, withinLimits } from './plan/pull-efficiency.ts'
import { SourceScores } from './plan/source-score.ts'
import { planMaker } from './plan-maker.ts'
import { PullPlanner } from './pull-planner.ts'
import { quietHandlers, quietMesh } from './quiet-mesh.ts'
import { ReadRights } from './read-rights.ts'
import { siteOf } from './site.ts'
import { createHubClient } from './sources/hub-client.ts'
import { createLoopGuard } from './sources/loop-guard.ts'
import { peerSource } from './sources/peer-source.ts'
import { createDiskRecords } from './store/disk-records.ts'
import { createDiskStore } from './store/disk-store.ts'
import { createHubView } from './store/hub-cache.ts'
import { createIndexDb } from './store/index-db.ts'
import { storeLayout } from './store/layout.ts'
import { createStorage } from './store/storage.ts'
import { Swarm } from './transfer/swarm.ts'
import { Uploads } from './uploads.ts'
import { Vouchers } from './vouchers.ts'

const HOST_KEY_FILE = 'host.key'

export interface AgentDeps {
  readonly clock: Clock
  readonly random: Random
  readonly log: ProgramLog
  readonly version: string
  readonly pid: number
  readonly nodeVersion: string
  readonly memory: ProcessMemory
  readonly machine: MachineLoad
  /** Background work failed unexpectedly: the program is to end in order. */
  readonly onFailure: (name: string, error: unknown) => void
}

export interface Agent {
  readonly http: string
  readonly peerId: string
  p2p(): readonly string[]
  stop(): Promise<void>
}

/** Starts everything; what was started is stopped again when something fails. @throws ShoalError */
export async function startAgent(settings: Settings, deps: AgentDeps): Promise<Agent> {
  const memory = new MemoryBudget(settings.memory, deps.memory, deps, settings.cpu.lanes > 0)
  const disk = createDiskParts(settings, deps, memory)
  const stopDisk = await startAll(disk.parts)
  try {
    const identity = await loadIdentity(join(settings.storage.path, HOST_KEY_FILE))
    return await startParts(settings, deps, identity, disk, memory, stopDisk)
  } catch (error) {
    await stopDisk().catch(() => {})
    throw error
  }
}

type DiskParts = ReturnType<typeof createDiskParts>

function createDiskParts(settings: Settings, { clock, log }: AgentDeps, { plan }: MemoryBudget) {
  const { path, limitBytes } = settings.storage
  const layout = storeLayout(path)
  const index = createIndexDb({ path: layout.index, log: log.byLevel })
  const { hashThreads } = settings.cpu
  const store = createDiskStore({ path, index, limitBytes, clock, log: log.byLevel, hashThreads })
  const records = createDiskRecords({
    path: layout.records,
    temp: layout.temp,
    cacheBytes: plan.listsBytes,
    log: log.byLevel,
  })
  const view = createHubView({
    path: layout.hub,
    temp: layout.temp,
    blobFile: (blob) => layout.blob(blob),
    log: log.byLevel,
  })
  return { index, store, records, view, parts: [createStorage(layout), index, store, records, view] }
}

async function startParts(
  settings: Settings,
  deps: AgentDeps,
  identity: HostIdentity,
  disk: DiskParts,
  memory: MemoryBudget,
  stopDisk: () => Promise<void>,
): Promise<Agent> {
  const { clock, random, log, onFailure } = deps
  const { store, view, index } = disk
  const hashing = await loadHashing()
  const metrics = createMetrics({ version: deps.version, nodeVersion: deps.nodeVersion, clock })
  const signatures = {
    publicKey: identity.publicKey,
    sign: (statement: Uint8Array) => identity.sign(statement),
    verify: verifyStatement,
  }
  const vouchers = new Vouchers(signatures, (bytes) => hashing.blake3(bytes))
  const rights = new ReadRights({ self: identity.peer, signatures, publicKeyOf: publicKeyOfPeer, clock })
  const records = await learningRecords(disk.records, rights)
  const limits = new HostLimits(settings.limits, settings.limitRules, {
    ...deps,
    peers: () => mesh.peers(),
    storagePath: settings.storage.path,
  })
  const givesNothing = () => !limits.paces.givesToPeers
  const rates = new ObservedRates()
  const quotas = new OriginQuotas(clock)
  const totals = new ByteTotals(metrics, (from, bytes) => rates.note(from, bytes, clock.now()))

  const uploads = new Uploads({
    clock,
    log,
    store,
    records,
    rights,
    vouchers,
    arriving: (blob) => downloader.arriving(blob),
    peerAsked: (peer, blob, want, subscribe) => swarm.peerAsked(peer, blob, want, subscribe),
    told: (peer, message) => swarm.told(peer, message),
    bytesSent: totals.sentToPeer,
    buffers: memory.uploading,
  })
  const mesh = createMesh(
    {
      listen: settings.mesh.listen,
      staticPeers: async () => [
        ...settings.mesh.peers,
        ...(await readJoinedPeers(settings.storage.path)).peers,
      ],
      mdns: settings.mesh.mdns,
      secret: async () => settings.mesh.secret ?? loadMeshSecret(settings.mesh.secretFile),
      storagePath: settings.storage.path,
      lanes: settings.cpu.lanes,
    },
    {
      identity,
      handlers: quietHandlers(uploads, givesNothing),
      turn: (peer, ask, signal) => site.turns.answer(peer, ask, signal),
      clock,
      random,
      log: log.byLevel,
      pace: limits.paces,
      onGossip: (topic, verdict) => metrics.gossip(topic, verdict),
      onFailure,
    },
  )
  const site = siteOf({ mesh, label: settings.mesh.site, rights, clock, random, log, onFailure })
  const loop = createLoopGuard(identity.peer, clock)
  const hub = createHubClient(
    {
      hub: settings.hub,
      connections: settings.connections,
      downloads: settings.downloads,
      userAgent: `shoal/${deps.version}`,
    },
    {
      clock,
      random,
      log: log.byLevel,
      budgets: site.budgets,
      links: site.links,
      via: () => loop.outgoing(),
      onOriginRequest: (kind, status) => metrics.originRequest(kind, status),
      onRateLimit: (bucket, remaining) => {
        metrics.originRateLimitRemaining(remaining)
        quotas.seen(bucket, remaining)
      },
      pace: limits.paces.fromOrigin,
      origin: limits.origin,
    },
  )
  const catalog = createCatalog(
    { revisionTtlMs: settings.hub.revisionTtlMs },
    {
      hub,
      records,
      peers: (repo, revision, signal) => askPeersForManifest({ mesh, clock, log }, repo, revision, signal),
      site: site.metadata,
      operatorToken: settings.hub.token,
      clock,
      log: log.byLevel,
    },
  )
  const plans = planMaker(settings.planRecord, log)
  const swarm = new Swarm({
    mesh: quietMesh(mesh, givesNothing),
    clock,
    log,
    distance: peerDistances(mesh, settings.mesh, clock),
    line: () => uploads.line,
    originFetchers: settings.mesh.originFetchers,
    onFailure,
  })
  const downloader = new Downloader({
    clock,
    log,
    store,
    scores: new SourceScores(),
    swarm,
    vouchers,
    rights,
    buffers: memory.arriving,
    counters: totals.counters,
    downloadPace: () => limits.paces.download(),
    self: identity.peer,
    // A quarter of the connections stays for metadata.
    originDepth: Math.max(1, Math.floor(settings.connections.maxPerHost * 0.75)),
    totalDepth: PEER_DEPTH,
    originFetchers: settings.mesh.originFetchers,
    makePlan: plans.make,
    peerSource: (peer, grant) => peerSource(mesh, peer, grant),
    hub: withoutHearsay({ hub, isHearsay: catalog.isHearsay, settle: catalog.settle }),
    view,
    ban: (peer, durationMs, reason) => mesh.ban(peer, durationMs, reason),
    peerOfKey: peerOfPublicKey,
    operatorToken: settings.hub.token,
    maxFileBytes: settings.maxFileBytes,
    diskBytesRead: totals.readFromDisk,
    onFailure,
  })
  const bestRates = () => withinLimits(rates.best(clock.now()), limits.values())
  const planner = new PullPlanner({
    mesh,
    store,
    rights,
    downloads: downloader,
    limits,
    bestRates,
    site: settings.mesh.site,
    clock,
    log,
  })
  const models = new ModelKeeper({
    catalog,
    downloads: downloader,
    clock,
    turns: new DownloadTurns(settings.downloads.maxConcurrent),
    concurrency: settings.downloads.maxConcurrent,
    planOf: (manifest, files, signal) => planner.planOf(manifest, files, signal),
    bestRates,
    store,
    records,
    view,
    index,
    log,
    onForgotten: () => downloader.forgetShown(),
    abandon: (blob) => downloader.abandon(blob),
    onFailure,
  })
  const health = createHealth({
    mesh,
    store,
    clock,
    random,
    log,
    version: deps.version,
    site: settings.mesh.site,
    rack: settings.mesh.rack,
    uploadLoad: () => (givesNothing() ? 1 : uploads.load),
    onFailure,
  })

  const startedAt = clock.wallTime()
  let ready = false
  const notReadyBecause = () => (ready ? [] : ['the agent is starting or stopping'])
  const host: Host = {
    notReadyBecause,
    peers: () => mesh.peers(),
    originQuota: () => quotas.known(),
    limits,
    reloadMesh: async () => {
      await mesh.stop()
      await mesh.start()
    },
    status: () =>
      hostStatus({
        settings,
        version: deps.version,
        pid: deps.pid,
        startedAt,
        hubCache: view.path,
        mesh,
        store,
        memory,
        http: () => http.url,
        limits,
        notReadyBecause,
        totals: () => ({ ...totals.now, sentToClientsBytes: http.sentBytes }),
      }),
  }
  metrics.observe({
    downloads: () => downloader.active().map(({ state }) => state),
    connectedPeers: () => mesh.peers().length,
    store: () => store.usage(),
  })
  const http = createHttpServer({
    listen: settings.http.listen,
    allowedHosts: settings.http.allowedHosts,
    hubApi: createHubApi({ catalog, downloads: downloader, hub }),
    nodeApi: createNodeApi({ host, models, downloads: downloader, metrics, log, version: deps.version }),
    metrics,
    clock,
    log,
    self: () => identity.peer,
    admitsVia: (value) => loop.admits(value),
    buffers: memory.reading,
  })
  const closing: Service = {
    name: 'origin and uploads',
    start: async () => {},
    stop: async () => {
      await catalog.stop()
      await hub.close()
      await uploads.close()
    },
  }
  const stopParts = await startAll([
    closing,
    memory,
    limits,
    plans,
    mesh,
    site.budget,
    swarm,
    downloader,
    models,
    health,
    http,
  ])
  ready = true
  return {
    get http() {
      return http.url
    },
    peerId: identity.peer,
    p2p: () => mesh.addresses(),
    stop: async () => {
      ready = false
      await stopParts()
      await stopDisk()
    },
  }
}
