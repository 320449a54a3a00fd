// What a lost peer, liars, and a mesh that is hard to find cost a host. Peers are lost on shaped links, so that seconds are those of
// lines and not of processors: that part needs root, and says so in one line starting with SKIPPED when it cannot run.
// SHOAL_TEST_LOGS=FOLDER keeps what the downloading host logged.
import assert from 'node:assert/strict'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import test, { type TestContext } from 'node:test'
import { sleep, systemClock } from '@shoal/protocol/time.ts'
import { chunksAsked, gaveUpAt, takenOver } from '../support/agent-log.ts'
import { type AgentProcess, connected, eventually, startAgent, startMesh } from '../support/agent-process.ts'
import { faultProxy, SharedLine } from '../support/fault-proxy.ts'
import { figure } from '../support/figures.ts'
import { spawnLocalHub } from '../support/local-hub/process.ts'
import {
  borrowedVoucher,
  falseHave,
  type HostManner,
  honestHost,
  type MeshHolder,
  meshHolder,
  seededFile,
  shortBody,
} from '../support/lying-host.ts'
import { testHosts } from '../support/mesh-host.ts'
import { type NetHost, type Netns, startNetns, whyNoNetns } from '../support/netns.ts'
import { agentOn, agentsOn, hubOn, pullAll } from '../support/netns-crowd.ts'

const MIB = 1024 * 1024
const REPO = 'lab/model'
const PATH = 'model.safetensors'
const DEBUG = { SHOAL_LOG_LEVEL: 'debug' }
const skip = (await whyNoNetns()) ?? false

interface Holder {
  agent: AgentProcess
  readonly host: NetHost
}

interface Loss {
  readonly name: string
  lose(victim: Holder, net: Netns): Promise<void>
  /** So that the next run begins as this one did. */
  mend(victim: Holder, net: Netns): Promise<void>
}

