// The coordinator as a real process: starts, answers probes and metrics, refuses strangers, stops in order.
import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { readFile, writeFile } from 'node:fs/promises'
import { request } from 'node:http'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { type TestContext, test } from 'node:test'
import { starterConfig } from '@shoal/agent/config.ts'
import { loadCoordinatorSettings } from '@shoal/coordinator/config.ts'
import { readReadyFile } from '@shoal/protocol/ready-file.ts'
import { sleep, systemClock } from '@shoal/protocol/time.ts'
import { REPOSITORY, SHOAL_COORDINATOR, spawnProgram } from '../support/command-line.ts'
import { tempFolder } from '../support/temp-folder.ts'

const START_WITHIN_MS = 20_000
const GUIDE = join(REPOSITORY, 'test/fixtures/config/guide.json')

async function startCoordinator(context: TestContext, ...args: string[]) {
  const folder = await tempFolder(context)
  const readyFile = join(folder, 'ready.json')
  const env = { SHOAL_HTTP_LISTEN: '127.0.0.1:0' }
  const { child, ended } = spawnProgram(SHOAL_COORDINATOR, ['serve', '--ready-file', readyFile, ...args], {
    folder,
    env,
  })
  context.after(async () => {
    child.kill('SIGKILL')
    await ended
  })
  const log = text(child.stdout)
  const until = systemClock.now() + START_WITHIN_MS
  for (;;) {
    const ready = await readReadyFile(readyFile)
    if (ready !== undefined) return { url: ready.http, pid: ready.pid, readyFile, child, ended, log }
    assert.ok(systemClock.now() < until && child.exitCode === null, 'it did not start')
    await sleep(systemClock, 20)
  }
}

function ask(url: string, headers: Readonly<Record<string, string>> = {}, method = 'GET') {
  return new Promise<{ status: number; type: string; body: string }>((resolve, reject) => {
    const sent = request(url, { method, headers, agent: false }, (answer) => {
      text(answer).then(
        (body) =>
          resolve({ status: answer.statusCode ?? 0, type: answer.headers['content-type'] ?? '', body }),
        reject,
      )
    })
    sent.on('error', reject)
    sent.end()
  })
}

test('it answers probes and metrics, 404 elsewhere, refuses strangers, and SIGTERM ends it with 0', async (context) => {
  // The guide's own file: what belongs to the agent is left to the agent.
  const { url, pid, readyFile, child, ended, log } = await startCoordinator(context, '--config', GUIDE)
  assert.equal(pid, child.pid)

  assert.deepEqual(JSON.parse((await ask(`${url}/healthz`)).body), { status: 'ok' })
  assert.deepEqual(JSON.parse((await ask(`${url}/readyz`)).body), { ready: true, notReadyBecause: [] })

  const port = new URL(url).port
  const answers: readonly (readonly [string, string, Readonly<Record<string, string>>, string, number])[] = [
    ['unknown route', 'GET', {}, '/api/v1/admin/health', 404],
    ['unknown method', 'POST', {}, '/healthz', 404],
    ['foreign Host', 'GET', { Host: 'evil.example' }, '/healthz', 421],
    ['foreign Host with our port', 'GET', { Host: `evil.example:${port}` }, '/metrics', 421],
    ['a page of another site', 'GET', { 'Sec-Fetch-Site': 'cross-site' }, '/healthz', 403],
    ['a page of another origin', 'POST', { Origin: 'http://evil.example' }, '/healthz', 403],
    ['localhost', 'GET', { Host: `LOCALHOST:${port}` }, '/healthz', 200],
    ['its own page', 'GET', { Origin: url, 'Sec-Fetch-Site': 'same-origin' }, '/healthz', 200],
  ]
  for (const [id, method, headers, path, status] of answers) {
    const answer = await ask(`${url}${path}`, headers, method)
    assert.equal(answer.status, status, id)
    assert.match(answer.type, /^application\/json/, id)
    if (status >= 400)
      assert.deepEqual(Object.keys(JSON.parse(answer.body).error), ['code', 'message', 'details'], id)
  }

  const metrics = await ask(`${url}/metrics`)
  assert.match(metrics.type, /^text\/plain; version=0\.0\.4/)
  for (const line of metrics.body.split('\n').filter((one) => one !== ''))
    assert.match(
      line,
      /^(?:# (?:HELP|TYPE) \w+ .+|\w+(?:\{(?:\w+="[^"\\]*",?)+\})? (?:[-+]?[\d.e+-]+|NaN|[-+]Inf))$/,
      line,
    )
  assert.match(metrics.body, /^shoal_http_request_seconds_count\{route="refused",status="421"\} 2$/m)
  assert.match(metrics.body, /^shoal_build_info\{version="[\d.]+",node="v[\d.]+"\} 1$/m)

  child.kill('SIGTERM')
  assert.equal(await ended, 0)
  assert.ok(!existsSync(readyFile), 'no program claims to be ready any more')
  for (const line of (await log).split('\n').filter((one) => one !== ''))
    assert.equal(typeof JSON.parse(line).msg, 'string')
})

test('it refuses what it cannot do, with the exit code that fits, in words and in JSON', async (context) => {
  const { url } = await startCoordinator(context)
  const folder = await tempFolder(context)
  const taken = url.replace('http://', '')
  const rows: readonly (readonly [string, readonly string[], number, RegExp])[] = [
    ['a taken port', ['serve', '--http-listen', taken], 1, /another program listens there/],
    ['an open address', ['serve', '--http-listen', '0.0.0.0:0'], 1, /--insecure/],
    ['an unknown flag', ['serve', '--jsom'], 2, /unknown option '--jsom'/],
    ['an unknown command', ['sevre'], 2, /unknown command 'sevre'/],
  ]
  await Promise.all(
    rows.map(async ([id, args, code, says]) => {
      const { child, ended } = spawnProgram(SHOAL_COORDINATOR, [...args, '--json'], { folder })
      const [out, exit] = await Promise.all([text(child.stdout), ended])
      assert.equal(exit, code, id)
      assert.match(JSON.parse(out).error.message, says, id)
    }),
  )
})

test('the settings file of an agent is accepted as it is, and its own mistakes are found', async (context) => {
  const cwd = await tempFolder(context)
  const load = async (file: unknown, env: Record<string, string> = {}) => {
    await writeFile(join(cwd, 'shoal.json'), JSON.stringify(file))
    return loadCoordinatorSettings({ cwd, env })
  }
  const { settings } = await load({
    ...starterConfig(),
    coordinator: { listen: '[::1]:9' },
    logging: { level: 'ERROR' },
  })
  assert.deepEqual(settings.listen, { host: '::1', port: 9 })
  assert.equal(settings.logLevel, 'error')
  await load(JSON.parse(await readFile(GUIDE, 'utf8')))
  await assert.rejects(
    load({ coordinator: { lisen: 1 } }),
    /coordinator\.lisen .*did you mean coordinator\.listen/,
  )
  await assert.rejects(load({ coordinater: {} }), /coordinater .*no such setting/)
  await assert.rejects(
    load({}, { SHOAL_HTTP_LISTEN: '0.0.0.0:80' }),
    /other machines can reach "0\.0\.0\.0:80"/,
  )
})
