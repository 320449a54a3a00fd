// The real HTTP server and API of an agent, with a host behind it that is what the test says. For the command line's own
// behaviour; that the whole agent does what it says is shown where real agents run.
import type { BlobProgress } from '@shoal/agent/downloads-port.ts'
import type { Host, HostStatus } from '@shoal/agent/host-port.ts'
import { createNodeApi } from '@shoal/agent/http/node-api.ts'
import { createHttpServer } from '@shoal/agent/http/server.ts'
import { silentLog } from '@shoal/agent/log.ts'
import { createMetrics } from '@shoal/agent/metrics.ts'
import type { ModelDetails, Models, PullProgress, VerifyResult } from '@shoal/agent/models-port.ts'
import type { PeerStatus } from '@shoal/agent/net/mesh.ts'
import type { PullPlan } from '@shoal/agent/plan/pull-plan.ts'
import { type ErrorCode, ShoalError } from '@shoal/protocol/errors.ts'
import {
  parseBlobId,
  parseCommit,
  parseFilePath,
  parsePeerId,
  parseRepoSpec,
  parseRevision,
  repoLabel,
} from '@shoal/protocol/ids.ts'
import { systemClock } from '@shoal/protocol/time.ts'
import { memoryLimits, memoryPlan } from './memory-models.ts'

export const PEER = parsePeerId('12D3KooWPjceQrSwdWXPyLLeABRXmuqt69Rg3sBYbU1Nft9HyQ6X')
const COMMIT = parseCommit('0123456789abcdef0123456789abcdef01234567')
const MAIN = parseRevision('main')
export const MODEL = parseRepoSpec('org/model').repo

export interface AgentApi extends AsyncDisposable {
  readonly url: string
  /** What was asked of the host so far: `pull org/model@main`, `cancel p1`, `remove org/model`, `reload`, `verify org/model`. */
  readonly asked: readonly string[]
  hubCache: string
  /** What each look at the pull gives, in turn; the last one stays. */
  pulls: readonly PullProgress[]
  /** What the list of downloads shows, when it is not {@link pulls}. */
  listed: readonly PullProgress[] | undefined
  arriving: readonly BlobProgress[]
  plan: PullPlan
  connected: boolean
  verified: readonly VerifyResult[]
  /** How a check ends early. */
  verifyError: Error | undefined
  /** Every call to the host fails with it. */
  refusal: { readonly code: ErrorCode; readonly message: string } | undefined
  onReload: () => void
}

export function pullOf(fields: Partial<PullProgress> = {}): PullProgress {
  return {
    id: 'p1',
    repo: MODEL,
    revision: MAIN,
    commit: COMMIT,
    state: 'complete',
    files: 3,
    filesDone: 3,
    totalBytes: 2_300_000,
    doneBytes: 2_300_000,
    originBytes: 2_000_000,
    peerBytes: 300_000,
    diskBytes: 0,
    bytesPerSecond: 1_000_000,
    priority: 'pull',
    place: undefined,
    peers: 2,
    planned: undefined,
    efficiency: undefined,
    startedAt: 1000,
    endedAt: 3000,
    error: undefined,
    ...fields,
  }
}

