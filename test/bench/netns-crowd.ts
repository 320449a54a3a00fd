// A flash crowd on shaped links: hosts in network namespaces that want the same file at once, and nobody has it. Beside it, in the
// same run and on the same hosts, BitTorrent programs and everybody from one HTTP server. Needs root; rivals that are missing are
// named. Run: node test/bench/netns-crowd.ts [--hosts 6] [--size-mb 128] [--rate-mbit 100] [--origin-mbit 100] [--runs 1]
//   [--with aria2,libtorrent,http] [--json] [--logs FOLDER]     (sizes in MiB)
import { readFile, writeFile } from 'node:fs/promises'
import { availableParallelism, loadavg } from 'node:os'
import { join } from 'node:path'
import test, { type TestContext } from 'node:test'
import { parseArgs } from 'node:util'
import { sleep, systemClock } from '@shoal/protocol/time.ts'
import type { AgentProcess } from '../support/agent-process.ts'
import { type Netns, startNetns, whyNoNetns } from '../support/netns.ts'
import { agentsOn, type CrowdShape, hubOn, lowerBoundSeconds, pullAll } from '../support/netns-crowd.ts'
import { type Given, RIVALS, type Rival, runRival, whyNo } from './crowd-rivals.ts'

const MIB = 1024 * 1024
const REPO = 'bench/crowd'
const PATH = 'model.safetensors'
const SAMPLE_MS = 500
const TICKS_PER_SECOND = 100
const { values } = parseArgs({
  options: {
    hosts: { type: 'string', default: '6' },
    'size-mb': { type: 'string', default: '128' },
    'rate-mbit': { type: 'string', default: '100' },
    'origin-mbit': { type: 'string' },
    runs: { type: 'string', default: '1' },
    with: { type: 'string', default: '' },
    json: { type: 'boolean', default: false },
    logs: { type: 'string' },
  },
})
const mbit = Number(values['rate-mbit'])
const originMbit = Number(values['origin-mbit'] ?? mbit)
const shape: CrowdShape = {
  sizeBytes: Number(values['size-mb']) * MIB,
  hosts: Number(values.hosts),
  rate: { upMbit: mbit, downMbit: mbit },
  originRate: { upMbit: originMbit, downMbit: originMbit },
}
const rivals = values.with.split(',').filter((name) => name !== '')
const boundSeconds = lowerBoundSeconds(shape)

interface Row {
  readonly name: string
  readonly run: number
  readonly seconds: number
  /** To the lower bound. */
  readonly ratio: number
  /** What left the origin's link / F, headers and all. */
  readonly originSent: number
  /** Bytes of the file that the Hub handed out / F. */
  readonly amplification?: number
}

for (const name of rivals)
  if (!RIVALS.includes(name as Rival)) throw new Error(`no rival ${name}; known: ${RIVALS.join(', ')}`)

test('flash crowd on shaped links', async (context) => {
  const missing = await whyNoNetns()
  if (missing !== undefined) return context.skip(missing)
  const rows: Row[] = []
  for (let run = 1; run <= Number(values.runs); run++) {
    rows.push(await shoal(context, run))
    for (const rival of RIVALS) if (rivals.includes(rival)) rows.push(...(await beside(context, rival, run)))
  }
  print(rows)
})

/** Everything new for each: no warm caches, no windows opened by the run before. */
async function shoal(context: TestContext, run: number): Promise<Row> {
  let row: Row | undefined
  await context.test(`shoal, run ${run}`, async (t) => {
    const net = await startNetns(t, shape)
    const hub = await hubOn(t, net.origin, { [REPO]: files(run) })
    const level = values.logs === undefined ? 'warn' : 'debug'
    const agents = await agentsOn(t, net.hosts, { hub: hub.url, env: { SHOAL_LOG_LEVEL: level } })
    const { sentBytes } = await net.bytes(net.origin)
    const before = await processorSeconds(agents)
    const samples = values.logs === undefined ? undefined : sampleLinks(net)
    const { seconds, secondsEach, startedAt } = await pullAll(agents, REPO)
    const sent = (await net.bytes(net.origin)).sentBytes - sentBytes
    const { bytes } = await hub.control.counts()
    const processor = (await processorSeconds(agents)) - before
    console.log(
      `hosts done after ${secondsEach.map((each) => each.toFixed(1)).join(' ')} s; processor time of all agents ${processor.toFixed(1)} s, ${((processor * 1e9) / (shape.sizeBytes * shape.hosts)).toFixed(1)} s a gigabyte received`,
    )
    if (values.logs !== undefined) {
      const about = agents.map(({ peerId }, at) => ({ host: at + 1, peerId }))
      await writeFile(join(values.logs, 'links.csv'), (await samples?.()) ?? '')
      await writeFile(join(values.logs, 'run.json'), JSON.stringify({ startedAt, seconds, hosts: about }))
      for (const [at, agent] of agents.entries())
        await writeFile(join(values.logs, `host-${at + 1}.log`), agent.output())
    }
    row = rowOf('shoal', run, seconds, sent, bytes / shape.sizeBytes)
  })
  if (row === undefined) throw new Error('the run failed')
  return row
}

