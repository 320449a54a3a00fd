// Every metric of the agent, declared once, in a registry of its own, behind a small typed facade. Labels come from fixed
// sets only. Counts what it is told; gauges are asked for when somebody scrapes.
import type { Clock } from '@shoal/protocol/time.ts'
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client'

export const HTTP_ROUTES = [
  'resolve',
  'raw',
  'info',
  'tree',
  'paths-info',
  'refs',
  'commits',
  'auth-check',
  'whoami',
  'xet-token',
  'absent',
  'unsupported',
  'unknown',
  'api',
  'probe',
  'metrics',
  'docs',
  'refused',
] as const
export type HttpRouteLabel = (typeof HTTP_ROUTES)[number]

export const ORIGIN_REQUESTS = ['api', 'resolvers', 'content'] as const
export type OriginRequestKind = (typeof ORIGIN_REQUESTS)[number]
const DOWNLOAD_STATES = ['running', 'verifying', 'paused', 'complete', 'failed', 'cancelled'] as const
export type DownloadState = (typeof DOWNLOAD_STATES)[number]

/** What gauges read at a scrape. All from memory except `store`. */
export interface Observed {
  /** Files arriving now, by state. */
  downloads(): Iterable<DownloadState>
  connectedPeers(): number
  store(): Promise<{
    readonly usedBytes: number
    readonly limitBytes: number | undefined
    readonly freeBytes: number
  }>
}

export interface Metrics {
  /** Bytes moved from one kind of place to another. */
  bytes(from: 'origin' | 'peer' | 'disk', to: 'disk' | 'client' | 'peer', count: number): void
  /** @param status of the answer; `failed` when none came */
  originRequest(kind: OriginRequestKind, status: number | 'failed'): void
  /** Requests the origin still allows in the present window. */
  originRateLimitRemaining(requests: number): void
  chunk(result: 'verified' | 'corrupt' | 'duplicate', count: number): void
  /** A download of one file has ended. Cancelled ones are nobody's failure: do not report them. */
  download(result: 'complete' | 'failed', seconds: number): void
  gossip(topic: 'have' | 'health' | 'origin' | 'other', verdict: 'accept' | 'ignore' | 'reject'): void
  httpRequest(route: HttpRouteLabel, status: number, seconds: number): void
  authFailure(): void
  /** Where gauges get their values. Called once, when the parts exist. */
  observe(observed: Observed): void
  readonly contentType: string
  /** The text a scrape answers. */
  text(): Promise<string>
  /** Names, kinds, help and labels of everything declared: docs/metrics.md is made of it. */
  describe(): Promise<
    readonly {
      readonly name: string
      readonly type: string
      readonly help: string
      readonly labels: readonly string[]
    }[]
  >
}

const FAILURE_WINDOW_MS = 15 * 60_000
const MAX_REMEMBERED = 1000

