// Limits that come by themselves, on real agents: by the hour, for each download, and the cap of the month.
import assert from 'node:assert/strict'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import test, { type TestContext } from 'node:test'
import { type LimitsShape, limitsShape } from '@shoal/agent/http/node-shapes.ts'
import { sleep, systemClock } from '@shoal/protocol/time.ts'
import {
  type AgentOptions,
  type AgentProcess,
  connected,
  eventually,
  startAgent,
} from '../support/agent-process.ts'
import { ByteWatch } from '../support/byte-watch.ts'
import { figure } from '../support/figures.ts'
import { type HubProcess, spawnLocalHub } from '../support/local-hub/process.ts'
import { tempFolder } from '../support/temp-folder.ts'

const MIB = 1024 * 1024
const MBIT = 125_000
const MINUTE_MS = 60_000
const REPO = 'lab/model'
const OTHER = 'lab/other'
const WINDOW_MS = 10_000

async function hubOf(t: TestContext, sizeBytes: number): Promise<HubProcess> {
  const files = {
    'a.safetensors': { seed: 'a', sizeBytes: sizeBytes / 2 },
    'b.safetensors': { seed: 'b', sizeBytes: sizeBytes / 2 },
  }
  const other = { 'c.safetensors': { seed: 'c', sizeBytes: MIB } }
  const hub = await spawnLocalHub({
    repos: [
      { id: REPO, files },
      { id: OTHER, files: other },
    ],
  })
  t.after(() => hub.stop())
  return hub
}

async function agentWith(t: TestContext, bandwidth: object, options: AgentOptions): Promise<AgentProcess> {
  const config = join(await tempFolder(t), 'shoal.json')
  await writeFile(config, JSON.stringify({ bandwidth_management: bandwidth }))
  return startAgent(t, { ...options, args: ['--config', config] })
}

async function received(agent: AgentProcess): Promise<number> {
  const { originBytes, peerBytes } = (await agent.status()).totals
  return originBytes + peerBytes
}

async function limitsOf(agent: AgentProcess): Promise<LimitsShape> {
  return limitsShape.parse(await (await fetch(`${agent.url}/api/v1/limits`)).json())
}

function clockText(ms: number): string {
  const at = new Date(ms)
  return [at.getHours(), at.getMinutes()].map((part) => `${part}`.padStart(2, '0')).join(':')
}

test('the limit of the hour holds within 5 % over 10 s, and the next one within 1 s of its minute', async (t) => {
  const hub = await hubOf(t, 512 * MIB)
  // The first minute that is at least a window away.
  const start = Math.ceil((systemClock.wallTime() + WINDOW_MS + 6_000) / MINUTE_MS) * MINUTE_MS
  const hours = {
    business_hours: { start: clockText(start), end: clockText(start + 60 * MINUTE_MS), limit_mbps: 24 },
    off_hours: { limit_mbps: 48 },
  }
  const agent = await agentWith(t, { time_based_limits: hours }, { hub: hub.url })
  const before = await limitsOf(agent)
  assert.deepEqual(before.inForce.down, { bytesPerSecond: 48 * MBIT, because: 'hours' })
  assert.deepEqual(before.hours?.next, { at: start, bytesPerSecond: 24 * MBIT })
  await sleep(systemClock, Math.max(0, start - systemClock.wallTime() - WINDOW_MS - 4_000))
  await agent.startPull(REPO)
  await eventually('bytes come', async () => (await received(agent)) > 0)
  const watch = new ByteWatch(() => received(agent))
  const off = systemClock.now()
  const changeAt = systemClock.now() + start - systemClock.wallTime()
  await sleep(systemClock, start - systemClock.wallTime() + 1_000 + WINDOW_MS + 1_000)
  assert.deepEqual((await limitsOf(agent)).inForce.down, { bytesPerSecond: 24 * MBIT, because: 'hours' })
  await watch.stop()
  const settledMs = watch.settledAfterMs(changeAt, 24 * MBIT, figure(0.1, 0.3))
  for (const [name, rate, from, to] of [
    ['off hours', 48 * MBIT, off, changeAt],
    ['business hours', 24 * MBIT, changeAt + 1_000, systemClock.now()],
  ] as const) {
    const { least, most } = watch.windows(from, to, WINDOW_MS)
    const share = (bytes: number) => `${(((bytes - rate) / rate) * 100).toFixed(1)} %`
    t.diagnostic(`${name}: ${rate / MBIT} Mbit/s, windows of 10 s ${share(least)} to ${share(most)}`)
    const room = figure(0.05, 0.3) * rate
    assert.ok(Math.abs(least - rate) <= room && Math.abs(most - rate) <= room, `${name}: ${least} to ${most}`)
  }
  t.diagnostic(`a second that holds the new limit began ${Math.round(settledMs)} ms after the minute`)
  assert.ok(settledMs <= figure(1_000, 3_000), `${settledMs} ms`)
})