/** Of all of them since they started. Shaped links measure links only while this stays far below what the machine has. */
async function processorSeconds(agents: readonly AgentProcess[]): Promise<number> {
  let ticks = 0
  for (const { pid } of agents) {
    const fields = (await readFile(`/proc/${pid}/stat`, 'utf8')).split(' ')
    ticks += Number(fields[13]) + Number(fields[14])
  }
  return ticks / TICKS_PER_SECOND
}

/** What each link carries over time, to see who waited. @returns a function that ends it and gives a table */
function sampleLinks(net: Netns): () => Promise<string> {
  const stop = new AbortController()
  const lines = ['seconds,host,sent Mbit/s,received Mbit/s']
  const hosts = [net.origin, ...net.hosts]
  const work = (async () => {
    const startedAt = systemClock.now()
    let before = await Promise.all(hosts.map((host) => net.bytes(host)))
    let at = startedAt
    while (!stop.signal.aborted) {
      await sleep(systemClock, SAMPLE_MS)
      const after = await Promise.all(hosts.map((host) => net.bytes(host)))
      const now = systemClock.now()
      const mbitOf = (bytes: number) => ((bytes * 8) / 1000 / (now - at)).toFixed(1)
      for (const [which, { name }] of hosts.entries()) {
        const sent = (after[which]?.sentBytes ?? 0) - (before[which]?.sentBytes ?? 0)
        const received = (after[which]?.receivedBytes ?? 0) - (before[which]?.receivedBytes ?? 0)
        lines.push(`${((now - startedAt) / 1000).toFixed(1)},${name},${mbitOf(sent)},${mbitOf(received)}`)
      }
      before = after
      at = now
    }
  })()
  return async () => {
    stop.abort()
    await work
    return `${lines.join('\n')}\n`
  }
}

async function beside(context: TestContext, rival: Rival, run: number): Promise<readonly Row[]> {
  const missing = await whyNo(rival)
  if (missing !== undefined) console.log(`SKIPPED: ${missing}`)
  if (missing !== undefined) return []
  let row: Row | undefined
  await context.test(`${rival}, run ${run}`, async (t) => {
    const net = await startNetns(t, shape)
    const hub = await hubOn(t, net.origin, { [REPO]: files(run) })
    const given: Given = {
      context: t,
      net,
      seed: seedOf(run),
      sizeBytes: shape.sizeBytes,
      url: `${hub.url}/${REPO}/resolve/main/${PATH}`,
      sha256: await hub.control.oidOf({ repo: REPO, path: PATH }),
    }
    const { seconds, originSentBytes } = await runRival(rival, given)
    row = rowOf(rival, run, seconds, originSentBytes)
  })
  if (row === undefined) throw new Error('the run failed')
  return [row]
}

function rowOf(name: string, run: number, seconds: number, sentBytes: number, amplification?: number): Row {
  const base = {
    name,
    run,
    seconds,
    ratio: seconds / boundSeconds,
    originSent: sentBytes / shape.sizeBytes,
  }
  return amplification === undefined ? base : { ...base, amplification }
}

function seedOf(run: number): string {
  return `crowd ${run}`
}

function files(run: number) {
  return { [PATH]: { seed: seedOf(run), sizeBytes: shape.sizeBytes } }
}

function print(rows: readonly Row[]): void {
  if (values.json) {
    console.log(JSON.stringify({ ...shape, boundSeconds, rows }))
    return
  }
  console.log(
    `${shape.hosts} hosts, ${shape.sizeBytes / MIB} MiB, links ${mbit} Mbit/s, origin ${originMbit} Mbit/s, bound ${boundSeconds.toFixed(2)} s; load of the machine ${loadavg()[0]?.toFixed(1)} on ${availableParallelism()} processors`,
  )
  console.log('                run   last host s   / bound   origin link sent / F   origin gave / F')
  for (const { name, run, seconds, ratio, originSent, amplification } of rows)
    console.log(
      `${name.padEnd(16)}${String(run).padStart(3)}${seconds.toFixed(2).padStart(14)}${ratio.toFixed(2).padStart(10)}` +
        `${originSent.toFixed(2).padStart(23)}${(amplification?.toFixed(3) ?? '').padStart(18)}`,
    )
}
