// Background mode on a shaped link: a download in the foreground keeps its rate beside a pull, and a pull that is alone has the link.
// Needs root and curl; says so in one line starting with SKIPPED when it cannot run.
import assert from 'node:assert/strict'
import { execFile, spawn } from 'node:child_process'
import test, { type TestContext } from 'node:test'
import { promisify } from 'node:util'
import { sleep, systemClock } from '@shoal/protocol/time.ts'
import { type AgentProcess, connected, eventually } from '../support/agent-process.ts'
import { atEnd } from '../support/cleanups.ts'
import { figure } from '../support/figures.ts'
import { type NetHost, startNetns, whyNoNetns } from '../support/netns.ts'
import { agentOn, bytesPerSecond, hubOn } from '../support/netns-crowd.ts'

const run = promisify(execFile)
const MIB = 1024 * 1024
const REPO = 'lab/model'
const LINK_MBIT = 100
const FOREGROUND_PORT = 8080
const FOREGROUND_SECONDS = 12
const ALONE_MS = 10_000
const skip = (await whyNoNetns()) ?? (await whyNoCurl()) ?? false

async function whyNoCurl(): Promise<string | undefined> {
  return run('curl', ['--version']).then(
    () => undefined,
    () => {
      console.log('SKIPPED: no curl to be the foreground')
      return 'no curl'
    },
  )
}

/** Sends bytes over HTTP for as long as somebody takes them. */
async function serveForeground(t: TestContext, { launch, address }: NetHost): Promise<string> {
  const program = `require('node:http').createServer((_, answer) => {
    const bytes = Buffer.alloc(65536)
    const more = () => { while (answer.write(bytes)); }
    answer.on('drain', more)
    more()
  }).listen(${FOREGROUND_PORT}, '${address}', () => console.log('ready'))`
  const { command, args } = launch(process.execPath, ['-e', program])
  const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'inherit'] })
  atEnd(t, async () => {
    child.kill('SIGKILL')
  })
  await new Promise((resolve) => child.stdout.once('data', resolve))
  return `http://${address}:${FOREGROUND_PORT}/`
}

/** Bytes a second of a plain download. */
async function foreground({ launch }: NetHost, url: string): Promise<number> {
  const { command, args } = launch('curl', [
    ...['-s', '-o', '/dev/null', '-w', '%{speed_download}', '--max-time', `${FOREGROUND_SECONDS}`, url],
  ])
  const { stdout } = await run(command, args).catch((error: { readonly stdout: string }) => error)
  return Number(stdout)
}

async function setLimits(agent: AgentProcess, change: object): Promise<void> {
  const answer = await fetch(`${agent.url}/api/v1/limits`, {
    method: 'PATCH',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(change),
  })
  assert.equal(answer.status, 200, await answer.text())
}

async function received(agent: AgentProcess): Promise<number> {
  const { originBytes, peerBytes } = (await agent.status()).totals
  return originBytes + peerBytes
}

for (const source of ['the origin', 'a peer'] as const)
  test(`beside a pull from ${source} in background mode a foreground download keeps 90 % of its rate, and alone the pull has the link`, {
    skip,
  }, async (t) => {
    const net = await startNetns(t, { hosts: 3, rate: { upMbit: 1000, downMbit: 1000 } })
    const [host, server, seederHost] = net.hosts
    assert.ok(host !== undefined && server !== undefined && seederHost !== undefined)
    const sizeBytes = 1024 * MIB
    const hub = await hubOn(t, net.origin, { [REPO]: { 'model.safetensors': { seed: REPO, sizeBytes } } })
    const peers: AgentProcess[] = []
    if (source === 'a peer') {
      const seeder = await agentOn(t, seederHost, { hub: hub.url })
      await seeder.pull(REPO)
      peers.push(seeder)
    }
    const agent = await agentOn(t, host, { hub: hub.url, peers })
    await connected(agent, peers.length)
    await net.setRate(host, { upMbit: LINK_MBIT, downMbit: LINK_MBIT })
    const url = await serveForeground(t, server)
    const alone = await foreground(host, url)
    await setLimits(agent, { background: true })
    await agent.startPull(REPO)
    await eventually('bytes come', async () => (await received(agent)) > 0)
    // It finds out how much the link carries first.
    await sleep(systemClock, 6_000)
    const before = await received(agent)
    const from = systemClock.now()
    await sleep(systemClock, ALONE_MS)
    const taken = ((await received(agent)) - before) / ((systemClock.now() - from) / 1000)
    const share = taken / bytesPerSecond(LINK_MBIT)
    const beside = await foreground(host, url)
    t.diagnostic(
      `foreground ${(alone / 125_000).toFixed(1)} Mbit/s alone, ${(beside / 125_000).toFixed(1)} beside: ${((100 * beside) / alone).toFixed(1)} %; the pull alone took ${(100 * share).toFixed(1)} % of the link`,
    )
    assert.ok(beside >= figure(0.9, 0.6) * alone, `${beside} of ${alone}`)
    assert.ok(share >= figure(0.7, 0.3), `${share} of the link`)
    for (const peer of peers)
      assert.doesNotMatch(peer.output(), /refused at admission/, 'measuring the way looks like an attack')
  })
