// The composition root of the coordinator: knows the concrete parts, starts and stops them in order. Decides nothing.
import { formatListenAddress } from '@shoal/protocol/listen-address.ts'
import { type Service, startAll } from '@shoal/protocol/service.ts'
import type { Clock } from '@shoal/protocol/time.ts'
import type { CoordinatorSettings } from './config.ts'
import { createApp } from './http/app.ts'
import { allowedHosts } from './http/guards.ts'
import { createHttpServer } from './http/server.ts'
import { createMetrics } from './metrics.ts'

export interface CoordinatorDeps {
  readonly clock: Clock
  readonly version: string
  readonly nodeVersion: string
  readonly onFailure: (path: string, error: unknown) => void
}

export interface Coordinator extends Service {
  /** Base URL without a trailing slash. @throws ShoalError `not-running` before start */
  url(): string
}

export function createCoordinator(settings: CoordinatorSettings, deps: CoordinatorDeps): Coordinator {
  let stopAll: (() => Promise<void>) | undefined
  let hosts: ReadonlySet<string> = new Set()
  const app = createApp({
    hosts: () => hosts,
    notReadyBecause: () => (stopAll === undefined ? ['it is starting or stopping'] : []),
    metrics: createMetrics(deps),
    clock: deps.clock,
    onFailure: deps.onFailure,
  })
  const server = createHttpServer(settings.listen, (request) => app.fetch(request), deps.clock)
  return {
    name: 'coordinator',
    url: () => `http://${formatListenAddress(server.address())}`,
    async start() {
      if (stopAll !== undefined) return
      stopAll = await startAll([server])
      hosts = allowedHosts(server.address(), settings.allowedHosts)
    },
    async stop() {
      const stop = stopAll
      stopAll = undefined
      await stop?.()
    },
  }
}
