// This host's own API under /api/v1, with the probes, the metrics and the API document. Shapes are in node-shapes.ts; what a
// route does belongs to the ports. Every route is JSON but the verify stream and the metrics.
import { createRoute, OpenAPIHono, z } from '@hono/zod-openapi'
import { ShoalError } from '@shoal/protocol/errors.ts'
import { parseRevision } from '@shoal/protocol/ids.ts'
import { HTTPException } from 'hono/http-exception'
import type { Downloads } from '../downloads-port.ts'
import type { Host } from '../host-port.ts'
import type { Log } from '../log.ts'
import type { Metrics } from '../metrics.ts'
import type { Models, PullProgress } from '../models-port.ts'
import type { Answer } from './answer.ts'
import { refusedContentType } from './guards.ts'
import { nodeErrorAnswer, toShoalError } from './hub-errors.ts'
import { toBlobProgress, toDetails, toModel, toPeer, toPull, toStatus } from './node-json.ts'
import { notKept, parseRepo, repoInPath } from './node-names.ts'
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
const errors = { default: { description: 'what went wrong', content: json(shapes.errorBody) } }
const idParam = z.object({ id: z.string().min(1).max(128) })

function json<S extends z.ZodType>(schema: S) {
  return { 'application/json': { schema } }
}
function ok<S extends z.ZodType>(schema: S, description: string) {
  return { 200: { description, content: json(schema) }, ...errors }
}
const base = { tags: ['this host'] }

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
  startPull: createRoute({
    ...base,
    method: 'post',
    path: '/api/v1/downloads',
    summary: 'Starts a pull, or joins the one that runs for the same request',
    request: { body: { required: true, content: json(shapes.pullRequestShape) } },
    responses: { 202: { description: 'started', content: json(shapes.pullShape) }, ...errors },
  }),
  downloads: createRoute({
    ...base,
    method: 'get',
    path: '/api/v1/downloads',
    summary: 'Pulls, and files arriving now',
    responses: ok(shapes.downloadsShape, 'now'),
  }),
  download: createRoute({
    ...base,
    method: 'get',
    path: '/api/v1/downloads/{id}',
    summary: 'One pull',
    request: { params: idParam },
    responses: ok(shapes.pullShape, 'now'),
  }),
  cancel: createRoute({
    ...base,
    method: 'post',
    path: '/api/v1/downloads/{id}/cancel',
    summary: 'Cancels a pull; what has arrived is kept',
    request: { params: idParam },
    responses: ok(shapes.pullShape, 'cancelled'),
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
  app.openapi(routes.startPull, (c) => {
    const { repo, revision, include, exclude } = c.req.valid('json')
    const request = { repo: parseRepo(repo), revision: parseRevision(revision), include, exclude }
    return c.json(toPull(models.pull(request)), 202)
  })
  app.openapi(routes.downloads, (c) =>
    c.json({ pulls: models.pulls().map(toPull), blobs: downloads.active().map(toBlobProgress) }, 200),
  )
  app.openapi(routes.download, (c) => c.json(toPull(pullOf(models, c.req.valid('param').id)), 200))
  app.openapi(routes.cancel, (c) => {
    const { id } = c.req.valid('param')
    const pull = pullOf(models, id)
    if (!models.cancelPull(id))
      throw new ShoalError('conflict', `the download has ended already: ${pull.state}`, { id })
    return c.json(toPull(pullOf(models, id)), 200)
  })
  app.openapi(routes.reload, async (c) => {
    await host.reloadMesh()
    const { peerId, p2p } = await host.status()
    return c.json({ peerId, p2p: [...p2p] }, 200)
  })
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

function pullOf(models: Models, id: string): PullProgress {
  const pull = models.pullById(id)
  if (pull === undefined) throw new ShoalError('not-found', 'no such download', { id })
  return pull
}

function isRunning(pull: PullProgress): boolean {
  return pull.state === 'resolving' || pull.state === 'running'
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
