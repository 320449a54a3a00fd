// The main job with real processes: a model moves from a Hub to hosts, once, and from host to host when others are gone.
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import test, { type TestContext } from 'node:test'
import { type AgentProcess, connected, startAgent, startMesh } from '../support/agent-process.ts'
import { figure } from '../support/figures.ts'
import { type HubProcess, spawnLocalHub } from '../support/local-hub/process.ts'

const MIB = 1024 * 1024
const REPO = 'lab/model'

async function hubWith(context: TestContext, sizeBytes: number, files = 2): Promise<HubProcess> {
  const shards = Object.fromEntries(
    Array.from({ length: files }, (_, index) => [
      `model-${index + 1}.safetensors`,
      { seed: `shard ${index}`, sizeBytes: Math.floor(sizeBytes / files) },
    ]),
  )
  const hub = await spawnLocalHub({
    repos: [{ id: REPO, files: { 'config.json': { text: '{"model_type":"test"}\n' }, ...shards } }],
  })
  context.after(() => hub.stop())
  return hub
}

/** SHA-256 of a file as a client gets it from an agent, and the status. */
async function read(
  agent: AgentProcess,
  path: string,
): Promise<{ status: number; digest: string; bytes: number }> {
  const response = await fetch(`${agent.url}/${REPO}/resolve/main/${path}`)
  const hash = createHash('sha256')
  let bytes = 0
  for await (const piece of response.body ?? []) {
    hash.update(piece)
    bytes += piece.byteLength
  }
  return { status: response.status, digest: hash.digest('hex'), bytes }
}

async function holds(agent: AgentProcess, hub: HubProcess, files = 2): Promise<void> {
  for (let index = 1; index <= files; index++) {
    const path = `model-${index}.safetensors`
    const { status, digest } = await read(agent, path)
    assert.equal(status, 200)
    assert.equal(digest, await hub.control.oidOf({ repo: REPO, path }), `${path} at ${agent.url}`)
  }
}

test('four hosts that want a repo at once take each byte from the Hub once, and serve each other before they are complete', async (context) => {
  const size = 512 * MIB
  const hub = await hubWith(context, size)
  const agents = await startMesh(context, 4, { hub: hub.url })
  const pulls = await Promise.all(agents.map((agent) => agent.pull(REPO)))
  const { bytes } = await hub.control.counts()
  const total = await hub.control.sizeBytes(REPO)
  console.log(
    `amplification ${(bytes / total).toFixed(4)}; seconds ${pulls.map(({ startedAt, endedAt }) => (((endedAt ?? 0) - startedAt) / 1000).toFixed(2)).join(' ')}`,
  )
  assert.ok(bytes / total <= figure(1.05, 1.6), `amplification ${bytes / total}`)
  for (const agent of agents) await holds(agent, hub)
  for (const agent of agents) {
    const { totals } = await agent.status()
    assert.ok(totals.sentToPeersBytes > 0, `${agent.url} gave nothing to the others`)
  }
})

test('with the Hub gone others complete from peers, and with all peers gone a host completes from the Hub', async (context) => {
  const hub = await hubWith(context, 64 * MIB)
  const first = await startAgent(context, { hub: hub.url })
  await first.pull(REPO)
  await hub.control.pause('hub', 'cdn', 'mirror')
  const others = await Promise.all([1, 2].map(() => startAgent(context, { hub: hub.url, peers: [first] })))
  await Promise.all(others.map((agent) => connected(agent, 1)))
  const pulls = await Promise.all(others.map((agent) => agent.pull(REPO)))
  for (const pull of pulls) assert.equal(pull.originBytes, 0)
  for (const agent of others) await holds(agent, hub)
  assert.deepEqual(await Promise.all([first, ...others].map((agent) => agent.stop())), [0, 0, 0])
  await hub.control.resume('hub', 'cdn', 'mirror')
  const fourth = await startAgent(context, { hub: hub.url, peers: [first] })
  const pull = await fourth.pull(REPO)
  assert.equal(pull.peerBytes, 0)
  await holds(fourth, hub)
})

test('a file that nobody holds and no Hub gives is refused with 503 at once, not with a silent stream', async (context) => {
  const hub = await hubWith(context, 16 * MIB)
  const agent = await startAgent(context, { hub: hub.url })
  assert.equal((await fetch(`${agent.url}/api/models/${REPO}`)).status, 200)
  assert.equal((await fetch(`${agent.url}/api/models/${REPO}/tree/main`)).status, 200)
  await hub.control.pause('hub', 'cdn', 'mirror')
  const startedAt = performance.now()
  const response = await fetch(`${agent.url}/${REPO}/resolve/main/model-1.safetensors`)
  assert.equal(response.status, 503)
  assert.match(response.headers.get('x-error-message') ?? '', /\S/)
  assert.ok(performance.now() - startedAt < 9_000, 'clients give up after 10 s')
})

test('the view is a valid Hub cache and the bytes lie on the disk once', async (context) => {
  const hub = await hubWith(context, 32 * MIB)
  const agent = await startAgent(context, { hub: hub.url })
  await agent.pull(REPO)
  const oid = await hub.control.oidOf({ repo: REPO, path: 'model-1.safetensors' })
  const root = join(agent.hubCache, 'models--lab--model')
  const blob = await stat(join(root, 'blobs', oid))
  const stored = await stat(join(agent.storage, 'blobs', 'sha256', oid.slice(0, 2), oid))
  assert.equal(blob.ino, stored.ino)
})
