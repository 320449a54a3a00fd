// Bandwidth limits over HTTP: what they are, and changing them while the agent runs.
import { createRoute, type OpenAPIHono } from '@hono/zod-openapi'
import { type Limits, NO_LIMITS } from '../limits-port.ts'
import { fromLimitsChange, toLimits } from './node-json.ts'
import { base, json, ok } from './node-routes.ts'
import { limitsChangeShape, limitsShape } from './node-shapes.ts'

const path = '/api/v1/limits'
const request = { body: { required: true, content: json(limitsChangeShape) } }

const routes = {
  get: createRoute({
    ...base,
    method: 'get',
    path,
    summary: 'Bandwidth limits',
    responses: ok(limitsShape, 'now'),
  }),
  change: createRoute({
    ...base,
    method: 'patch',
    path,
    summary: 'Changes the limits that are named, until the agent ends',
    request,
    responses: ok(limitsShape, 'from now on'),
  }),
  replace: createRoute({
    ...base,
    method: 'put',
    path,
    summary: 'Sets all limits, until the agent ends: those not named are lifted',
    request,
    responses: ok(limitsShape, 'from now on'),
  }),
}

export function mountLimits(app: OpenAPIHono, limits: Limits): void {
  app.openapi(routes.get, (c) => c.json(toLimits(limits.status()), 200))
  app.openapi(routes.change, (c) =>
    c.json(toLimits(limits.change(fromLimitsChange(c.req.valid('json')))), 200),
  )
  app.openapi(routes.replace, (c) =>
    c.json(toLimits(limits.change({ ...NO_LIMITS, ...fromLimitsChange(c.req.valid('json')) })), 200),
  )
}
