// N real agents on loopback that want the same repo at once: seconds, amplification, processor time and memory of each.
// Run: node test/bench/flash-crowd.ts [--hosts 4] [--size-mb 512] [--rate-mb BYTES_PER_SECOND_OF_THE_HUB] [--logs FOLDER]
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import test from 'node:test'
import { parseArgs } from 'node:util'
import { systemClock } from '@shoal/protocol/time.ts'
import { startMesh } from '../support/agent-process.ts'
import { spawnLocalHub } from '../support/local-hub/process.ts'

const MB = 1_000_000
const REPO = 'bench/flash-crowd'
const { values } = parseArgs({
  options: {
    hosts: { type: 'string', default: '4' },
    'size-mb': { type: 'string', default: '512' },
    'rate-mb': { type: 'string' },
    logs: { type: 'string' },
  },
})
const hosts = Number(values.hosts)
const sizeBytes = Number(values['size-mb']) * MB

test('flash crowd', async (context) => {
  const rate = values['rate-mb']
  const half = Math.floor(sizeBytes / 2)
  const files = {
    'a.safetensors': { seed: 'a', sizeBytes: half },
    'b.safetensors': { seed: 'b', sizeBytes: half },
  }
  const hub = await spawnLocalHub({
    repos: [{ id: REPO, files }],
    ...(rate === undefined ? {} : { bytesPerSecond: Number(rate) * MB }),
  })
  context.after(() => hub.stop())
  const env = { SHOAL_LOG_LEVEL: values.logs === undefined ? 'warn' : 'debug' }
  const agents = await startMesh(context, hosts, { hub: hub.url, env })
  const before = await Promise.all(agents.map(({ pid }) => cpuSeconds(pid)))
  const startedAt = systemClock.now()
  const pulls = await Promise.all(agents.map((agent) => agent.pull(REPO)))
  const seconds = (systemClock.now() - startedAt) / 1000
  const { bytes } = await hub.control.counts()
  console.log(
    `${hosts} hosts, ${(2 * half) / MB} MB: ${seconds.toFixed(2)} s, amplification ${(bytes / (2 * half)).toFixed(3)}`,
  )
  for (const [at, agent] of agents.entries()) {
    const pull = pulls[at]
    const cpu = await cpuSeconds(agent.pid)
    const user = cpu.user - (before[at]?.user ?? 0)
    const system = cpu.system - (before[at]?.system ?? 0)
    const rss = (await agent.rss()) / MB
    console.log(
      `  host ${at + 1}: origin ${((pull?.originBytes ?? 0) / MB).toFixed(0)} MB, peers ${((pull?.peerBytes ?? 0) / MB).toFixed(0)} MB, cpu ${user.toFixed(2)} s user ${system.toFixed(2)} s system, RSS ${rss.toFixed(0)} MB`,
    )
    if (values.logs !== undefined) await writeFile(join(values.logs, `host-${at + 1}.log`), agent.output())
  }
})

async function cpuSeconds(pid: number): Promise<{ readonly user: number; readonly system: number }> {
  const fields = (await readFile(`/proc/${pid}/stat`, 'utf8')).split(' ')
  return { user: Number(fields[13]) / 100, system: Number(fields[14]) / 100 }
}
