// The HTTP side of an agent on a real socket, with everything behind it in memory.
import type { TestContext } from 'node:test'
import { createHubApi } from '@shoal/agent/http/hub-api.ts'
import { createNodeApi } from '@shoal/agent/http/node-api.ts'
import { createHttpServer, type HttpLimits, type HttpServer } from '@shoal/agent/http/server.ts'
import { silentLog } from '@shoal/agent/log.ts'
import { createMetrics, type Metrics } from '@shoal/agent/metrics.ts'
import type { HubAnswer, HubRequest } from '@shoal/agent/sources/hub.ts'
import { ShoalError } from '@shoal/protocol/errors.ts'
import { systemClock } from '@shoal/protocol/time.ts'
import { atEnd } from './cleanups.ts'
import { MemoryCatalog } from './memory-catalog.ts'
import { MemoryDownloads, type MemoryDownloadsOptions } from './memory-downloads.ts'
import { MemoryHost, MemoryModels } from './memory-models.ts'

export const SELF = '12D3KooWMemory'

/** The Hub's pass-through routes: answers by path, or unreachable. */
export class MemoryPass {
  readonly answers = new Map<string, Partial<HubAnswer>>()
  readonly asked: { readonly path: string; readonly token: string | undefined }[] = []

  async pass(path: string, { token }: HubRequest): Promise<HubAnswer> {
    this.asked.push({ path, token })
    const answer = this.answers.get(path)
    if (answer === undefined) throw new ShoalError('origin-unreachable', 'the Hub cannot be reached')
    return {
      status: 200,
      contentType: 'application/json',
      errorCode: undefined,
      errorMessage: undefined,
      link: undefined,
      body: Buffer.from('{}'),
      ...answer,
    }
  }

  async raw(): Promise<Uint8Array> {
    throw new ShoalError('origin-unreachable', 'the Hub cannot be reached')
  }
}

export interface MemoryAgent {
  readonly server: HttpServer
  readonly url: string
  readonly port: number
  readonly catalog: MemoryCatalog
  readonly downloads: MemoryDownloads
  readonly models: MemoryModels
  readonly host: MemoryHost
  readonly hub: MemoryPass
  readonly metrics: Metrics
}

export async function startMemoryAgent(
  context: Pick<TestContext, 'after'>,
  options: { readonly downloads?: MemoryDownloadsOptions; readonly limits?: Partial<HttpLimits> } = {},
): Promise<MemoryAgent> {
  const catalog = new MemoryCatalog()
  const downloads = new MemoryDownloads((entry) => catalog.bytesOf(entry), options.downloads)
  const models = new MemoryModels()
  const host = new MemoryHost()
  const hub = new MemoryPass()
  const metrics = createMetrics({ version: '0.1.0', nodeVersion: process.versions.node, clock: systemClock })
  const server = createHttpServer({
    listen: { host: '127.0.0.1', port: 0 },
    allowedHosts: ['agent.test'],
    hubApi: createHubApi({ catalog, downloads, hub }),
    nodeApi: createNodeApi({ host, models, downloads, metrics, log: silentLog, version: '0.1.0' }),
    metrics,
    clock: systemClock,
    log: silentLog,
    self: () => SELF,
    limits: { drainTimeoutMs: 1000, ...options.limits },
  })
  await server.start()
  atEnd(context, () => server.stop())
  const port = Number(new URL(server.url).port)
  return { server, url: server.url, port, catalog, downloads, models, host, hub, metrics }
}
