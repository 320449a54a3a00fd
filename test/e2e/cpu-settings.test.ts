// The settings of processors, as the system itself shows them for a real agent: threads, their processors and their priority.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import test, { type TestContext } from 'node:test'
import { type AgentProcess, startAgent } from '../support/agent-process.ts'
import { tempFolder } from '../support/temp-folder.ts'

const HUB = 'http://127.0.0.1:9'
const skip = process.platform === 'linux' ? false : 'the threads of a process are seen on Linux only'

async function agentWith(t: TestContext, cpu: object, env: Readonly<Record<string, string>> = {}) {
  const config = join(await tempFolder(t), 'shoal.json')
  await writeFile(config, JSON.stringify({ cpu_optimization: cpu }))
  return startAgent(t, { hub: HUB, args: ['--config', config], env })
}

/** One value for each thread. */
async function ofThreads(agent: AgentProcess, file: string, pattern: RegExp): Promise<readonly string[]> {
  const threads = await readdir(`/proc/${agent.pid}/task`)
  return Promise.all(
    threads.map(async (thread) => {
      const text = await readFile(`/proc/${agent.pid}/task/${thread}/${file}`, 'utf8')
      return pattern.exec(text)?.[1] ?? assert.fail(text)
    }),
  )
}

async function threadCount(agent: AgentProcess): Promise<number> {
  return (await readdir(`/proc/${agent.pid}/task`)).length
}

test('io_threads is how many threads there are for files, also when the environment says otherwise', {
  skip,
}, async (t) => {
  const few = await agentWith(t, { io_threads: 2 })
  const many = await agentWith(t, { io_threads: 14 }, { UV_THREADPOOL_SIZE: '3' })
  assert.equal((await threadCount(many)) - (await threadCount(few)), 12)
  const environment = await readFile(`/proc/${many.pid}/environ`, 'utf8')
  assert.ok(environment.split('\0').includes('UV_THREADPOOL_SIZE=14'))
  assert.equal(await many.stop(), 0)
})

test('cpu_affinity holds for every thread', { skip: skip || noTaskset() }, async (t) => {
  const agent = await agentWith(t, { cpu_affinity: [0] })
  assert.deepEqual([...new Set(await ofThreads(agent, 'status', /Cpus_allowed_list:\s*(\S+)/))], ['0'])
})

test('where there is no taskset the log says that cpu_affinity does not hold, and the agent works', {
  skip,
}, async (t) => {
  const agent = await agentWith(t, { cpu_affinity: [0] }, { PATH: '/nowhere' })
  assert.match(agent.output(), /cpu_affinity could not be set/)
  assert.equal((await agent.status()).ready, true)
})

test('priority low is nice 10 for every thread', { skip }, async (t) => {
  const nice = /^\d+ \(.*\) \S+(?: \S+){15} (-?\d+)/
  const before = Number(execFileSync('nice', []).toString())
  // Only root may take back what was given away.
  const expected = process.getuid?.() === 0 ? 10 : Math.max(10, before)
  const agent = await agentWith(t, { priority: 'low' })
  assert.deepEqual([...new Set(await ofThreads(agent, 'stat', nice))], [`${expected}`])
})

function noTaskset(): string | false {
  try {
    execFileSync('taskset', ['--version'])
    return false
  } catch {
    return 'no taskset'
  }
}
