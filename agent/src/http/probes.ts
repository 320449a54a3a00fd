// What machines ask of an agent: alive, ready, metrics, and the API document with the page made of it.
import type { OpenAPIHono } from '@hono/zod-openapi'
import type { Host } from '../host-port.ts'
import type { Metrics } from '../metrics.ts'
import { DOCS_HEADERS, DOCS_STYLE, docsPage } from './docs-page.ts'
import { describeHubRoutes } from './hub-document.ts'

export interface ProbeDeps {
  readonly host: Pick<Host, 'notReadyBecause'>
  readonly metrics: Pick<Metrics, 'text' | 'contentType'>
  readonly version: string
}

const DESCRIBED = [
  { path: '/healthz', summary: 'Whether the agent is alive' },
  { path: '/readyz', summary: 'Whether it is ready; 503 and why when not' },
  { path: '/metrics', summary: 'Prometheus metrics' },
  { path: '/openapi.json', summary: 'This document' },
] as const

export function mountProbes(app: OpenAPIHono, { host, metrics, version }: ProbeDeps): void {
  app.get('/healthz', (c) => c.json({ status: 'ok' }))
  app.get('/readyz', (c) => {
    const notReadyBecause = host.notReadyBecause()
    const ready = notReadyBecause.length === 0
    return c.json({ ready, notReadyBecause }, ready ? 200 : 503)
  })
  app.get('/metrics', async (c) => c.body(await metrics.text(), 200, { 'Content-Type': metrics.contentType }))

  for (const { path, summary } of DESCRIBED) {
    app.openAPIRegistry.registerPath({
      method: 'get',
      path,
      summary,
      tags: ['probes'],
      responses: { 200: { description: 'yes' } },
    })
  }
  describeHubRoutes(app)
  const info = {
    title: 'Shoal agent',
    version,
    description: 'A Hugging Face Hub endpoint for this machine, and the API of the agent behind it.',
  }
  const document = () => app.getOpenAPI31Document({ openapi: '3.1.0', info })
  app.get('/openapi.json', (c) => c.json(document()))
  app.get('/docs', (c) => c.html(docsPage({ info, paths: document().paths ?? {} }), 200, DOCS_HEADERS))
  app.get('/docs/style.css', (c) => c.body(DOCS_STYLE, 200, { 'Content-Type': 'text/css; charset=utf-8' }))
}
