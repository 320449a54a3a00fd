// This host's own API under /api/v1, with the probes, the metrics and the API document. Shapes are in node-shapes.ts; what a
// route does belongs to the ports. Every route is JSON but the verify stream and the metrics.
import { createRoute, OpenAPIHono, z } from '@hono/zod-openapi'
import { ShoalError } from '@shoal/protocol/errors.ts'
import { HTTPException } from 'hono/http-exception'
import type { Downloads } from '../downloads-port.ts'
import type { Host } from '../host-port.ts'
import type { Log } from '../log.ts'
import type { Metrics } from '../metrics.ts'
import type { Models, PullProgress } from '../models-port.ts'
import type { Answer } from './answer.ts'
import { refusedContentType } from './guards.ts'
import { nodeErrorAnswer, toShoalError } from './hub-errors.ts'
import { mountDownloads } from './node-downloads.ts'
import { toDetails, toModel, toPeer, toStatus } from './node-json.ts'
import { mountLimits } from './node-limits.ts'
import { notKept, repoInPath } from './node-names.ts'
import { base, ok } from './node-routes.ts'
import * as shapes from './node-shapes.ts'
import { mountProbes } from './probes.ts'
import { mountVerify } from './verify-lines.ts'

export interface NodeApiDeps {
  readonly host: Host
  readonly models: Models
  readonly downloads: Pick<Downloads, 'active'>
  readonly metrics: Metrics
  readonly log: Log
  readonly version: string
}

const MODELS = '/api/v1/models/'
const routes = {
  status: createRoute({
    ...base,
    method: 'get',
    path: '/api/v1/status',
    summary: 'What this host is and how it is',
    responses: ok(shapes.statusShape, 'now'),
  }),
  peers: createRoute({
    ...base,
    method: 'get',
    path: '/api/v1/peers',
    summary: 'The other hosts it is connected to',
    responses: ok(shapes.peersShape, 'now'),
  }),
  models: createRoute({
    ...base,
    method: 'get',
    path: '/api/v1/models',
    summary: 'What is kept here',
    responses: ok(shapes.modelsShape, 'all of them'),
  }),
  reload: createRoute({
    ...base,
    method: 'post',
    path: '/api/v1/mesh/reload',
    summary: 'Reads the mesh secret and the joined peers again and reconnects',
    responses: ok(shapes.reloadedShape, 'reconnected'),
  }),
}

export function createNodeApi(deps: NodeApiDeps): OpenAPIHono {
  const { host, models, downloads } = deps
  const app = new OpenAPIHono({
    strict: false,
    defaultHook: (result) => {
      if (result.success) return
      const problems = result.error.issues.map(
        ({ path, message }) => `${path.join('.') || 'body'}: ${message}`,
      )
      throw new ShoalError('bad-request', problems.slice(0, 10).join('; '), {
        problems: problems.slice(0, 50),
      })
    },
  })
  app.onError((thrown, c) => {
    const error = fromHono(thrown)
    if (error.code === 'internal') deps.log.error({ err: thrown, path: c.req.path }, 'a request failed')
    const status = thrown instanceof HTTPException && thrown.status === 415 ? 415 : undefined
    return toResponse(nodeErrorAnswer(error), status)
  })
  app.notFound(() => toResponse(nodeErrorAnswer(new ShoalError('not-found', 'no such route; see /docs'))))
  app.use('/api/v1/*', async (c, next) => {
    const write = c.req.method !== 'GET' && c.req.method !== 'HEAD'
    const refused = write && refusedContentType(c.req.header('content-type'), c.req.raw.body !== null)
    if (refused) return toResponse(nodeErrorAnswer(new ShoalError('bad-request', refused)), 415)
    return next()
  })

  app.openapi(routes.status, async (c) => {
    const running = models.pulls().filter(isRunning).length
    const counts = { peers: host.peers().length, runningPulls: running, blobs: downloads.active().length }
    return c.json(toStatus(await host.status(), counts), 200)
  })
  app.openapi(routes.peers, (c) => c.json({ peers: host.peers().map(toPeer) }, 200))
  app.openapi(routes.models, async (c) => c.json({ models: (await models.list()).map(toModel) }, 200))
  app.openapi(routes.reload, async (c) => {
    await host.reloadMesh()
    const { peerId, p2p } = await host.status()
    return c.json({ peerId, p2p: [...p2p] }, 200)
  })
  mountDownloads(app, deps)
  mountLimits(app, host.limits)
  mountModel(app, models)
  mountVerify(app, models)
  mountProbes(app, deps)
  return app
}

/** Repos have slashes, so these two are routed by prefix and only described as `{repo}`. */
function mountModel(app: OpenAPIHono, models: Models): void {
  const described = { ...base, path: `${MODELS}{repo}`, request: { params: z.object({ repo: z.string() }) } }
  app.openAPIRegistry.registerPath({
    ...described,
    method: 'get',
    summary: 'One repository: commits, files, what of them is here (repo is org/name, unencoded)',
    responses: ok(shapes.modelDetailsShape, 'now'),
  })
  app.openAPIRegistry.registerPath({
    ...described,
    method: 'delete',
    summary: 'Removes a repository from this host',
    responses: ok(shapes.removedShape, 'removed'),
  })
  app.get(`${MODELS}*`, async (c) => {
    const repo = repoInPath(new URL(c.req.url).pathname.slice(MODELS.length))
    const model = await models.show(repo)
    if (model === undefined) throw notKept(repo)
    return c.json(toDetails(model), 200)
  })
  app.delete(`${MODELS}*`, async (c) => {
    const repo = repoInPath(new URL(c.req.url).pathname.slice(MODELS.length))
    if ((await models.show(repo)) === undefined) throw notKept(repo)
    const { freedBytes, blobs } = await models.remove(repo)
    return c.json({ freedBytes, blobs }, 200)
  })
}

function isRunning(pull: PullProgress): boolean {
  return pull.endedAt === undefined
}

/** Hono's own refusals (no JSON, wrong media type) in the house's words. */
function fromHono(thrown: unknown): ShoalError {
  if (!(thrown instanceof HTTPException)) return toShoalError(thrown)
  return new ShoalError('bad-request', thrown.message === '' ? 'bad request' : thrown.message)
}

function toResponse(answer: Answer, status?: number): Response {
  const body = answer.body instanceof Uint8Array ? Buffer.from(answer.body) : null
  return new Response(body, { status: status ?? answer.status, headers: answer.headers })
}
