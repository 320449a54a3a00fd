// Pulls and the files that arrive, over HTTP: start, list, pause, resume, cancel, order, and what a pull would do. What these do belongs
// to the ports.
import { createRoute, type OpenAPIHono, z } from '@hono/zod-openapi'
import { ShoalError } from '@shoal/protocol/errors.ts'
import { parseRevision, repoLabel } from '@shoal/protocol/ids.ts'
import type { Downloads } from '../downloads-port.ts'
import type { Host } from '../host-port.ts'
import type { Models, PullProgress } from '../models-port.ts'
import { toBlobProgress, toPlan, toPull } from './node-json.ts'
import { parseRepo } from './node-names.ts'
import { base, errors, json, ok } from './node-routes.ts'
import * as shapes from './node-shapes.ts'

export interface DownloadsApiDeps {
  readonly host: Pick<Host, 'originQuota'>
  readonly models: Models
  readonly downloads: Pick<Downloads, 'active'>
}

const idParam = z.object({ id: z.string().min(1).max(128) })
const globs = z.union([z.string(), z.array(z.string())]).optional()
const planQuery = z.strictObject({
  repo: z.string().max(300).describe('org/name, datasets/org/name or spaces/org/name'),
  revision: z.string().max(255).default('main'),
  include: globs.describe('glob patterns, repeatable; none: all files'),
  exclude: globs.describe('glob patterns, repeatable'),
})
const MAX_GLOBS = 64
const MAX_GLOB_CHARACTERS = 512

const routes = {
  start: createRoute({
    ...base,
    method: 'post',
    path: '/api/v1/downloads',
    summary: 'Starts a pull, or joins the one under way for the same request; one that is paused goes on',
    request: { body: { required: true, content: json(shapes.pullRequestShape) } },
    responses: { 202: { description: 'started', content: json(shapes.pullShape) }, ...errors },
  }),
  list: createRoute({
    ...base,
    method: 'get',
    path: '/api/v1/downloads',
    summary: 'Pulls, those that go first in front, and files arriving now',
    responses: ok(shapes.downloadsShape, 'now'),
  }),
  one: createRoute({
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
  pause: createRoute({
    ...base,
    method: 'post',
    path: '/api/v1/downloads/{id}/pause',
    summary:
      'Fetches nothing more for a pull until it is resumed, after a restart too; what has arrived is kept',
    request: { params: idParam },
    responses: ok(shapes.pullShape, 'paused'),
  }),
  resume: createRoute({
    ...base,
    method: 'post',
    path: '/api/v1/downloads/{id}/resume',
    summary: 'Lets a paused pull go on, when its turn comes',
    request: { params: idParam },
    responses: ok(shapes.pullShape, 'resumed'),
  }),
  order: createRoute({
    ...base,
    method: 'post',
    path: '/api/v1/downloads/order',
    summary: 'Moves pulls to the front, to the end or to a place of the queue, within their class',
    request: { body: { required: true, content: json(shapes.orderShape) } },
    responses: ok(shapes.downloadsShape, 'now'),
  }),
  plan: createRoute({
    ...base,
    method: 'get',
    path: '/api/v1/plan',
    summary:
      'What a pull would do: bytes by source, time, room on the disk. Fetches nothing but the list of files',
    request: { query: planQuery },
    responses: ok(shapes.pullPlanShape, 'now'),
  }),
}

export function mountDownloads(app: OpenAPIHono, { host, models, downloads }: DownloadsApiDeps): void {
  const all = () => ({ pulls: models.pulls().map(toPull), blobs: downloads.active().map(toBlobProgress) })
  /** Does it and tells the pull as it is then. */
  const change = (id: string, act: (id: string) => boolean) => {
    const { state } = pullOf(models, id)
    if (!act(id)) throw new ShoalError('conflict', `the download has ended already: ${state}`, { id })
    return toPull(pullOf(models, id))
  }
  app.openapi(routes.start, (c) => {
    const { repo, revision, include, exclude, priority, plan } = c.req.valid('json')
    const request = { repo: parseRepo(repo), revision: parseRevision(revision), include, exclude }
    return c.json(toPull(models.pull(request, { priority, plan })), 202)
  })
  app.openapi(routes.list, (c) => c.json(all(), 200))
  app.openapi(routes.order, (c) => {
    const { ids, to } = c.req.valid('json')
    models.movePulls(ids, typeof to === 'number' ? to - 1 : to)
    return c.json(all(), 200)
  })
  app.openapi(routes.one, (c) => c.json(toPull(pullOf(models, c.req.valid('param').id)), 200))
  app.openapi(routes.cancel, (c) =>
    c.json(
      change(c.req.valid('param').id, (id) => models.cancelPull(id)),
      200,
    ),
  )
  app.openapi(routes.pause, (c) =>
    c.json(
      change(c.req.valid('param').id, (id) => models.pausePull(id)),
      200,
    ),
  )
  app.openapi(routes.resume, (c) =>
    c.json(
      change(c.req.valid('param').id, (id) => models.resumePull(id)),
      200,
    ),
  )
  app.openapi(routes.plan, async (c) => {
    const { repo: label, revision: name, include, exclude } = c.req.valid('query')
    const repo = parseRepo(label)
    const revision = parseRevision(name)
    const request = {
      repo,
      revision,
      include: globsOf('include', include),
      exclude: globsOf('exclude', exclude),
    }
    const { commit, ...plan } = await models.plan(request, c.req.raw.signal)
    const quota = host.originQuota().map((one) => ({ ...one }))
    return c.json({ ...toPlan(plan), repo: repoLabel(repo), revision, commit, quota }, 200)
  })
}

/** @throws ShoalError `bad-request` */
function globsOf(name: string, given: string | readonly string[] | undefined): readonly string[] {
  const globs = given === undefined ? [] : typeof given === 'string' ? [given] : given
  const bad = globs.find((glob) => glob === '' || glob.length > MAX_GLOB_CHARACTERS)
  if (bad !== undefined)
    throw new ShoalError('bad-request', `${name}: a pattern has 1 to ${MAX_GLOB_CHARACTERS} characters`)
  if (globs.length > MAX_GLOBS) throw new ShoalError('bad-request', `${name}: at most ${MAX_GLOBS} patterns`)
  return globs
}

function pullOf(models: Models, id: string): PullProgress {
  const pull = models.pullById(id)
  if (pull === undefined) throw new ShoalError('not-found', 'no such download', { id })
  return pull
}
