// Downloads, plans and limits over a socket: shapes, validation, one form of errors, and the API document.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as shapes from '@shoal/agent/http/node-shapes.ts'
import { type MemoryAgent, startMemoryAgent } from '../support/memory-agent.ts'

const JSON_TYPE = { 'content-type': 'application/json' }

async function ask({ url }: MemoryAgent, path: string, method = 'GET', body?: unknown) {
  const init: RequestInit =
    body === undefined ? { method } : { method, headers: JSON_TYPE, body: JSON.stringify(body) }
  const response = await fetch(`${url}${path}`, init)
  const text = await response.text()
  return { status: response.status, text, json: (): unknown => JSON.parse(text) }
}

const codeOf = (answer: { json(): unknown }) => shapes.errorBody.parse(answer.json()).error.code

test('a pull is started with its class, paused, resumed and moved; one that has ended is not', async (t) => {
  const agent = await startMemoryAgent(t)
  const start = (body: object) => ask(agent, '/api/v1/downloads', 'POST', { repo: 'org/model', ...body })
  const pull = shapes.pullShape.parse((await start({ priority: 'preheat', plan: true })).json())
  assert.deepEqual([pull.priority, pull.place, pull.planned, pull.efficiency], ['preheat', 1, null, null])
  assert.equal((await start({ priority: 'reader' })).status, 400)
  const act = (verb: string) => ask(agent, `/api/v1/downloads/${pull.id}/${verb}`, 'POST')
  assert.equal(shapes.pullShape.parse((await act('pause')).json()).state, 'paused')
  assert.equal(shapes.pullShape.parse((await act('resume')).json()).state, 'queued')
  const order = (body: unknown) => ask(agent, '/api/v1/downloads/order', 'POST', body)
  for (const [to, place] of [
    ['first', 'first'],
    ['last', 'last'],
    [3, 2],
  ] as const) {
    shapes.downloadsShape.parse((await order({ ids: [pull.id], to })).json())
    assert.deepEqual(agent.models.moves.at(-1), [[pull.id], place])
  }
  assert.equal((await order({ ids: ['nobody'], to: 'first' })).status, 404)
  for (const bad of [
    {},
    { ids: [], to: 'first' },
    { ids: [pull.id], to: 0 },
    { ids: [pull.id], to: 'top' },
    { ids: [pull.id] },
  ]) {
    const answer = await order(bad)
    assert.deepEqual([answer.status, codeOf(answer)], [400, 'bad-request'], JSON.stringify(bad))
  }
  await act('cancel')
  for (const verb of ['pause', 'resume', 'cancel']) {
    const answer = await act(verb)
    assert.deepEqual([answer.status, codeOf(answer)], [409, 'conflict'], verb)
  }
  assert.equal((await ask(agent, '/api/v1/downloads/nobody/pause', 'POST')).status, 404)
})

test('a plan is asked for with a repo and patterns, and says what is known of the quota', async (t) => {
  const agent = await startMemoryAgent(t)
  const answer = await ask(
    agent,
    '/api/v1/plan?repo=datasets/org/set&include=*.json&include=*.txt&exclude=x*',
  )
  const plan = shapes.pullPlanShape.parse(answer.json())
  assert.deepEqual([plan.repo, plan.revision, plan.timeMs], ['datasets/org/set', 'main', 4_000])
  assert.deepEqual(plan.quota, [{ bucket: 'api', remaining: 480, seenAt: 1 }])
  assert.deepEqual(agent.models.requests.at(-1)?.include, ['*.json', '*.txt'])
  assert.deepEqual(agent.models.requests.at(-1)?.exclude, ['x*'])
  for (const query of [
    '',
    '?repo=',
    '?repo=../x',
    '?repo=org/model@main',
    '?repo=org/model&revision=a..b',
    '?repo=org/model&include=',
    `?repo=org/model${'&include=a'.repeat(65)}`,
    '?repo=org/model&colour=red',
  ]) {
    const bad = await ask(agent, `/api/v1/plan${query}`)
    assert.deepEqual([bad.status, codeOf(bad)], [400, 'bad-request'], query)
  }
})

