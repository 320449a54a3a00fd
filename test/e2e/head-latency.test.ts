// Metadata while bytes move: HEAD requests at a fixed rate, whether or not the answers keep up, on an agent that pulls at full speed.
import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { connect } from 'node:net'
import test from 'node:test'
import { sleep, systemClock } from '@shoal/protocol/time.ts'
import { type AgentProcess, startAgent } from '../support/agent-process.ts'
import { figure } from '../support/figures.ts'
import { spawnLocalHub } from '../support/local-hub/process.ts'

const GIB = 2 ** 30
const REPO = 'lab/large'
const PATH = `/${REPO}/resolve/main/model.safetensors`
const CONNECTIONS = 16
const RATE = 2_000
const SECONDS = 3

interface Asker {
  ask(): Promise<void>
  close(): void
}

/** Asks one thing at a time over one connection, with as little work as can be: the test shares the machine with the agent. */
async function askerOf(port: number): Promise<Asker> {
  const socket = connect(port, '127.0.0.1')
  socket.setNoDelay(true)
  let answer = ''
  let settle: { resolve: () => void; reject: (error: Error) => void } | undefined
  socket.on('data', (bytes) => {
    answer += bytes.toString('latin1')
    if (!answer.endsWith('\r\n\r\n')) return
    if (answer.startsWith('HTTP/1.1 200')) settle?.resolve()
    else settle?.reject(new Error(answer))
    answer = ''
  })
  await new Promise<void>((resolve, reject) => {
    socket.on('connect', resolve)
    socket.on('error', reject)
  })
  return {
    ask: () =>
      new Promise((resolve, reject) => {
        settle = { resolve, reject }
        socket.write(`HEAD ${PATH} HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\nUser-Agent: hf_hub/0.30\r\n\r\n`)
      }),
    close: () => socket.destroy(),
  }
}

/** Offers `RATE` requests a second and counts from when each was due. @returns milliseconds, sorted */
async function offered(agent: AgentProcess): Promise<readonly number[]> {
  const port = Number(new URL(agent.url).port)
  const askers = await Promise.all(Array.from({ length: CONNECTIONS }, () => askerOf(port)))
  const startedAt = systemClock.now()
  const tookMs: number[] = []
  let sent = 0
  await Promise.all(
    askers.map(async (asker) => {
      while (sent < RATE * SECONDS) {
        const dueAt = startedAt + (sent++ / RATE) * 1000
        const early = dueAt - systemClock.now()
        if (early > 0) await sleep(systemClock, early)
        // A timer that is late is the test's own doing.
        const askedAt = early > 0 ? systemClock.now() : dueAt
        await asker.ask()
        tookMs.push(systemClock.now() - askedAt)
      }
      asker.close()
    }),
  )
  return tookMs.sort((one, other) => one - other)
}

async function cpuSeconds({ pid }: AgentProcess): Promise<number> {
  const fields = (await readFile(`/proc/${pid}/stat`, 'utf8')).split(' ')
  return (Number(fields[13]) + Number(fields[14])) / 100
}

const at = (sorted: readonly number[], share: number) => sorted[Math.floor(sorted.length * share)] ?? 0

test('2,000 HEAD requests a second are answered by an idle agent and by one that pulls at full speed', async (context) => {
  const hub = await spawnLocalHub({
    repos: [{ id: REPO, files: { 'model.safetensors': { seed: 'large', sizeBytes: 3 * GIB } } }],
  })
  context.after(() => hub.stop())
  const agent = await startAgent(context, { hub: hub.url })
  await fetch(`${agent.url}${PATH}`, { method: 'HEAD' })
  await offered(agent)
  const before = await cpuSeconds(agent)
  const idle = await offered(agent)
  const cpuMs = (((await cpuSeconds(agent)) - before) * 1000) / idle.length
  const pull = await agent.startPull(REPO)
  const held = async () => (await agent.downloads()).pulls.find(({ id }) => id === pull.id)?.doneBytes ?? 0
  const heldBefore = await held()
  const busy = await offered(agent)
  const pulledMb = ((await held()) - heldBefore) / 1e6
  console.log(
    `idle p50 ${at(idle, 0.5).toFixed(1)} p99 ${at(idle, 0.99).toFixed(1)} ms, ${cpuMs.toFixed(3)} ms of CPU each; ` +
      `while ${pulledMb.toFixed(0)} MB arrived p50 ${at(busy, 0.5).toFixed(1)} p99 ${at(busy, 0.99).toFixed(1)} ms`,
  )
  assert.ok(pulledMb > 0, 'the pull did not move while it was measured')
  assert.ok(cpuMs <= figure(0.15, 1), `${cpuMs} ms of CPU for a HEAD request`)
  assert.ok(at(idle, 0.99) <= figure(5, 5_000))
  assert.ok(at(busy, 0.99) <= figure(5, 10_000))
})
