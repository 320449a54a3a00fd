// The operator's hand on real agents: limits that change at run time, pauses that outlive a restart, plans beside what happens, and a
// host that gives peers nothing.
import assert from 'node:assert/strict'
import test, { type TestContext } from 'node:test'
import type { PullPlanShape, PullShape } from '@shoal/agent/http/node-shapes.ts'
import { sleep, systemClock } from '@shoal/protocol/time.ts'
import { type AgentProcess, connected, eventually, startAgent, startMesh } from '../support/agent-process.ts'
import { shoal } from '../support/command-line.ts'
import { figure } from '../support/figures.ts'
import { type HubProcess, spawnLocalHub } from '../support/local-hub/process.ts'
import { tempFolder } from '../support/temp-folder.ts'

const MIB = 1024 * 1024
const REPO = 'lab/model'
const SIZE = 48 * MIB

async function hubOf(context: TestContext): Promise<HubProcess> {
  const files = {
    'a.safetensors': { seed: 'a', sizeBytes: SIZE / 2 },
    'b.safetensors': { seed: 'b', sizeBytes: SIZE / 2 },
  }
  const hub = await spawnLocalHub({ repos: [{ id: REPO, files }] })
  context.after(() => hub.stop())
  return hub
}

/** Runs a command against an agent; its JSON. */
async function tell<T>(context: TestContext, agent: AgentProcess, ...args: string[]): Promise<T> {
  const folder = await tempFolder(context)
  const ran = await shoal([...args, '--json'], { folder, env: { SHOAL_HTTP: agent.url } })
  assert.equal(ran.code, 0, `${args.join(' ')}: ${ran.stdout}${ran.stderr}`)
  return JSON.parse(ran.stdout) as T
}

async function received(agent: AgentProcess): Promise<number> {
  const { originBytes, peerBytes } = (await agent.status()).totals
  return originBytes + peerBytes
}

/** Bytes a second over at least 3 s. */
async function rateOf(agent: AgentProcess): Promise<number> {
  const before = await received(agent)
  const startedAt = systemClock.now()
  await sleep(systemClock, 3_500)
  const after = await received(agent)
  return ((after - before) * 1000) / (systemClock.now() - startedAt)
}

test('an origin limit of 2 MB/s is 2 MB/s, and lifted while the pull runs it holds no more', async (context) => {
  const hub = await hubOf(context)
  const agent = await startAgent(context, { hub: hub.url })
  await tell(context, agent, 'limits', '--origin', '2MB')
  const { id } = await agent.startPull(REPO)
  await eventually('bytes come', async () => (await received(agent)) > 0)
  const rate = await rateOf(agent)
  context.diagnostic(`${Math.round(rate)} bytes a second`)
  assert.ok(Math.abs(rate - 2_000_000) <= figure(0.15, 0.4) * 2_000_000, `${rate} bytes a second`)
  await tell(context, agent, 'limits', '--origin', 'unlimited')
  const startedAt = systemClock.now()
  await eventually('the pull is complete', async () => {
    const { pulls } = await agent.downloads()
    return pulls.some((pull) => pull.id === id && pull.state === 'complete')
  })
  assert.ok(systemClock.now() - startedAt < figure(8_000, 30_000), 'it went on at the old limit')
  assert.equal((await hub.control.counts()).bytes, await hub.control.sizeBytes(REPO))
})

test('a paused pull takes nothing, is still paused after a restart, and goes on from what it had', async (context) => {
  const hub = await hubOf(context)
  const first = await startAgent(context, { hub: hub.url })
  await tell(context, first, 'limits', '--down', '4MB')
  const { id } = await first.startPull(REPO)
  await eventually('two chunks are here', async () => {
    const { pulls } = await first.downloads()
    return (pulls[0]?.doneBytes ?? 0) >= 8 * MIB
  })
  const { pulls } = await tell<{ pulls: PullShape[] }>(context, first, 'downloads', 'pause', REPO)
  assert.deepEqual([pulls[0]?.id, pulls[0]?.state], [id, 'paused'])
  // What the connections had on their way is dropped, but counted.
  await sleep(systemClock, 500)
  const before = await received(first)
  await sleep(systemClock, 1_500)
  assert.equal(await received(first), before)
  assert.equal(await first.stop(), 0)

  const second = await startAgent(context, { hub: hub.url, storage: first.storage })
  await sleep(systemClock, 1_000)
  assert.equal(await received(second), 0)
  const [kept] = (await second.downloads()).pulls
  assert.deepEqual([kept?.id, kept?.state], [id, 'paused'])
  await tell(context, second, 'downloads', 'resume', '--all')
  await eventually(
    'the pull is complete',
    async () => (await second.downloads()).pulls[0]?.state === 'complete',
  )
  const [done] = (await second.downloads()).pulls
  assert.ok((done?.diskBytes ?? 0) >= 8 * MIB, `${done?.diskBytes} bytes were still there`)
})