export function createMetrics(build: {
  readonly version: string
  readonly nodeVersion: string
  readonly clock: Clock
}): Metrics {
  const registry = new Registry()
  const registers = [registry]
  collectDefaultMetrics({ register: registry })
  let observed: Observed | undefined
  const ended = new FailureShare(build.clock)

  const bytes = new Counter({
    name: 'shoal_bytes_total',
    help: 'Bytes moved, by where from and where to.',
    labelNames: ['from', 'to'],
    registers,
  })
  const byteSeries = new Map<string, Counter.Internal>()
  const bytesSeries = (from: string, to: string) => {
    const key = `${from} ${to}`
    const series = byteSeries.get(key) ?? bytes.labels(from, to)
    byteSeries.set(key, series)
    return series
  }
  const originRequests = new Counter({
    name: 'shoal_origin_requests_total',
    help: 'Requests to the Hub and its mirrors, by kind and status of the answer ("failed": none came).',
    labelNames: ['kind', 'status'],
    registers,
  })
  const rateLimit = new Gauge({
    name: 'shoal_origin_ratelimit_remaining',
    help: 'Requests the origin still allows in the present window; absent before it has said so.',
    registers,
  })
  const chunks = new Counter({
    name: 'shoal_chunks_total',
    help: 'Chunks received, by what the check said.',
    labelNames: ['result'],
    registers,
  })
  const downloadSeconds = new Histogram({
    name: 'shoal_download_seconds',
    help: 'Seconds from the start of a file download to its end, good or bad.',
    buckets: [0.1, 0.5, 1, 5, 15, 60, 300, 900, 3600, 14_400],
    registers,
  })
  const httpSeconds = new Histogram({
    name: 'shoal_http_request_seconds',
    help: 'Seconds from a request to the last byte of its answer, by route and status.',
    labelNames: ['route', 'status'],
    buckets: [0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10, 60, 300, 1800],
    registers,
  })
  /** By route and status, both from fixed sets: finding a series by its labels costs more than counting. */
  const httpSeries = new Map<string, Histogram.Internal<'route' | 'status'>>()
  const gossip = new Counter({
    name: 'shoal_gossip_messages_total',
    help: 'Gossip messages received, by topic and verdict.',
    labelNames: ['topic', 'verdict'],
    registers,
  })
  const authFailures = new Counter({
    name: 'shoal_auth_failures_total',
    help: 'Requests refused for a missing or bad token (status 401 and 403).',
    registers,
  })
  const downloads = new Gauge({
    name: 'shoal_downloads',
    help: 'Files arriving now, by state.',
    labelNames: ['state'],
    registers,
  })
  const peers = new Gauge({
    name: 'shoal_peers',
    help: 'Other hosts of the mesh, by state.',
    labelNames: ['state'],
    registers,
  })
  const storeBytes = new Gauge({
    name: 'shoal_store_bytes',
    help: 'Bytes the store holds, by tier.',
    labelNames: ['tier'],
    registers,
  })
  const storeLimit = new Gauge({
    name: 'shoal_store_limit_bytes',
    help: 'Bytes the store may hold, by tier; absent without a limit.',
    labelNames: ['tier'],
    registers,
  })
  const diskUsage = new Gauge({
    name: 'disk_usage_percent',
    help: 'How full the store is, 0 to 100: of its limit or of the disk space it could use, whichever is less.',
    registers,
  })
  const failureRate = new Gauge({
    name: 'download_failure_rate',
    help: 'Share of the downloads that failed, 0 to 1, among those that ended in the last 15 minutes.',
    registers,
  })
  new Gauge({
    name: 'shoal_build_info',
    help: 'Always 1; the version is in the label.',
    labelNames: ['version', 'node'],
    registers,
  }).set({ version: build.version, node: build.nodeVersion }, 1)
  // A gauge without labels starts at 0, which would be a lie until somebody has told its value.
  for (const gauge of [rateLimit, diskUsage]) gauge.remove()

  const refresh = async () => {
    failureRate.set(ended.share())
    if (observed === undefined) return
    for (const state of DOWNLOAD_STATES) downloads.set({ state }, 0)
    for (const state of observed.downloads()) downloads.inc({ state })
    peers.set({ state: 'connected' }, observed.connectedPeers())
    const { usedBytes, limitBytes, freeBytes } = await observed.store()
    storeBytes.set({ tier: 'hot' }, usedBytes)
    if (limitBytes !== undefined) storeLimit.set({ tier: 'hot' }, limitBytes)
    const room = Math.min(limitBytes ?? Number.POSITIVE_INFINITY, usedBytes + freeBytes)
    diskUsage.set(room === 0 ? 100 : Math.min(100, (usedBytes / room) * 100))
  }

  return {
    bytes: (from, to, count) => bytesSeries(from, to).inc(count),
    originRequest: (kind, status) => originRequests.inc({ kind, status: statusLabel(status) }),
    originRateLimitRemaining: (requests) => rateLimit.set(requests),
    chunk: (result, count) => chunks.inc({ result }, count),
    download(result, seconds) {
      ended.add(result === 'failed')
      downloadSeconds.observe(seconds)
    },
    gossip: (topic, verdict) => gossip.inc({ topic, verdict }),
    httpRequest(route, status, seconds) {
      const label = statusLabel(status)
      const key = `${route} ${label}`
      const series = httpSeries.get(key) ?? httpSeconds.labels(route, label)
      httpSeries.set(key, series)
      series.observe(seconds)
    },
    authFailure: () => authFailures.inc(),
    observe(value) {
      observed = value
    },
    contentType: registry.contentType,
    async text() {
      await refresh()
      return registry.metrics()
    },
    describe: async () =>
      (await registry.getMetricsAsJSON()).map(({ name, type, help }) => ({
        name,
        type: String(type),
        help,
        labels:
          (registry.getSingleMetric(name) as { labelNames?: readonly string[] } | undefined)?.labelNames ??
          [],
      })),
  }
}

/** Statuses come from servers we do not own: only real ones become a label. */
function statusLabel(status: number | 'failed'): string {
  if (status === 'failed') return status
  return Number.isInteger(status) && status >= 100 && status <= 599 ? String(status) : 'other'
}

/** Which share of the last downloads failed. */
class FailureShare {
  readonly #clock: Clock
  #ended: readonly { readonly at: number; readonly failed: boolean }[] = []

  constructor(clock: Clock) {
    this.#clock = clock
  }

  add(failed: boolean): void {
    this.#ended = [...this.#recent().slice(1 - MAX_REMEMBERED), { at: this.#clock.now(), failed }]
  }

  share(): number {
    const recent = this.#recent()
    if (recent.length === 0) return 0
    return recent.filter(({ failed }) => failed).length / recent.length
  }

  #recent() {
    const since = this.#clock.now() - FAILURE_WINDOW_MS
    return this.#ended.filter(({ at }) => at >= since)
  }
}
