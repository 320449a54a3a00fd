// A mesh on shaped links that is cut in two and healed, and one whose hosts are restarted one after the other under a download.
// Needs root; says so in one line starting with SKIPPED when it cannot run.
import assert from 'node:assert/strict'
import test from 'node:test'
import { systemClock } from '@shoal/protocol/time.ts'
import { type AgentProcess, connected, eventually } from '../support/agent-process.ts'
import { figure } from '../support/figures.ts'
import { startNetns, whyNoNetns } from '../support/netns.ts'
import { agentOn, agentsOn, bytesPerSecond, hubOn, pullAll } from '../support/netns-crowd.ts'

const MIB = 1024 * 1024
const REPO = 'lab/model'
const MBIT = 100
const RATE = { upMbit: MBIT, downMbit: MBIT }
const skip = (await whyNoNetns()) ?? false

test('a mesh cut in two in the middle of a download gives at most 2.1 files from the origin, and after it has healed nothing more', {
  skip,
}, async (t) => {
  const sizeBytes = 48 * MIB
  const net = await startNetns(t, { hosts: 5, rate: RATE })
  const hub = await hubOn(t, net.origin, { [REPO]: { 'model.safetensors': { seed: 'cut', sizeBytes } } })
  const [newcomer, ...hosts] = net.hosts
  assert.ok(newcomer !== undefined)
  const agents = await agentsOn(t, hosts, { hub: hub.url })
  const run = pullAll(agents, REPO)
  await eventually('a quarter has arrived', async () => {
    const { pulls } = (await agents[0]?.downloads()) ?? { pulls: [] }
    return (pulls[0]?.doneBytes ?? 0) >= sizeBytes / 4
  })
  await net.partition(hosts.slice(0, 2), hosts.slice(2))
  const { secondsEach } = await run
  const amplification = (await hub.control.counts()).bytes / sizeBytes
  await net.heal()
  const healedAt = systemClock.now()
  await Promise.all(agents.map((agent) => connected(agent, agents.length - 1)))
  t.diagnostic(
    `done after ${secondsEach.map((each) => each.toFixed(1)).join(' ')} s, amplification ${amplification.toFixed(3)}; one mesh again ${(systemClock.now() - healedAt).toFixed(0)} ms after the cut was mended`,
  )
  await hub.control.resetCounts()
  const late = await agentOn(t, newcomer, { hub: hub.url, peers: agents.slice(-1) })
  await connected(late, agents.length)
  const { pulls } = await pullAll([late], REPO)
  assert.equal(pulls[0]?.originBytes, 0)
  assert.equal((await hub.control.counts()).bytes, 0)
  assert.ok(amplification <= figure(2.1, 2.6), `amplification ${amplification}`)
})

test('a download from three hosts that are restarted one after the other takes no byte from the origin and at most half of the time again', {
  skip,
}, async (t) => {
  const sizeBytes = 128 * MIB
  const net = await startNetns(t, { hosts: 4, rate: { upMbit: 1000, downMbit: 1000 } })
  const hub = await hubOn(t, net.origin, { [REPO]: { 'model.safetensors': { seed: 'rolling', sizeBytes } } })
  const [own, ...hosts] = net.hosts
  assert.ok(own !== undefined)
  const seeders = await agentsOn(t, hosts, { hub: hub.url })
  await pullAll(seeders, REPO)
  for (const host of [net.origin, ...net.hosts]) await net.setRate(host, RATE)
  await hub.control.resetCounts()
  const agent = await agentOn(t, own, { hub: hub.url, peers: seeders.slice(0, 1) })
  await connected(agent, seeders.length)
  const run = pullAll([agent], REPO)
  const now: AgentProcess[] = [...seeders]
  for (const [at, seeder] of seeders.entries()) {
    const host = hosts[at]
    assert.ok(host !== undefined)
    assert.equal(await seeder.stop(), 0)
    const peers = now.filter((one) => one !== seeder)
    const again = await agentOn(t, host, { hub: hub.url, storage: seeder.storage, peers })
    now[at] = again
    await connected(again, seeders.length)
  }
  const { seconds, pulls } = await run
  const lineSeconds = sizeBytes / bytesPerSecond(MBIT)
  t.diagnostic(
    `done after ${seconds.toFixed(1)} s, ${(seconds / lineSeconds).toFixed(2)} x what the line needs`,
  )
  assert.equal(pulls[0]?.originBytes, 0)
  assert.equal((await hub.control.counts()).bytes, 0)
  assert.ok(seconds <= figure(1.5, 4) * lineSeconds, `${seconds} s`)
})
