// Bandwidth limits of real agents on real links: what the link counted over windows of 10 s, and how soon a change held. Needs root; says
// so in one line starting with SKIPPED when it cannot run.
import assert from 'node:assert/strict'
import test, { type TestContext } from 'node:test'
import { sleep, systemClock } from '@shoal/protocol/time.ts'
import { type AgentProcess, eventually } from '../support/agent-process.ts'
import { ByteWatch } from '../support/byte-watch.ts'
import { figure } from '../support/figures.ts'
import { startNetns, whyNoNetns } from '../support/netns.ts'
import { agentOn, agentsOn, hubOn } from '../support/netns-crowd.ts'

const MIB = 1024 * 1024
const MBIT = 125_000
const REPO = 'lab/model'
const OTHER = 'lab/other'
const WINDOW_MS = 10_000
const RATE = { upMbit: 1000, downMbit: 1000 }
const skip = (await whyNoNetns()) ?? false

async function scene(t: TestContext, hosts: number, sizeBytes: number) {
  const net = await startNetns(t, { hosts, rate: RATE })
  const files = (seed: string) => ({ 'model.safetensors': { seed, sizeBytes } })
  const hub = await hubOn(t, net.origin, { [REPO]: files(REPO), [OTHER]: files(OTHER) })
  return { net, hub }
}

async function setLimits(
  agent: AgentProcess,
  change: Readonly<Record<string, number | null>>,
): Promise<number> {
  const answer = await fetch(`${agent.url}/api/v1/limits`, {
    method: 'PATCH',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(change),
  })
  assert.equal(answer.status, 200, await answer.text())
  return systemClock.now()
}

async function received(agent: AgentProcess): Promise<number> {
  const { originBytes, peerBytes } = (await agent.status()).totals
  return originBytes + peerBytes
}

interface Held {
  readonly name: string
  readonly watch: ByteWatch
  readonly rate: number
  /** When the limit was set. */
  readonly since: number
}

/** Lets a limit hold for a window and a bit, and judges. */
async function holds(t: TestContext, { name, watch, rate, since }: Held): Promise<void> {
  const to = since + 1_000 + WINDOW_MS + 1_200
  await sleep(systemClock, Math.max(0, to - systemClock.now()))
  const { least, most } = watch.windows(since + 1_000, systemClock.now(), WINDOW_MS)
  const settledMs = watch.settledAfterMs(since, rate, figure(0.1, 0.3))
  const share = (bytes: number) => `${(((bytes - rate) / rate) * 100).toFixed(1)} %`
  t.diagnostic(
    `${name}: ${rate / MBIT} Mbit/s, windows of 10 s ${share(least)} to ${share(most)}, a second that holds it began after ${Math.round(settledMs)} ms`,
  )
  const off = figure(0.05, 0.3) * rate
  assert.ok(Math.abs(least - rate) <= off && Math.abs(most - rate) <= off, `${name}: ${least} to ${most}`)
  assert.ok(settledMs <= figure(1_000, 3_000), `${name}: ${settledMs} ms`)
}

test('what an agent takes keeps to its limits within 5 % over 10 s, for the origin and in all, and a change holds within 1 s', {
  skip,
}, async (t) => {
  const { net, hub } = await scene(t, 1, 1024 * MIB)
  const [host] = net.hosts
  assert.ok(host !== undefined)
  const agent = await agentOn(t, host, { hub: hub.url })
  const atLink = new ByteWatch(async () => (await net.bytes(host)).receivedBytes)
  const told = new ByteWatch(() => received(agent))
  const both = async (name: string, rate: number, since: number) => {
    await Promise.all([
      holds(t, { name: `${name}, at the link`, watch: atLink, rate, since }),
      holds(t, { name: `${name}, as the agent counts`, watch: told, rate, since }),
    ])
  }
  await setLimits(agent, { originBytesPerSecond: 40 * MBIT })
  await agent.startPull(REPO)
  await eventually('bytes come', async () => (await received(agent)) > 0)
  await both('origin', 40 * MBIT, systemClock.now())
  await both('origin raised', 120 * MBIT, await setLimits(agent, { originBytesPerSecond: 120 * MBIT }))
  await both('down', 24 * MBIT, await setLimits(agent, { downBytesPerSecond: 24 * MBIT }))
  await Promise.all([atLink.stop(), told.stop()])
})

test('what an agent gives keeps to its limits within 5 % over 10 s, to all peers and to each, and a change holds within 1 s', {
  skip,
}, async (t) => {
  const { net, hub } = await scene(t, 3, 320 * MIB)
  const [seeder, ...others] = await agentsOn(t, net.hosts, { hub: hub.url })
  const [place] = net.hosts
  assert.ok(seeder !== undefined && place !== undefined)
  const repos = [REPO, OTHER]
  for (const repo of repos) await seeder.pull(repo)
  // Each takes a model of its own from the seeder only: not from the other, not from the origin.
  for (const other of others) await setLimits(other, { upBytesPerSecond: 0, originBytesPerSecond: 1 * MBIT })
  const atLink = new ByteWatch(async () => (await net.bytes(place)).sentBytes)
  await setLimits(seeder, { upBytesPerSecond: 60 * MBIT })
  await Promise.all(others.map((other, at) => other.startPull(repos[at] ?? REPO)))
  await eventually('bytes come', async () => (await seeder.status()).totals.sentToPeersBytes > 0)
  await holds(t, { name: 'up', watch: atLink, rate: 60 * MBIT, since: systemClock.now() })
  const since = await setLimits(seeder, { upBytesPerSecond: null, upPerPeerBytesPerSecond: 40 * MBIT })
  await holds(t, { name: 'up per peer, to two', watch: atLink, rate: 80 * MBIT, since })
  await atLink.stop()
})
