// What the routes of this host's API have in common in the API document. Shapes only.
import type { z } from '@hono/zod-openapi'
import { errorBody } from './node-shapes.ts'

export const base = { tags: ['this host'] }

export function json<S extends z.ZodType>(schema: S) {
  return { 'application/json': { schema } }
}

export const errors = { default: { description: 'what went wrong', content: json(errorBody) } }

/** A 200 with this shape, or an error. */
export function ok<S extends z.ZodType>(schema: S, description: string) {
  return { 200: { description, content: json(schema) }, ...errors }
}