test('limits are read, changed by name and replaced as a whole; what makes no sense changes nothing', async (t) => {
  const agent = await startMemoryAgent(t)
  const limits = async (method: string, body?: unknown) => {
    const answer = await ask(agent, '/api/v1/limits', method, body)
    assert.equal(answer.status, 200, answer.text)
    return shapes.limitsShape.parse(answer.json())
  }
  const { inForce, month, ...first } = await limits('GET')
  assert.deepEqual(first, {
    upBytesPerSecond: null,
    upPerPeerBytesPerSecond: null,
    downBytesPerSecond: null,
    originBytesPerSecond: null,
    perDownloadBytesPerSecond: null,
    givesToPeers: true,
    hours: null,
    load: null,
    background: { enabled: false, queueMs: null },
  })
  assert.deepEqual(inForce.down, { because: 'none', bytesPerSecond: null })
  assert.equal(month.capBytes, null)
  await limits('PATCH', { upBytesPerSecond: 0, downBytesPerSecond: 2_000_000 })
  const changed = await limits('PATCH', { originBytesPerSecond: 1_000_000 })
  assert.deepEqual(
    [
      changed.givesToPeers,
      changed.upBytesPerSecond,
      changed.downBytesPerSecond,
      changed.originBytesPerSecond,
    ],
    [false, 0, 2_000_000, 1_000_000],
  )
  for (const bad of [
    { downBytesPerSecond: 0 },
    { upBytesPerSecond: -1 },
    { originBytesPerSecond: 1_000 },
    { upPerPeerBytesPerSecond: '2MB' },
    { sideways: 2_000_000 },
    [],
  ]) {
    const answer = await ask(agent, '/api/v1/limits', 'PATCH', bad)
    assert.deepEqual([answer.status, codeOf(answer)], [400, 'bad-request'], JSON.stringify(bad))
  }
  assert.deepEqual(await limits('GET'), changed)
  const replaced = await limits('PUT', { upBytesPerSecond: 4_000_000 })
  assert.deepEqual(
    [replaced.upBytesPerSecond, replaced.downBytesPerSecond, replaced.givesToPeers],
    [4_000_000, null, true],
  )
})

test("PUT and PATCH are for this host's API: the routes of the Hub refuse them, and so does a page of another site", async (t) => {
  const agent = await startMemoryAgent(t)
  for (const method of ['PUT', 'PATCH']) {
    assert.equal((await ask(agent, '/org/model/resolve/main/f', method, {})).status, 405)
    assert.equal((await ask(agent, '/api/models/org/model', method, {})).status, 405)
    assert.equal((await ask(agent, '/api/v1/status', method, {})).status, 404)
  }
  const foreign = await fetch(`${agent.url}/api/v1/limits`, {
    method: 'PATCH',
    headers: { ...JSON_TYPE, origin: 'https://evil.example' },
    body: '{"upBytesPerSecond":0}',
  })
  assert.equal(foreign.status, 403)
  const form = await fetch(`${agent.url}/api/v1/limits`, {
    method: 'PATCH',
    headers: { 'content-type': 'text/plain' },
    body: '{}',
  })
  assert.equal(form.status, 415)
})

test('the API document names every one of these routes with its methods', async (t) => {
  const agent = await startMemoryAgent(t)
  const { paths } = (await ask(agent, '/openapi.json')).json() as {
    paths: Record<string, Record<string, unknown>>
  }
  const methods = (path: string) => Object.keys(paths[path] ?? {}).toSorted()
  assert.deepEqual(methods('/api/v1/downloads'), ['get', 'post'])
  for (const verb of ['pause', 'resume', 'cancel'])
    assert.deepEqual(methods(`/api/v1/downloads/{id}/${verb}`), ['post'])
  assert.deepEqual(methods('/api/v1/downloads/order'), ['post'])
  assert.deepEqual(methods('/api/v1/plan'), ['get'])
  assert.deepEqual(methods('/api/v1/limits'), ['get', 'patch', 'put'])
})