test('each of two files that are downloaded at a time keeps to the limit of one download', async (t) => {
  const hub = await hubOf(t, 256 * MIB)
  const agent = await agentWith(t, { per_download_limit_mbps: 16 }, { hub: hub.url })
  await agent.startPull(REPO)
  await eventually('both files come', async () => (await agent.downloads()).blobs.length === 2)
  const watch = new ByteWatch(() => received(agent))
  const from = systemClock.now()
  await sleep(systemClock, WINDOW_MS + 2_000)
  await watch.stop()
  const { least, most } = watch.windows(from + 1_000, systemClock.now(), WINDOW_MS)
  t.diagnostic(`two of 16 Mbit/s: ${(least / MBIT).toFixed(2)} to ${(most / MBIT).toFixed(2)} Mbit/s`)
  const room = figure(0.05, 0.3) * 32 * MBIT
  assert.ok(Math.abs(least - 32 * MBIT) <= room && Math.abs(most - 32 * MBIT) <= room, `${least} to ${most}`)
})

test('with the cap of the month used up the origin gives no more, also after a restart, and peers go on', async (t) => {
  const sizeBytes = 48 * MIB
  const cap = 20_000_000
  const hub = await hubOf(t, sizeBytes)
  const storage = join(await tempFolder(t), 'store')
  const bandwidth = { monthly_origin_cap_gb: cap / 1e9 }
  const first = await agentWith(t, bandwidth, { hub: hub.url, storage })
  const { id } = await first.startPull(REPO)
  await eventually('the cap is used up', async () => (await limitsOf(first)).month.usedShare >= 1)
  // For a minute it waits whether a peer comes.
  const refused = await fetch(`${first.url}/${OTHER}/resolve/main/c.safetensors`)
  t.diagnostic(`a client hears ${refused.status}, retry after ${refused.headers.get('retry-after')} s`)
  assert.equal(refused.status, 503)
  assert.ok(Number(refused.headers.get('retry-after')) > 0)
  assert.match(await refused.text(), /month's cap of 0\.02 GB from the origin is used up.*again on/)
  const ended = async () => (await first.downloads()).pulls.find((one) => one.id === id)
  await eventually('the pull has heard', async () => (await ended())?.state === 'failed', 90_000)
  assert.match((await ended())?.error?.message ?? '', /month's cap/)
  const { bytes } = await hub.control.counts()
  assert.ok(bytes <= cap + 6 * MIB, `the origin gave ${bytes}`)
  assert.match(first.output(), /80 % of the month|8\d % of the month/)
  assert.equal(await first.stop(), 0)

  const seeder = await startAgent(t, { hub: hub.url })
  await seeder.pull(REPO)
  await hub.control.resetCounts()
  const again = await agentWith(t, bandwidth, { hub: hub.url, storage, peers: [seeder] })
  assert.ok((await again.status()).originMonth.usedShare >= 1, 'the count did not outlive the restart')
  await connected(again, 1)
  await again.pull(REPO)
  assert.equal((await hub.control.counts()).bytes, 0)
})
