// The Hub routes in the API document: described, not validated, for the clients that use them know them already.
import { type OpenAPIHono, z } from '@hono/zod-openapi'

const KIND = z.enum(['models', 'datasets', 'spaces'])
const text = z.string()

const ROUTES: readonly {
  readonly methods: readonly ('get' | 'head' | 'post')[]
  readonly path: string
  readonly summary: string
}[] = [
  {
    methods: ['get', 'head'],
    path: '/{repo}/resolve/{revision}/{path}',
    summary: 'A file (datasets and spaces have their prefix before {repo}); Range, If-None-Match, If-Range',
  },
  {
    methods: ['get', 'head'],
    path: '/{repo}/raw/{revision}/{path}',
    summary: 'A file as git holds it: an LFS file gives its pointer',
  },
  { methods: ['get'], path: '/api/{kind}/{repo}', summary: 'Repository info at main' },
  {
    methods: ['get'],
    path: '/api/{kind}/{repo}/revision/{revision}',
    summary: 'Repository info; blobs=true adds sizes and digests',
  },
  {
    methods: ['get'],
    path: '/api/{kind}/{repo}/tree/{revision}',
    summary: 'Files of a commit; recursive, expand, limit, cursor',
  },
  {
    methods: ['get'],
    path: '/api/{kind}/{repo}/tree/{revision}/{path}',
    summary: 'Files of a directory of a commit',
  },
  {
    methods: ['post'],
    path: '/api/{kind}/{repo}/paths-info/{revision}',
    summary: 'Named files and directories, as a form or JSON',
  },
  { methods: ['get'], path: '/api/{kind}/{repo}/refs', summary: 'Branches, tags and converts' },
  { methods: ['get'], path: '/api/{kind}/{repo}/commits/{revision}', summary: 'History' },
  {
    methods: ['get'],
    path: '/api/{kind}/{repo}/auth-check',
    summary: 'Whether the token may read the files',
  },
  { methods: ['get'], path: '/api/whoami-v2', summary: 'Whose the token is' },
]

/** Adds the Hub routes to an app's document. They are answered by hub-api.ts, outside that app. */
export function describeHubRoutes(app: OpenAPIHono): void {
  for (const { methods, path, summary } of ROUTES) {
    const names = [...path.matchAll(/\{(\w+)\}/g)].map((match) => match[1] ?? '')
    const params = z.object(Object.fromEntries(names.map((name) => [name, name === 'kind' ? KIND : text])))
    for (const method of methods) {
      app.openAPIRegistry.registerPath({
        method,
        path,
        summary,
        tags: ['Hugging Face Hub'],
        request: { params },
        responses: {
          200: { description: 'as huggingface.co answers' },
          default: { description: 'X-Error-Code, X-Error-Message and {"error": message}' },
        },
      })
    }
  }
}
