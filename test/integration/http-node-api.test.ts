// This host's own API, over a socket: shapes as the command line reads them, errors in one form, probes, metrics, document.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as shapes from '@shoal/agent/http/node-shapes.ts'
import { parseRepoSpec } from '@shoal/protocol/ids.ts'
import { type MemoryAgent, startMemoryAgent } from '../support/memory-agent.ts'

const JSON_TYPE = { 'content-type': 'application/json' }

async function ask({ url }: MemoryAgent, path: string, init: RequestInit = {}) {
  const response = await fetch(`${url}${path}`, init)
  const text = await response.text()
  return { status: response.status, headers: response.headers, text, json: () => JSON.parse(text) as unknown }
}

test('status, peers, models and downloads have the agreed shapes', async (t) => {
  const agent = await startMemoryAgent(t)
  agent.models.keep(parseRepoSpec('org/model').repo, ['a', 'b'])
  const status = shapes.statusShape.parse((await ask(agent, '/api/v1/status')).json())
  assert.deepEqual([status.ready, status.mesh.rack, status.mesh.site], [true, 'r1', null])
  shapes.peersShape.parse((await ask(agent, '/api/v1/peers')).json())
  const { models } = shapes.modelsShape.parse((await ask(agent, '/api/v1/models')).json())
  assert.deepEqual(
    models.map(({ repo }) => repo),
    ['org/model'],
  )
  shapes.downloadsShape.parse((await ask(agent, '/api/v1/downloads')).json())
})

test('a model is shown and removed by its name, slashes encoded or not, and unknown ones are 404', async (t) => {
  const agent = await startMemoryAgent(t)
  agent.models.keep(parseRepoSpec('org/model').repo, ['a'])
  agent.models.keep(parseRepoSpec('datasets/org/set').repo, ['a'])
  for (const name of ['org/model', 'org%2Fmodel', 'datasets/org/set', 'datasets%2Forg%2Fset']) {
    const { status, json } = await ask(agent, `/api/v1/models/${name}`)
    assert.equal(status, 200, name)
    assert.equal(shapes.modelDetailsShape.parse(json()).commits[0]?.files[0]?.path, 'a')
  }
  const removed = await ask(agent, '/api/v1/models/org/model', { method: 'DELETE' })
  assert.deepEqual(shapes.removedShape.parse(removed.json()), { freedBytes: 10, blobs: 1 })
  for (const method of ['GET', 'DELETE']) {
    const { status, json } = await ask(agent, '/api/v1/models/org/model', { method })
    assert.equal(status, 404)
    assert.equal(shapes.errorBody.parse(json()).error.code, 'not-found')
  }
  for (const name of ['..%2f..', 'a/b/c', '%zz', 'org/model@main']) {
    const { status } = await ask(agent, `/api/v1/models/${name}`)
    assert.ok(status === 400 || status === 404, `${name}: ${status}`)
  }
})

test('a pull is started with 202, seen, and cancelled once', async (t) => {
  const agent = await startMemoryAgent(t)
  const body = JSON.stringify({ repo: 'org/model', include: ['*.json'] })
  const started = await ask(agent, '/api/v1/downloads', { method: 'POST', headers: JSON_TYPE, body })
  assert.equal(started.status, 202)
  const { id } = shapes.pullShape.parse(started.json())
  assert.deepEqual(agent.models.requests[0]?.include, ['*.json'])
  assert.equal(agent.models.requests[0]?.revision, 'main')
  assert.equal(
    shapes.pullShape.parse((await ask(agent, `/api/v1/downloads/${id}`)).json()).state,
    'resolving',
  )
  const cancel = () => ask(agent, `/api/v1/downloads/${id}/cancel`, { method: 'POST' })
  assert.equal(shapes.pullShape.parse((await cancel()).json()).state, 'cancelled')
  assert.equal((await cancel()).status, 409)
  assert.equal((await ask(agent, '/api/v1/downloads/nope')).status, 404)
})

test('writes take JSON only, and what is wrong is named', async (t) => {
  const agent = await startMemoryAgent(t)
  const rows: readonly (readonly [id: string, init: RequestInit, status: number])[] = [
    ['text', { body: '{"repo":"o/n"}', headers: { 'content-type': 'text/plain' } }, 415],
    ['form', { body: 'repo=o%2Fn', headers: { 'content-type': 'application/x-www-form-urlencoded' } }, 415],
    ['JSON in disguise', { body: '{}', headers: { 'content-type': 'text/plain; application/json' } }, 415],
    ['no body', {}, 400],
    ['no JSON', { body: '{', headers: JSON_TYPE }, 400],
    ['array', { body: '[]', headers: JSON_TYPE }, 400],
    ['deep', { body: `${'['.repeat(10_000)}${']'.repeat(10_000)}`, headers: JSON_TYPE }, 400],
    ['no repo', { body: '{}', headers: JSON_TYPE }, 400],
    ['unknown key', { body: '{"repo":"o/n","x":1}', headers: JSON_TYPE }, 400],
    ['proto', { body: '{"repo":"o/n","__proto__":{"include":["x"]}}', headers: JSON_TYPE }, 400],
    ['repo', { body: '{"repo":"../x"}', headers: JSON_TYPE }, 400],
    ['revision', { body: '{"repo":"o/n","revision":"a..b"}', headers: JSON_TYPE }, 400],
    ['too big', { body: ' '.repeat(1024 * 1024 + 1), headers: JSON_TYPE }, 413],
  ]
  for (const [id, init, status] of rows) {
    const got = await ask(agent, '/api/v1/downloads', { method: 'POST', ...init })
    assert.equal(got.status, status, `${id}: ${got.text}`)
    assert.ok(shapes.errorBody.parse(got.json()).error.message.length > 0, id)
  }
  assert.equal(agent.models.requests.length, 0)
})