test('a plan tells who has it and is what then happens; a host that gives nothing is not counted on, until it gives again', async (context) => {
  const hub = await hubOf(context)
  const holder = await startAgent(context, { hub: hub.url })
  await holder.pull(REPO)
  await tell(context, holder, 'limits', '--up', '0')
  const asker = await startAgent(context, { hub: hub.url, peers: [holder] })
  await connected(asker, 1)
  const none = await tell<PullPlanShape>(context, asker, 'plan', REPO)
  assert.deepEqual(none.bytes, { disk: 0, near: 0, far: 0, origin: SIZE })
  assert.deepEqual([none.peersAsked, none.timeMs, none.disk.missingBytes], [1, null, 0])
  const before = (await hub.control.counts()).bytes
  const alone = await tell<PullShape>(context, asker, 'pull', REPO, '--include', 'a*')
  assert.deepEqual([alone.peerBytes, alone.originBytes, alone.planned?.bytes.origin], [0, SIZE / 2, SIZE / 2])
  assert.equal((await hub.control.counts()).bytes - before, SIZE / 2)
  assert.equal((await holder.status()).totals.sentToPeersBytes, 0)

  await tell(context, holder, 'limits', '--up', 'unlimited')
  const both = await tell<PullPlanShape>(context, asker, 'plan', REPO)
  assert.deepEqual(both.bytes, { disk: SIZE / 2, near: SIZE / 2, far: 0, origin: 0 })
  const rest = await tell<PullShape>(context, asker, 'pull', REPO)
  assert.deepEqual([rest.peerBytes, rest.originBytes, rest.diskBytes], [SIZE / 2, 0, SIZE / 2])
  assert.deepEqual(rest.planned?.bytes, both.bytes)
  const { efficiency } = rest
  assert.ok(efficiency !== null && efficiency.efficiency > 0 && efficiency.efficiency <= 1)
  context.diagnostic(
    `efficiency ${efficiency.efficiency.toFixed(2)}, lost ${JSON.stringify(efficiency.lostMs)}`,
  )
})

test('when one of two hosts that share a fetch is paused, the other takes over its part and has what the first holds from it', async (context) => {
  const hub = await hubOf(context)
  const [one, two] = await startMesh(context, 2, { hub: hub.url })
  assert.ok(one !== undefined && two !== undefined)
  for (const agent of [one, two]) await tell(context, agent, 'limits', '--origin', '4MB')
  const pulls = await Promise.all([one, two].map((agent) => agent.startPull(REPO)))
  await eventually('both have a part', async () => {
    const done = await Promise.all(
      [one, two].map(async (agent) => (await agent.downloads()).pulls[0]?.doneBytes),
    )
    return done.every((bytes) => (bytes ?? 0) >= 8 * MIB)
  })
  await tell(context, one, 'downloads', 'pause', REPO)
  await tell(context, two, 'limits', '--origin', 'unlimited')
  const pausedAt = systemClock.now()
  await sleep(systemClock, 500)
  const before = await received(one)
  await eventually(
    'the other is complete',
    async () => (await two.downloads()).pulls[0]?.state === 'complete',
  )
  const seconds = (systemClock.now() - pausedAt) / 1000
  assert.equal(await received(one), before, 'the paused host took something')
  const amplification = (await hub.control.counts()).bytes / (await hub.control.sizeBytes(REPO))
  context.diagnostic(`${seconds.toFixed(1)} s after the pause, amplification ${amplification.toFixed(3)}`)
  assert.ok(seconds < figure(15, 60), `it took ${seconds} s`)
  // Chunks that were on their way to the paused host come twice.
  assert.ok(amplification <= figure(1.6, 2.6), `amplification ${amplification}`)
  await tell(context, one, 'downloads', 'resume', pulls[0]?.id ?? '')
  await eventually(
    'the paused one is complete',
    async () => (await one.downloads()).pulls[0]?.state === 'complete',
  )
})
