// The demo as a user starts it: real processes, exit codes, what it prints, what it leaves behind.
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdir } from 'node:fs/promises'
import test, { type TestContext } from 'node:test'
import { fileURLToPath } from 'node:url'
import { SILERO_REPO } from '../../demo/repos.ts'
import { tempFolder } from '../support/temp-folder.ts'

const PROGRAM = fileURLToPath(new URL('../../demo/main.ts', import.meta.url))

async function startDemo(context: TestContext, args: readonly string[]) {
  const folder = await tempFolder(context)
  const child = spawn(process.execPath, [PROGRAM, ...args], {
    env: { ...process.env, TMPDIR: folder },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const exited = once(child, 'exit')
  context.after(async () => {
    if (child.exitCode === null) child.kill('SIGTERM')
    await exited
  })
  let text = ''
  const printed = new EventTarget()
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding('utf8').on('data', (piece: string) => {
      text += piece
      printed.dispatchEvent(new Event('more'))
    })
  return {
    child,
    folder,
    text: () => text,
    exitCode: async () => (await exited)[0] as number | null,
    async until(pattern: RegExp) {
      while (!pattern.test(text)) {
        const more = once(printed, 'more')
        await Promise.race([more, exited])
        if (child.exitCode !== null && !pattern.test(text))
          throw new Error(`it ended without ${pattern}:\n${text}`)
      }
      return pattern.exec(text)
    },
  }
}

test('the demo ends with a good verdict, one copy from the origin, and nothing left on disk', async (context) => {
  const demo = await startDemo(context, ['--once'])
  assert.equal(await demo.exitCode(), 0, demo.text())
  const text = demo.text()
  const amplification = Number(/amplification (\d+\.\d+)/.exec(text)?.[1])
  assert.ok(amplification >= 0.99 && amplification <= 1.02, text)
  for (const host of ['host-1', 'host-2', 'host-3'])
    assert.match(text, new RegExp(`^${host} .*14 files, all hashes equal$`, 'm'))
  assert.match(text, /^host-1 +27[01] MB +0 B/m)
  assert.match(text, /^host-3 +[\d.]+ k?B +2[78]\d MB/m)
  assert.match(text, /verdict +GOOD/)
  assert.match(text, /coordinator +http:\/\/127\.0\.0\.1:\d+\/metrics/)
  assert.deepEqual(await readdir(demo.folder), [])
})

test('the demo stays up, its endpoint serves, and SIGTERM ends it with exit code 0 and nothing left', async (context) => {
  const demo = await startDemo(context, ['--size-mb', '16'])
  const endpoint = (await demo.until(/export HF_ENDPOINT=(\S+)\n/))?.[1]
  const config = await fetch(`${endpoint}/${SILERO_REPO}/resolve/main/config.json`)
  assert.deepEqual(await config.json(), { model_type: 'custom' })
  demo.child.kill('SIGTERM')
  assert.equal(await demo.exitCode(), 0, demo.text())
  assert.deepEqual(await readdir(demo.folder), [])
})

test('wrong arguments end it with exit code 2 and the usage', async (context) => {
  const demo = await startDemo(context, ['--repo', 'org/m'])
  assert.equal(await demo.exitCode(), 2)
  assert.match(demo.text(), /go together[\s\S]*npm start/)
})