test('of three peers that a host downloads from one is lost in the middle of a chunk', {
  skip,
}, async (t) => {
  const sizeBytes = 96 * MIB
  const net = await startNetns(t, { hosts: 4, rate: { upMbit: 1000, downMbit: 1000 } })
  const hub = await hubOn(t, net.origin, { [REPO]: { [PATH]: { seed: 'lost', sizeBytes } } })
  const [own, ...others] = net.hosts
  assert.ok(own !== undefined)
  const options = { hub: hub.url }
  const agents = await agentsOn(t, others, options)
  await pullAll(agents, REPO)
  const holders = agents.map((agent, at): Holder => ({ agent, host: others[at] ?? own }))
  for (const host of [net.origin, ...net.hosts]) await net.setRate(host, { upMbit: 100, downMbit: 100 })

  /** A new host pulls all of it from the three; `meanwhile` is told of it as soon as a fourth has arrived. */
  const pull = async (context: TestContext, meanwhile: (agent: AgentProcess) => Promise<void>) => {
    const agent = await agentOn(context, own, {
      ...options,
      peers: [...holders.map((one) => one.agent)],
      env: DEBUG,
    })
    await connected(agent, holders.length)
    const run = pullAll([agent], REPO)
    await eventually('a fourth has arrived', async () => {
      const { pulls } = await agent.downloads()
      return (pulls[0]?.doneBytes ?? 0) >= sizeBytes / 4
    })
    await meanwhile(agent)
    const { seconds, pulls } = await run
    await agent.stop()
    return {
      seconds,
      originBytes: pulls[0]?.originBytes ?? 0,
      asked: chunksAsked(agent.output()),
      output: agent.output(),
    }
  }

  const undisturbed = await pull(t, async () => {})
  t.diagnostic(`undisturbed ${undisturbed.seconds.toFixed(2)} s`)

  const losses: readonly Loss[] = [
    {
      name: 'killed',
      lose: async ({ agent }) => agent.kill('SIGKILL'),
      async mend(victim) {
        await victim.agent.exited
        const peers = agents.filter((one) => one !== victim.agent)
        const { storage } = victim.agent
        victim.agent = await agentOn(t, victim.host, { ...options, peers, storage })
      },
    },
    {
      name: 'stopped',
      lose: async ({ agent }) => agent.kill('SIGSTOP'),
      mend: async ({ agent }) => agent.kill('SIGCONT'),
    },
    {
      name: 'unplugged',
      lose: ({ host }, network) => network.unplug(host),
      mend: ({ host }, network) => network.plug(host),
    },
  ]
  for (const { name, lose, mend } of losses)
    await t.test(
      `${name}: others are asked for its chunks within 2 s, and it costs at most 15 % of the time`,
      async (sub) => {
        let lost: { readonly holder: Holder; readonly at: number } | undefined
        const { seconds, originBytes, asked, output } = await pull(sub, async (agent) => {
          const holder = await sendingNow(agent, holders)
          const at = systemClock.wallTime()
          await lose(holder, net)
          lost = { holder, at }
        })
        assert.ok(lost !== undefined)
        const delays = [...takenOver(asked, lost.holder.agent.peerId, lost.at).values()]
        const gaveUpMs = (gaveUpAt(output, lost.holder.agent.peerId, lost.at) ?? Number.NaN) - lost.at
        if (process.env.SHOAL_TEST_LOGS !== undefined)
          await writeFile(join(process.env.SHOAL_TEST_LOGS, `lost-${name}.log`), output)
        await mend(lost.holder, net)
        sub.diagnostic(
          `${seconds.toFixed(2)} s, ${(seconds / undisturbed.seconds).toFixed(2)} x undisturbed; given up after ${gaveUpMs} ms; chunks asked of others after ${delays.join(' ') || '-'} ms; from the origin ${originBytes / MIB} MiB`,
        )
        assert.ok(
          Math.max(0, ...delays) <= figure(2_000, 8_000),
          `asked of another source after ${delays} ms`,
        )
        assert.ok(
          seconds <= figure(1.15, 2.5) * undisturbed.seconds,
          `${seconds} s, undisturbed ${undisturbed.seconds} s`,
        )
      },
    )
})

/** The holder whose bytes arrive just now. */
async function sendingNow(agent: AgentProcess, holders: readonly Holder[]): Promise<Holder> {
  let found: Holder | undefined
  await eventually('a holder is sending', async () => {
    const before = await received(agent)
    await sleep(systemClock, 100)
    const after = await received(agent)
    const gain = ({ agent: { peerId } }: Holder) => (after.get(peerId) ?? 0) - (before.get(peerId) ?? 0)
    found = holders.toSorted((a, b) => gain(b) - gain(a))[0]
    return found !== undefined && gain(found) > 0
  })
  if (found === undefined) throw new Error('nobody sends')
  return found
}

async function received(agent: AgentProcess): Promise<ReadonlyMap<string, number>> {
  return new Map((await agent.peers()).map(({ peer, bytesReceived }) => [peer, bytesReceived]))
}

