// The coordinator's routes: alive, ready, metrics; everything else is a 404 in the house's error body. Guards run first.
import { asShoalError, errorRow, ShoalError } from '@shoal/protocol/errors.ts'
import type { Clock } from '@shoal/protocol/time.ts'
import { type Context, Hono } from 'hono'
import type { HttpRouteLabel, Metrics } from '../metrics.ts'
import { refusal } from './guards.ts'

export interface AppDeps {
  /** Allowed values of the Host header. */
  readonly hosts: () => ReadonlySet<string>
  /** Why `/readyz` answers 503; empty when ready. */
  readonly notReadyBecause: () => readonly string[]
  readonly metrics: Metrics
  readonly clock: Clock
  /** Told of requests that failed by an unexpected error. */
  readonly onFailure: (path: string, error: unknown) => void
}

const ROUTES = new Map<string, HttpRouteLabel>([
  ['/healthz', 'probe'],
  ['/readyz', 'probe'],
  ['/metrics', 'metrics'],
])

export function createApp({ hosts, notReadyBecause, metrics, clock, onFailure }: AppDeps): Hono {
  const app = new Hono()
  app.use(async (c, next) => {
    const startedAt = clock.now()
    const refused = refusal(
      {
        host: c.req.header('host'),
        origin: c.req.header('origin'),
        fetchSite: c.req.header('sec-fetch-site'),
      },
      hosts(),
    )
    if (refused === undefined) await next()
    else c.res = errorResponse(c, refused)
    const route = refused === undefined ? (ROUTES.get(c.req.path) ?? 'unknown') : 'refused'
    metrics.httpRequest(route, c.res.status, (clock.now() - startedAt) / 1000)
  })
  app.get('/healthz', (c) => c.json({ status: 'ok' }))
  app.get('/readyz', (c) => {
    const reasons = notReadyBecause()
    const ready = reasons.length === 0
    return c.json({ ready, notReadyBecause: reasons }, ready ? 200 : 503)
  })
  app.get('/metrics', async (c) => c.body(await metrics.text(), 200, { 'Content-Type': metrics.contentType }))
  app.notFound((c) => errorResponse(c, new ShoalError('not-found', 'no such route')))
  app.onError((thrown, c) => {
    const known = asShoalError(thrown)
    if (known === undefined) onFailure(c.req.path, thrown)
    return errorResponse(
      c,
      known ?? new ShoalError('internal', 'an internal error; the log of the coordinator has it'),
    )
  })
  return app
}

function errorResponse(c: Context, error: ShoalError): Response {
  const body = { error: { code: error.code, message: error.message, details: error.details } }
  return c.newResponse(JSON.stringify(body), {
    status: errorRow(error.code).http as 400,
    headers: { 'Content-Type': 'application/json; charset=utf-8' },
  })
}