/** Listens on a free port of 127.0.0.1. */
export async function startAgentApi(storagePath: string): Promise<AgentApi> {
  const asked: string[] = []
  const limits = memoryLimits()
  let looks = 0
  let cancelled = false
  const refuse = () => {
    if (api.refusal !== undefined) throw new ShoalError(api.refusal.code, api.refusal.message)
  }
  const look = (): PullProgress => {
    refuse()
    if (cancelled) return pullOf({ state: 'cancelled', doneBytes: 1_000_000 })
    return api.pulls[Math.min(looks++, api.pulls.length - 1)] ?? pullOf()
  }
  const host: Host = {
    async status() {
      refuse()
      return statusOf(server.url, storagePath, api.hubCache)
    },
    notReadyBecause: () => [],
    peers() {
      refuse()
      return api.connected ? [peer] : []
    },
    async reloadMesh() {
      asked.push('reload')
      api.onReload()
    },
    originQuota: () => [{ bucket: 'api', remaining: 480, seenAt: 0 }],
    limits: {
      status() {
        refuse()
        return limits.status()
      },
      change: (change) => limits.change(change),
    },
  }
  const models: Models = {
    pull(request, options = {}) {
      const globs = [...request.include, ...request.exclude.map((glob) => `!${glob}`)]
      const priority = options.priority === undefined || options.priority === 'pull' ? [] : [options.priority]
      asked.push(['pull', `${repoLabel(request.repo)}@${request.revision}`, ...globs, ...priority].join(' '))
      return look()
    },
    async plan(request) {
      refuse()
      asked.push(['plan', `${repoLabel(request.repo)}@${request.revision}`, ...request.include].join(' '))
      return { ...api.plan, commit: COMMIT }
    },
    pausePull(id) {
      asked.push(`pause ${id}`)
      return true
    },
    resumePull(id) {
      asked.push(`resume ${id}`)
      return true
    },
    movePulls(ids, place) {
      asked.push(`move ${ids.join(' ')} to ${place}`)
    },
    pulls: () => {
      refuse()
      return api.listed ?? [look()]
    },
    pullById: () => look(),
    cancelPull(id) {
      asked.push(`cancel ${id}`)
      cancelled = true
      return true
    },
    async list() {
      refuse()
      return [details]
    },
    async show() {
      refuse()
      return details
    },
    async remove(repo) {
      asked.push(`remove ${repoLabel(repo)}`)
      return { freedBytes: 1_200_000, blobs: 2 }
    },
    async *verify(repo) {
      asked.push(`verify ${repo === undefined ? 'all' : repoLabel(repo)}`)
      yield* api.verified
      refuse()
      if (api.verifyError !== undefined) throw api.verifyError
    },
  }
  const metrics = createMetrics({ version: '0.1.0', nodeVersion: process.version, clock: systemClock })
  const server = createHttpServer({
    listen: { host: '127.0.0.1', port: 0 },
    allowedHosts: [],
    hubApi: {
      answer: async () => ({ route: 'unknown', answer: { status: 404, headers: {} } }),
    },
    nodeApi: createNodeApi({
      host,
      models,
      downloads: { active: (): readonly BlobProgress[] => api.arriving },
      metrics,
      log: silentLog,
      version: '0.1.0',
    }),
    metrics,
    clock: systemClock,
    log: silentLog,
    self: () => PEER,
    limits: { drainTimeoutMs: 0 },
  })
  const api: AgentApi = {
    get url() {
      return server.url
    },
    asked,
    hubCache: `${storagePath}/hub`,
    pulls: [pullOf()],
    listed: undefined,
    arriving: [],
    plan: memoryPlan,
    connected: false,
    verified: [],
    verifyError: undefined,
    refusal: undefined,
    onReload: () => {},
    [Symbol.asyncDispose]: () => server.stop(),
  }
  await server.start()
  return api
}

function statusOf(http: string, path: string, hubCache: string): HostStatus {
  return {
    version: '0.1.0',
    peerId: PEER,
    pid: 4242,
    http,
    p2p: [`/ip4/127.0.0.1/tcp/8002/p2p/${PEER}`, `/ip4/192.0.2.7/tcp/8002/p2p/${PEER}`],
    startedAt: 0,
    notReadyBecause: [],
    storage: {
      path,
      hubCache,
      usedBytes: 12_400_000_000,
      limitBytes: undefined,
      freeBytes: 120_000_000_000,
      blobs: 231,
    },
    memory: {
      limitBytes: 16e9,
      limitFrom: 'host',
      usedBytes: 150e6,
      arriving: { usedBytes: 0, limitBytes: 48e6 },
      reading: { usedBytes: 0, limitBytes: 16e6 },
      isShort: false,
    },
    hub: { upstreams: ['https://huggingface.co'], tokenPresent: false },
    mesh: { site: 'lab', rack: undefined, mdns: true },
    originMonth: memoryLimits().status().month,
    totals: { originBytes: 1, peerBytes: 2, diskBytes: 3, sentToPeersBytes: 4, sentToClientsBytes: 5 },
  }
}

const details: ModelDetails = {
  repo: MODEL,
  access: 'public',
  revisions: [{ revision: MAIN, commit: COMMIT }],
  files: 2,
  completeFiles: 1,
  sizeBytes: 2_300_000,
  heldBytes: 1_200_000,
  commits: [
    {
      commit: COMMIT,
      files: [
        fileOf('config.json', 1000, 1000, `git-sha1:${'a'.repeat(40)}`),
        fileOf('onnx/model.onnx', 2_299_000, 1_199_000, `sha256:${'b'.repeat(64)}`),
      ],
    },
  ],
}

function fileOf(path: string, sizeBytes: number, heldBytes: number, blob: string) {
  const complete = sizeBytes === heldBytes
  return {
    path: parseFilePath(path),
    sizeBytes,
    heldBytes,
    complete,
    blob: parseBlobId(blob),
    oid: 'a'.repeat(40),
  }
}

const peer: PeerStatus = {
  peer: PEER,
  addresses: [`/ip4/192.0.2.9/tcp/8002/p2p/${PEER}`],
  direction: 'outbound',
  connectedSince: 0,
  roundTripMs: 0.4,
  bytesReceived: 5_000_000,
  bytesSent: 12,
  health: {
    sequence: 1,
    at: 0,
    expires: 1,
    uploadLoad: 0,
    cpuLoad: 0,
    diskFreeBytes: 1,
    memoryFreeBytes: 1,
    blobsHeld: 7,
    // Peers write this themselves: it must not reach a terminal as it is.
    version: '0.1.0\u001b[31m',
    site: 'lab',
    rack: 'r1',
  },
}