test('three liars among ten peers cost at most half of the time again, and at most 5 % of the bytes', async (t) => {
  const sizeBytes = 192 * MIB
  const lineBytesPerSecond = 16e6
  const file = await seededFile('liars', sizeBytes)
  const hub = await spawnLocalHub({ repos: [{ id: REPO, files: { [PATH]: { seed: 'liars', sizeBytes } } }] })
  t.after(() => hub.stop())
  await hub.control.limitRate(lineBytesPerSecond)

  const run = async (context: TestContext, cast: (honest: () => MeshHolder) => readonly HostManner[]) => {
    const hosts = testHosts()
    context.after(() => hosts[Symbol.asyncDispose]())
    const holders: MeshHolder[] = []
    const first = () => {
      const [holder] = holders
      if (holder === undefined) throw new Error('no honest host yet')
      return holder
    }
    for (const manner of cast(first)) holders.push(await meshHolder(hosts, [file], manner))
    // The asker has one line for all of them.
    const faults = { down: { line: new SharedLine(lineBytesPerSecond) } }
    const addresses = await Promise.all(
      holders.map(async ({ address }) => {
        const [, port = ''] = /\/tcp\/(\d+)/.exec(address) ?? []
        const proxy = await faultProxy(context, Number(port), faults)
        return address.replace(`/tcp/${port}`, `/tcp/${proxy.port}`)
      }),
    )
    const agent = await startAgent(context, { hub: hub.url, env: { SHOAL_PEERS: addresses.join(',') } })
    const all = async () => (await agent.peers()).length === holders.length
    await eventually('it is connected to all', all, 60_000)
    const { seconds, pulls } = await pullAll([agent], REPO)
    const [pull] = pulls
    const wasted = (pull?.originBytes ?? 0) + (pull?.peerBytes ?? 0) - sizeBytes
    return {
      seconds,
      wasted,
      asked: holders.map(({ asked }) => asked.length),
      originBytes: pull?.originBytes ?? 0,
    }
  }
  const honest = (count: number) => Array.from({ length: count }, () => honestHost)
  const results: Awaited<ReturnType<typeof run>>[] = []
  await t.test('ten honest hosts', async (sub) => {
    results.push(await run(sub, () => honest(10)))
  })
  await t.test('seven honest hosts and three liars', async (sub) => {
    results.push(
      await run(sub, (one) => [...honest(7), borrowedVoucher(() => one().identity), shortBody, falseHave]),
    )
  })
  const [right, lied] = results
  assert.ok(right !== undefined && lied !== undefined)
  t.diagnostic(
    `honest ${right.seconds.toFixed(2)} s, with liars ${lied.seconds.toFixed(2)} s, wasted ${((100 * lied.wasted) / sizeBytes).toFixed(1)} % (honest ${((100 * right.wasted) / sizeBytes).toFixed(1)} %), liars asked ${lied.asked.slice(7).join(' ')}, origin ${(lied.originBytes / MIB).toFixed(0)} MiB (honest ${(right.originBytes / MIB).toFixed(0)})`,
  )
  assert.ok(
    lied.asked.slice(7).some((count) => count > 0),
    'no liar was ever asked',
  )
  for (const count of lied.asked.slice(7, 9)) assert.ok(count <= 3, `a liar brought ${count} bad chunks`)
  assert.ok(lied.wasted <= figure(0.05, 0.15) * sizeBytes, `${lied.wasted} bytes wasted`)
  assert.ok(lied.seconds <= figure(1.5, 3) * right.seconds, `${lied.seconds} s, honest ${right.seconds} s`)
})

test('without coordinator and mDNS a host that knows one of five peers finds all others and completes from one it did not know', async (t) => {
  const sizeBytes = 32 * MIB
  const hub = await spawnLocalHub({ repos: [{ id: REPO, files: { [PATH]: { seed: 'found', sizeBytes } } }] })
  t.after(() => hub.stop())
  const mesh = await startMesh(t, 5, { hub: hub.url })
  const [known, ...unknown] = mesh
  assert.ok(known !== undefined)
  await unknown[2]?.pull(REPO)
  await hub.control.resetCounts()
  const startedAt = systemClock.now()
  const agent = await startAgent(t, { hub: hub.url, peers: [known] })
  await connected(agent, mesh.length)
  const foundMs = systemClock.now() - startedAt
  const peers = new Set((await agent.peers()).map(({ peer }) => peer))
  assert.deepEqual(
    mesh.filter(({ peerId }) => !peers.has(peerId)),
    [],
  )
  const { originBytes, peerBytes } = await agent.pull(REPO)
  t.diagnostic(`all five found ${foundMs.toFixed(0)} ms after its start`)
  assert.deepEqual([originBytes, peerBytes, (await hub.control.counts()).bytes], [0, sizeBytes, 0])
})