test('verify streams a line a file and says at the end how it went; a client that leaves stops it', async (t) => {
  const agent = await startMemoryAgent(t)
  agent.models.keep(parseRepoSpec('org/model').repo, ['good', 'bad'])
  agent.models.badPaths.add('bad')
  const { text, headers } = await ask(agent, '/api/v1/verify', {
    method: 'POST',
    headers: JSON_TYPE,
    body: '{}',
  })
  assert.equal(headers.get('content-type'), 'application/x-ndjson')
  const lines = text
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as unknown)
  assert.deepEqual(
    lines.slice(0, 2).map((line) => shapes.verifyLineShape.parse(line).ok),
    [true, false],
  )
  assert.deepEqual(shapes.verifyDoneShape.parse(lines.at(-1)), { done: true, files: 2, bad: 1, error: null })
  const unknown = { method: 'POST', headers: JSON_TYPE, body: '{"repo":"no/thing"}' }
  assert.equal((await ask(agent, '/api/v1/verify', unknown)).status, 404)

  agent.models.keep(parseRepoSpec('org/slow').repo, ['first', 'stuck'])
  const controller = new AbortController()
  const response = await fetch(`${agent.url}/api/v1/verify`, {
    method: 'POST',
    headers: JSON_TYPE,
    body: '{"repo":"org/slow"}',
    signal: controller.signal,
  })
  await response.body?.getReader().read()
  controller.abort()
  while (agent.models.verifyAborts.length === 0) await new Promise((resolve) => setImmediate(resolve))
  assert.deepEqual(agent.models.verifyAborts, ['stuck'])
})

test('mesh reload runs, and probes tell ready from alive', async (t) => {
  const agent = await startMemoryAgent(t)
  const reloaded = await ask(agent, '/api/v1/mesh/reload', { method: 'POST' })
  assert.equal(shapes.reloadedShape.parse(reloaded.json()).peerId, '12D3KooWMemory')
  assert.equal(agent.host.reloads, 1)
  assert.equal((await ask(agent, '/readyz')).status, 200)
  agent.host.notReady = ['the store is recovering']
  const { status, json } = await ask(agent, '/readyz')
  assert.deepEqual([status, json()], [503, { ready: false, notReadyBecause: ['the store is recovering'] }])
  assert.equal((await ask(agent, '/healthz')).status, 200)
})

test('metrics count what was served, by route and status', async (t) => {
  const agent = await startMemoryAgent(t)
  agent.catalog.add({ spec: 'org/model', files: { f: { bytes: Buffer.from('12345') } } })
  await ask(agent, '/org/model/resolve/main/f')
  await ask(agent, '/org/model/resolve/main/gone')
  await ask(agent, '/org/none/resolve/main/f')
  const { text, headers } = await ask(agent, '/metrics')
  assert.match(headers.get('content-type') ?? '', /^text\/plain/)
  assert.match(text, /^shoal_http_request_seconds_count\{route="resolve",status="200"\} 1$/m)
  assert.match(text, /^shoal_http_request_seconds_count\{route="resolve",status="404"\} 1$/m)
  assert.match(text, /^shoal_auth_failures_total 1$/m)
  assert.match(text, /^shoal_build_info\{version="0\.1\.0",node="[\d.]+"\} 1$/m)
  const sent = /^shoal_bytes_total\{from="disk",to="client"\} (\d+)$/m.exec(text)
  assert.deepEqual([Number(sent?.[1]), agent.server.sentBytes], [5, 5])
})

test('the document is OpenAPI 3.1 with every route, and the page lists it without any script', async (t) => {
  const agent = await startMemoryAgent(t)
  const { json } = await ask(agent, '/openapi.json')
  const document = json() as { openapi: string; paths: Record<string, object> }
  assert.equal(document.openapi, '3.1.0')
  for (const path of [
    '/api/v1/status',
    '/api/v1/models/{repo}',
    '/api/v1/downloads/{id}/cancel',
    '/api/v1/verify',
    '/{repo}/resolve/{revision}/{path}',
    '/readyz',
  ])
    assert.ok(document.paths[path], path)
  const page = await ask(agent, '/docs')
  assert.match(page.headers.get('content-security-policy') ?? '', /default-src 'self'/)
  assert.doesNotMatch(page.text, /<script|https?:\/\//)
  for (const path of Object.keys(document.paths)) assert.ok(page.text.includes(path), path)
})

test('a path of our own that is not there is 404 in our form, and errors never show a stack', async (t) => {
  const agent = await startMemoryAgent(t)
  const { status, json } = await ask(agent, '/api/v1/nothing')
  assert.equal(status, 404)
  shapes.errorBody.parse(json())
  agent.models.list = async () => {
    throw new Error('secret detail')
  }
  const failed = await ask(agent, '/api/v1/models')
  assert.equal(failed.status, 500)
  assert.doesNotMatch(failed.text, /secret detail|\.ts/)
})
