// Memory with many large files on their way and many slow clients: below the promised figure, the same for larger files, and no kill in a
// small container. Storage is on a disk: what lies on a RAM disk counts as memory of the container and cannot be written out.
import assert from 'node:assert/strict'
import { mkdir, readFile, rmdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import test, { type TestContext } from 'node:test'
import { sleep, systemClock } from '@shoal/protocol/time.ts'
import { type AgentOptions, type AgentProcess, eventually, startAgent } from '../support/agent-process.ts'
import { figure, isStrict } from '../support/figures.ts'
import { spawnLocalHub } from '../support/local-hub/process.ts'

const MIB = 1024 * 1024
const GIB = 1024 * MIB
const PULLS = 8
const SLOW_BYTES_PER_SECOND = 500_000
const GROUPS = '/sys/fs/cgroup/memory'

const repoOf = (number: number) => `lab/large-${number}`

/** Pulls eight files at once while eight clients read them slowly. @returns the highest resident memory, in bytes */
async function peakBytes(
  context: TestContext,
  sizeBytes: number,
  patienceMs: number,
  launch?: AgentOptions['launch'],
): Promise<number> {
  const hub = await spawnLocalHub({
    repos: Array.from({ length: PULLS }, (_, number) => ({
      id: repoOf(number),
      files: { 'model.safetensors': { seed: `large ${number}`, sizeBytes } },
    })),
  })
  context.after(() => hub.stop())
  const agent = await startAgent(context, { hub: hub.url, ...(launch === undefined ? {} : { launch }) })
  const ending = new AbortController()
  const readers = Array.from({ length: PULLS }, (_, number) => readSlowly(agent, number, ending.signal))
  const pulls = await Promise.all(
    Array.from({ length: PULLS }, (_, number) => agent.startPull(repoOf(number))),
  )
  const startedAt = systemClock.now()
  let doneBytes = 0
  for (let open = pulls.length; open > 0 && systemClock.now() - startedAt < patienceMs; ) {
    await sleep(systemClock, 500)
    const now = (await agent.downloads()).pulls
    open = now.filter(({ endedAt }) => endedAt === null).length
    doneBytes = now.reduce((sum, pull) => sum + pull.doneBytes, 0)
  }
  const read = await Promise.all(readers.map(({ bytes }) => bytes()))
  const peak = await highestBytes(agent)
  const { memory } = await agent.status()
  console.log(
    `${PULLS} pulls of ${(sizeBytes / GIB).toFixed(2)} GiB: ${(doneBytes / 1e6).toFixed(0)} MB arrived, clients read ` +
      `${(read.reduce((sum, bytes) => sum + bytes, 0) / 1e6).toFixed(1)} MB, at most ${(peak / 1e6).toFixed(0)} MB of memory (limit from ${memory.limitFrom})`,
  )
  ending.abort()
  await Promise.all(readers.map(({ over }) => over))
  assert.ok(doneBytes > 0 && read.every((bytes) => bytes > 0), 'pulls and readers moved')
  assert.equal(await agent.stop(), 0)
  return peak
}

function readSlowly(agent: AgentProcess, number: number, signal: AbortSignal) {
  let bytes = 0
  const over = (async () => {
    const response = await fetch(`${agent.url}/${repoOf(number)}/resolve/main/model.safetensors`, { signal })
    const startedAt = systemClock.now()
    for await (const piece of response.body ?? []) {
      bytes += piece.byteLength
      const dueAt = startedAt + (bytes / SLOW_BYTES_PER_SECOND) * 1000
      await sleep(systemClock, Math.max(0, dueAt - systemClock.now()), signal)
    }
  })().catch((error: unknown) => {
    if (!signal.aborted) throw error
  })
  return { bytes: () => bytes, over }
}

async function highestBytes({ pid }: AgentProcess): Promise<number> {
  return Number(/VmHWM:\s+(\d+)/.exec(await readFile(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0) * 1024
}

test('eight pulls with eight slow readers stay below 350 MB', async (context) => {
  const peak = await peakBytes(context, figure(2 * GIB, 256 * MIB), figure(300_000, 60_000))
  assert.ok(peak <= figure(350e6, 700e6), `${peak} bytes`)
})

test('files of 16 GiB take no more memory than small ones', async (context) => {
  // The local Hub hashes what it offers before it offers it: minutes for eight of 16 GiB. A part of the pulls is enough to see.
  const peak = await peakBytes(context, figure(16 * GIB, GIB), figure(60_000, 15_000))
  assert.ok(peak <= figure(350e6, 700e6), `${peak} bytes`)
})

test('in a container of 768 MiB nothing is killed, and the agent knows how much it has', async (context) => {
  const group = join(GROUPS, `shoal-test-${process.pid}`)
  const made = await mkdir(group).then(
    () => writeFile(join(group, 'memory.limit_in_bytes'), String(768 * MIB)).then(() => true),
    () => false,
  )
  if (!made) {
    if (isStrict()) assert.fail('no control group could be made here')
    context.skip('no control group could be made here')
    return
  }
  const peak = await peakBytes(
    context,
    figure(2 * GIB, 256 * MIB),
    figure(300_000, 60_000),
    (command, args) => ({
      command: '/bin/sh',
      args: ['-c', `echo $$ > ${group}/cgroup.procs && exec "$0" "$@"`, command, ...args],
    }),
  )
  assert.ok(peak <= figure(350e6, 700e6), `${peak} bytes`)
  const text = await readFile(join(group, 'memory.oom_control'), 'utf8')
  assert.match(text, /oom_kill 0/)
  await eventually('the group is empty', () =>
    rmdir(group).then(
      () => true,
      () => false,
    ),
  )
})
