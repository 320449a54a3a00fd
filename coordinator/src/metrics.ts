// Every metric of the coordinator, declared once, in a registry of its own. Labels come from fixed sets only. prom-client is
// used here and nowhere else.
import { collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client'

export const HTTP_ROUTES = ['probe', 'metrics', 'unknown', 'refused'] as const
export type HttpRouteLabel = (typeof HTTP_ROUTES)[number]

export interface Metrics {
  httpRequest(route: HttpRouteLabel, status: number, seconds: number): void
  readonly contentType: string
  /** The text a scrape answers. */
  text(): Promise<string>
}

export function createMetrics(build: { readonly version: string; readonly nodeVersion: string }): Metrics {
  const registry = new Registry()
  const registers = [registry]
  collectDefaultMetrics({ register: registry })
  const httpSeconds = new Histogram({
    name: 'shoal_http_request_seconds',
    help: 'Seconds from a request to the last byte of its answer, by route and status.',
    labelNames: ['route', 'status'],
    buckets: [0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10],
    registers,
  })
  new Gauge({
    name: 'shoal_build_info',
    help: 'Always 1; the version is in the label.',
    labelNames: ['version', 'node'],
    registers,
  }).set({ version: build.version, node: build.nodeVersion }, 1)
  return {
    httpRequest: (route, status, seconds) => httpSeconds.observe({ route, status: String(status) }, seconds),
    contentType: registry.contentType,
    text: () => registry.metrics(),
  }
}
