// How a site of real agents treats the Hub: few questions however many hosts there are, and one back-off for all while peers go on.
import assert from 'node:assert/strict'
import test, { type TestContext } from 'node:test'
import { type AgentProcess, connected, eventually, startAgent, startMesh } from '../support/agent-process.ts'
import { figure } from '../support/figures.ts'
import { type HubProcess, spawnLocalHub } from '../support/local-hub/process.ts'

const MIB = 1024 * 1024
const REPO = 'lab/model'
const FILES = 4
const HOSTS = Number(process.env.SHOAL_TEST_HOSTS ?? 6)

async function hubWith(context: TestContext, fileBytes: number): Promise<HubProcess> {
  const shards = Object.fromEntries(
    Array.from({ length: FILES }, (_, index) => [
      `model-${index + 1}.safetensors`,
      { seed: `shard ${index}`, sizeBytes: fileBytes },
    ]),
  )
  const hub = await spawnLocalHub({
    repos: [{ id: REPO, files: { 'config.json': { text: '{"model_type":"test"}\n' }, ...shards } }],
  })
  context.after(() => hub.stop())
  return hub
}

/** Look-ups of each file at the Hub, and calls of its API. */
async function asked(
  hub: HubProcess,
): Promise<{ lookups: Map<string, number>; api: string[]; statuses: number[] }> {
  const lookups = new Map<string, number>()
  const api: string[] = []
  const statuses: number[] = []
  for (const { kind, path, server, url, status } of await hub.control.seen()) {
    if (server !== 'hub') continue
    statuses.push(status)
    if (kind === 'resolve') lookups.set(path, (lookups.get(path) ?? 0) + 1)
    else if (kind !== 'resolve-cache') api.push(url)
  }
  return { lookups, api, statuses }
}

test(`${HOSTS} hosts that pull at once look each file up twice at most, and ask the API a few times in all`, async (context) => {
  const hub = await hubWith(context, 16 * MIB)
  const agents = await startMesh(context, HOSTS, { hub: hub.url })
  const lists = await Promise.all(
    agents.map(async (agent) => (await fetch(`${agent.url}/api/models/${REPO}/tree/main`)).json()),
  )
  for (const list of lists) assert.equal((list as unknown[]).length, FILES + 1)
  const { api } = await asked(hub)
  const pulls = await Promise.all(agents.map((agent) => agent.pull(REPO)))
  const { lookups } = await asked(hub)
  const { bytes } = await hub.control.counts()
  const amplification = bytes / (await hub.control.sizeBytes(REPO))
  const seconds = Math.max(...pulls.map(({ startedAt, endedAt }) => (endedAt ?? 0) - startedAt)) / 1000
  console.log(
    `${HOSTS} hosts, ${seconds.toFixed(1)} s, amplification ${amplification.toFixed(3)}, look-ups ${JSON.stringify([...lookups])}, API ${api.length}: ${api.join(' ')}`,
  )
  assert.equal(lookups.size, FILES + 1)
  for (const [path, count] of lookups)
    assert.ok(count <= figure(2, 5), `${path} was looked up ${count} times`)
  assert.ok(api.length <= figure(4, 12), `${api.length} calls of the API`)
})

test('while the Hub answers 429 to one host nobody asks it, and what a peer holds still arrives', async (context) => {
  const hub = await hubWith(context, 4 * MIB)
  const [first, second, third] = await startMesh(context, 3, { hub: hub.url })
  assert.ok(first && second && third)
  await first.pull(REPO)
  // They know the list of files; the bytes are at the first host and at the Hub.
  for (const agent of [second, third])
    assert.equal((await fetch(`${agent.url}/api/models/${REPO}/tree/main`)).status, 200)
  await hub.control.addRepo({
    id: 'lab/other',
    files: { 'other.bin': { seed: 'other', sizeBytes: 8 * MIB } },
  })
  for (const agent of [second, third])
    assert.equal((await fetch(`${agent.url}/api/models/lab/other/tree/main`)).status, 200)
  await hub.control.setQuotas({ resolvers: { anonymous: 0, user: 0 }, windowSeconds: 300 })
  await hub.control.resetCounts()
  const other = async (agent: AgentProcess) => {
    const answer = await fetch(`${agent.url}/lab/other/resolve/main/other.bin`, {
      signal: AbortSignal.timeout(5_000),
    })
    return (await answer.arrayBuffer()).byteLength
  }
  const refused = other(second).catch(() => 0)
  await eventually('the Hub has refused', async () => (await hub.control.seen()).length > 0)
  const pulled = await Promise.all([second.pull(REPO), third.pull(REPO)])
  for (const { originBytes, doneBytes, totalBytes } of pulled) {
    assert.equal(originBytes, 0)
    assert.equal(doneBytes, totalBytes)
  }
  assert.notEqual(await refused, 8 * MIB)
  assert.notEqual(await other(third).catch(() => 0), 8 * MIB)
  const { statuses } = await asked(hub)
  console.log(`the Hub was asked ${statuses.length} times: ${statuses.join(' ')}`)
  assert.deepEqual(statuses, [429], 'one request, of one host')
})

test('alone a host asks as it always did', async (context) => {
  const hub = await hubWith(context, 4 * MIB)
  const agent = await startAgent(context, { hub: hub.url })
  await connected(agent, 0)
  await agent.pull(REPO)
  const { lookups, api } = await asked(hub)
  assert.deepEqual([...lookups.values()], [1, 1, 1, 1, 1])
  assert.equal(api.length, 2)
})
