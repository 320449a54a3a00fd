// Hosts on links of a known rate: the last of a crowd is done near the lower bound, and the origin gives each byte once.
// Needs root; says so in one line starting with SKIPPED when it cannot run.
import assert from 'node:assert/strict'
import { availableParallelism, loadavg } from 'node:os'
import test, { type TestContext } from 'node:test'
import { type Given, type Rival, runRival, whyNo } from '../bench/crowd-rivals.ts'
import { connected } from '../support/agent-process.ts'
import { figure, isStrict } from '../support/figures.ts'
import { type LinkRate, startNetns, whyNoNetns } from '../support/netns.ts'
import { agentOn, agentsOn, hubOn, lowerBoundSeconds, pullAll, watchSending } from '../support/netns-crowd.ts'

const MIB = 1024 * 1024
const REPO = 'lab/model'
const SMALL_REPO = 'lab/small'
const SMALL_BYTES = 8 * MIB
const PATH = 'model.safetensors'
const HOSTS = 6
const skip = (await whyNoNetns()) ?? false

function both(mbit: number): LinkRate {
  return { upMbit: mbit, downMbit: mbit }
}

async function scene(t: TestContext, hosts: number, sizeBytes: number, rate: LinkRate, originRate = rate) {
  const net = await startNetns(t, { hosts, rate, originRate })
  const hub = await hubOn(t, net.origin, {
    [REPO]: { [PATH]: { seed: REPO, sizeBytes } },
    [SMALL_REPO]: { [PATH]: { seed: SMALL_REPO, sizeBytes: SMALL_BYTES } },
  })
  return { net, hub }
}

/** Links are measured only while processors are not what everybody waits for: the load says whether. */
function shown(seconds: readonly number[]): string {
  const load = `load ${loadavg()[0]?.toFixed(1)} on ${availableParallelism()} processors`
  return `${seconds.map((each) => each.toFixed(1)).join(' ')} s (${load})`
}

test('six hosts on links of 100 Mbit/s that start together: the last is done within 1.25 x the bound, and the origin gives at most 1.05 x the file', {
  skip,
}, async (t) => {
  const sizeBytes = 128 * MIB
  const rate = both(100)
  const { net, hub } = await scene(t, HOSTS, sizeBytes, rate)
  const agents = await agentsOn(t, net.hosts, { hub: hub.url })
  const { seconds, secondsEach } = await pullAll(agents, REPO)
  const bound = lowerBoundSeconds({ sizeBytes, hosts: HOSTS, rate, originRate: rate })
  const amplification = (await hub.control.counts()).bytes / sizeBytes
  t.diagnostic(
    `done after ${shown(secondsEach)}: ${(seconds / bound).toFixed(2)} x the bound of ${bound.toFixed(2)} s, amplification ${amplification.toFixed(3)}`,
  )
  await Promise.all(agents.map((agent) => agent.stop()))

  /** Its time / the bound. undefined, said aloud, when it is not installed. */
  const beside = async (rival: Rival, repo: string): Promise<number | undefined> => {
    const missing = await whyNo(rival)
    if (missing !== undefined) {
      console.log(`SKIPPED: ${missing} to compare with`)
      return undefined
    }
    const given: Given = {
      context: t,
      net,
      seed: repo,
      sizeBytes: await hub.control.sizeBytes(repo),
      url: `${hub.url}/${repo}/resolve/main/${PATH}`,
      sha256: await hub.control.oidOf({ repo, path: PATH }),
    }
    const took = await runRival(rival, given)
    const least = lowerBoundSeconds({ ...given, hosts: HOSTS, rate, originRate: rate })
    t.diagnostic(`${rival}: ${took.seconds.toFixed(1)} s, ${(took.seconds / least).toFixed(2)} x the bound`)
    return took.seconds / least
  }
  // From one server the seconds grow with size and hosts and nothing else: a small file tells as much.
  const others = [await beside('aria2', REPO), await beside('http', SMALL_REPO)]
  assert.ok(amplification <= figure(1.05, 1.6), `amplification ${amplification}`)
  assert.ok(seconds <= figure(1.25, 6) * bound, `${seconds} s, the bound is ${bound} s`)
  for (const other of others)
    assert.ok(!isStrict() || other === undefined || seconds / bound < other, 'another is faster')
})

test('a host that comes late to three hosts that have the file takes no byte from the origin', {
  skip,
}, async (t) => {
  const sizeBytes = 32 * MIB
  const { net, hub } = await scene(t, 4, sizeBytes, both(1000))
  const [late, ...early] = net.hosts
  assert.ok(late !== undefined)
  const seeders = await agentsOn(t, early, { hub: hub.url })
  await pullAll(seeders, REPO)
  for (const host of [net.origin, ...net.hosts]) await net.setRate(host, both(100))
  await hub.control.resetCounts()
  const agent = await agentOn(t, late, { hub: hub.url, peers: seeders.slice(0, 1) })
  await connected(agent, seeders.length)
  const { seconds, pulls } = await pullAll([agent], REPO)
  const { bytes } = await hub.control.counts()
  t.diagnostic(`done after ${shown([seconds])}`)
  assert.equal(bytes, 0)
  assert.equal(pulls[0]?.originBytes, 0)
  const seconds100 = sizeBytes / (100e6 / 8)
  assert.ok(seconds <= figure(1.5, 4) * seconds100, `${seconds} s, the line needs ${seconds100} s`)
})

test('behind a slow site line of 20 Mbit/s the last host is done at most 2 s after the last byte of the origin', {
  skip,
}, async (t) => {
  const sizeBytes = 24 * MIB
  const originRate = both(20)
  const { net, hub } = await scene(t, HOSTS, sizeBytes, both(200), originRate)
  const agents = await agentsOn(t, net.hosts, { hub: hub.url })
  const watch = watchSending(net, net.origin, originRate)
  const { seconds, secondsEach, endedAt } = await pullAll(agents, REPO)
  const afterMs = endedAt - (await watch.lastBusyAt())
  const amplification = (await hub.control.counts()).bytes / sizeBytes
  const line = sizeBytes / (20e6 / 8)
  t.diagnostic(
    `done after ${shown(secondsEach)}, the line needs ${line.toFixed(1)} s, ${afterMs} ms after the origin's last byte, amplification ${amplification.toFixed(3)}`,
  )
  assert.ok(amplification <= figure(1.05, 1.6), `amplification ${amplification}`)
  assert.ok(afterMs <= figure(2_000, 20_000), `${afterMs} ms after the last byte of the origin`)
  assert.ok(seconds <= figure(1.25, 3) * line, `${seconds} s, the line needs ${line} s`)
})
