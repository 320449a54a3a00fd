// `shoal` as a real process: signals, closed pipes, the terminal, the Node.js it runs on.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { delimiter, join } from 'node:path'
import { text } from 'node:stream/consumers'
import { type TestContext, test } from 'node:test'
import { toPull } from '@shoal/agent/http/node-json.ts'
import { pullOf, startAgentApi } from '../support/agent-api.ts'
import { REPOSITORY, SHOAL, SHOAL_COORDINATOR, shoal, spawnProgram } from '../support/command-line.ts'
import { tempFolder } from '../support/temp-folder.ts'

const ENDLESS = [pullOf({ state: 'running', doneBytes: 1_000_000, endedAt: undefined })]

async function world(context: TestContext) {
  const folder = await tempFolder(context)
  const api = await startAgentApi(join(folder, 'storage'))
  context.after(() => api[Symbol.asyncDispose]())
  return { api, surroundings: { folder, env: { SHOAL_HTTP: api.url } } }
}

for (const [signal, code] of [
  ['SIGINT', 130],
  ['SIGTERM', 143],
] as const) {
  test(`${signal} during a pull cancels it at the agent and ends with ${code}`, async (context) => {
    const { api, surroundings } = await world(context)
    api.pulls = ENDLESS
    const { child, ended } = spawnProgram(SHOAL, ['pull', 'org/model', '--json'], surroundings)
    child.stderr.once('data', () => child.kill(signal))
    const [out, exit] = await Promise.all([text(child.stdout), ended])
    assert.equal(exit, code)
    assert.deepEqual(api.asked, ['pull org/model@main', 'cancel p1'])
    const { error } = JSON.parse(out)
    assert.equal(error.code, 'aborted')
    assert.match(error.message, /1\.0 MB of 2\.3 MB are here and stay/)
  })
}

test('a second Ctrl-C ends a pull at once, although the agent does not answer', async (context) => {
  const folder = await tempFolder(context)
  let onCancel = () => {}
  const server = createServer((request, response) => {
    if (request.url?.endsWith('/cancel')) onCancel()
    else response.end(JSON.stringify(toPull(ENDLESS[0] ?? pullOf())))
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  context.after(() => server.close())
  const env = { SHOAL_HTTP: `http://127.0.0.1:${(server.address() as AddressInfo).port}` }
  const { child, ended } = spawnProgram(SHOAL, ['pull', 'org/model'], { folder, env })
  onCancel = () => child.kill('SIGINT')
  child.stderr.once('data', () => child.kill('SIGINT'))
  assert.equal(await ended, 130)
})

test('a reader that closes the pipe ends a command quietly; a verdict that nobody saw is a failure', async (context) => {
  const { surroundings } = await world(context)
  const rows: readonly (readonly [readonly string[], number])[] = [
    [['ls'], 0],
    [['show', 'org/model', '--json'], 0],
    [['--help'], 0],
    [['verify'], 1],
  ]
  await Promise.all(
    rows.map(async ([args, code]) => {
      const { child, ended } = spawnProgram(SHOAL, args, surroundings)
      child.stdout.destroy()
      const [complaint, exit] = await Promise.all([text(child.stderr), ended])
      assert.equal(exit, code, args.join(' '))
      assert.equal(complaint, '', args.join(' '))
    }),
  )
})

test('a closed stderr does not keep a pull from its end', async (context) => {
  const { api, surroundings } = await world(context)
  api.pulls = [...ENDLESS, ...ENDLESS, pullOf()]
  const { child, ended } = spawnProgram(SHOAL, ['pull', 'org/model'], surroundings)
  child.stderr.destroy()
  const [out, exit] = await Promise.all([text(child.stdout), ended])
  assert.equal(exit, 0)
  assert.match(out, /all here/)
})

test('on a terminal a pull draws a bar with percent, rate, time left and sources, and takes it away', async (context) => {
  const { api, surroundings } = await world(context)
  api.pulls = [...ENDLESS, ...ENDLESS, pullOf()]
  const ran = await shoal(['pull', 'org/model'], { ...surroundings, terminal: true })
  assert.equal(ran.code, 0, ran.stderr)
  assert.match(
    ran.stderr,
    /\[#{10}\.{14}\] 43% of 2\.3 MB \| 1\.0 MB\/s \| 1\.3 s left \| origin 2\.0 MB, peers 300 kB, disk 0 B/,
  )
  assert.ok(ran.stderr.includes('\u001b[?25h'), 'the cursor is back')
})

test('`npx --no-install shoal --help` works in the repository', async (context) => {
  const folder = await tempFolder(context)
  const env = { PATH: process.env.PATH ?? '', HOME: folder, npm_config_update_notifier: 'false' }
  const out = execFileSync('npx', ['--no-install', 'shoal', '--help'], {
    cwd: REPOSITORY,
    env,
    encoding: 'utf8',
  })
  assert.match(out, /^Usage: shoal /)
})

test('both programs refuse a Node.js that is too old with one sentence', async (context) => {
  const old = oldNode()
  if (old === undefined) return context.skip('there is no Node.js older than 22.18 on this machine')
  const folder = await tempFolder(context)
  for (const program of [SHOAL, SHOAL_COORDINATOR]) {
    const { child, ended } = spawnProgram(program, ['--help'], { folder }, old)
    const [out, complaint, exit] = await Promise.all([text(child.stdout), text(child.stderr), ended])
    assert.equal(exit, 1)
    assert.equal(out, '')
    assert.match(
      complaint,
      /^shoal(-coordinator)? needs Node\.js 22\.18 or newer, and this is \d+\.\d+\.\d+\..*\n$/,
    )
  }
})

function oldNode(): string | undefined {
  const places = (process.env.PATH ?? '').split(delimiter).filter((part) => !part.includes('node_modules'))
  return places
    .map((place) => join(place, 'node'))
    .filter((path) => existsSync(path))
    .find((path) => {
      const [major = 0, minor = 0] = execFileSync(path, ['-p', 'process.versions.node'], { encoding: 'utf8' })
        .split('.')
        .map(Number)
      return major < 22 || (major === 22 && minor < 18)
    })
}
