// The shaped network does to its hosts what it says: rates, cables, cuts, and nothing left behind. Needs root; says so in one line
// starting with SKIPPED when it cannot run.
import assert from 'node:assert/strict'
import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import test, { type TestContext } from 'node:test'
import { promisify } from 'node:util'
import { systemClock } from '@shoal/protocol/time.ts'
import { type NetHost, startNetns, whyNoNetns } from '../support/netns.ts'

const run = promisify(execFile)
const PORT = 9000
const skip = (await whyNoNetns()) ?? false

/** Sends as many zeros as it is asked for. */
const SERVER = `require('net').createServer((s) => {
  s.on('error', () => {}).on('data', (n) => s.end(Buffer.alloc(Number(n))))
}).listen(${PORT}, () => console.log('up'))`

async function serve(t: TestContext, host: NetHost): Promise<ChildProcess> {
  const { command, args } = host.launch(process.execPath, ['-e', SERVER])
  const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'inherit'] })
  t.after(async () => {
    if (child.exitCode !== null || child.signalCode !== null) return
    child.kill('SIGKILL')
    await once(child, 'exit')
  })
  if (child.stdout !== null) await once(child.stdout, 'data')
  return child
}

/** Milliseconds that the bytes took; undefined when the other is not reached in half a second. */
async function fetchBytes(from: NetHost, to: NetHost, bytes: number): Promise<number | undefined> {
  const program = `const s = require('net').connect(${PORT}, '${to.address}')
const quit = setTimeout(() => process.exit(), 500)
let from
s.on('connect', () => { clearTimeout(quit); from = performance.now(); s.write('${bytes}') })
s.on('end', () => console.log(performance.now() - from)).resume()`
  const { command, args } = from.launch(process.execPath, ['-e', program])
  const { stdout } = await run(command, [...args])
  return stdout === '' ? undefined : Number(stdout)
}

test('links have the rates they were given, each way its own, and they can be changed', {
  skip,
}, async (t) => {
  const net = await startNetns(t, { hosts: 2, rate: { upMbit: 20, downMbit: 100 } })
  const [one, two] = net.hosts
  assert.ok(one !== undefined && two !== undefined)
  await Promise.all([serve(t, one), serve(t, two)])
  const bytes = 2_500_000
  const within = (ms: number | undefined, seconds: number) =>
    assert.ok(ms !== undefined && ms > 850 * seconds && ms < 1_400 * seconds, `${ms} ms, not ${seconds} s`)
  within(await fetchBytes(one, two, bytes), 1)
  await net.setRate(two, { upMbit: 100, downMbit: 100 })
  await net.setRate(one, { upMbit: 100, downMbit: 40 })
  within(await fetchBytes(one, two, bytes), 0.5)
  const before = await net.bytes(one)
  within(await fetchBytes(two, one, 2 * bytes), 0.4)
  const after = await net.bytes(one)
  assert.ok(after.sentBytes - before.sentBytes > 2 * bytes)
  assert.ok(after.receivedBytes - before.receivedBytes < bytes)
})

test('an unplugged host and one behind a cut are reached by nobody, until they are plugged and healed', {
  skip,
}, async (t) => {
  const net = await startNetns(t, { hosts: 3, rate: { upMbit: 100, downMbit: 100 } })
  const [one, two, three] = net.hosts
  assert.ok(one !== undefined && two !== undefined && three !== undefined)
  await Promise.all([net.origin, two, three].map((host) => serve(t, host)))
  const reached = async (from: NetHost, to: NetHost) => (await fetchBytes(from, to, 1_000)) !== undefined
  assert.equal(await reached(one, two), true)
  await net.unplug(two)
  assert.deepEqual([await reached(one, two), await reached(one, three)], [false, true])
  await net.plug(two)
  assert.equal(await reached(one, two), true)
  await net.partition([one, three], [two])
  assert.deepEqual([await reached(one, two), await reached(three, two)], [false, false])
  assert.deepEqual([await reached(one, three), await reached(one, net.origin)], [true, true])
  assert.equal(await reached(two, net.origin), true)
  await net.heal()
  assert.equal(await reached(one, two), true)
})

test('nothing is left of a network that ended, nor of one whose maker was killed', { skip }, async (t) => {
  const dispose: (() => Promise<void>)[] = []
  const net = await startNetns(
    { after: (end) => dispose.push(end) },
    { hosts: 1, rate: { upMbit: 10, downMbit: 10 } },
  )
  const server = await serve(t, net.origin)
  // A process id above the largest that Linux gives.
  const stale = 'shoal-4194305-1-host1'
  await run('ip', ['netns', 'add', stale])
  const gone = once(server, 'exit')
  for (const end of dispose) await end()
  await gone
  const next = await startNetns(t, { hosts: 1, rate: { upMbit: 10, downMbit: 10 } })
  const names = (await run('ip', ['netns', 'list'])).stdout.split('\n').map((line) => line.split(' ')[0])
  assert.ok(!names.includes(stale))
  const own = names.filter((name) => name?.startsWith(`shoal-${process.pid}-`))
  assert.equal(own.length, 3, own.join(' '))
  const startedAt = systemClock.now()
  await next[Symbol.asyncDispose]()
  assert.ok(systemClock.now() - startedAt < 2_000)
})
