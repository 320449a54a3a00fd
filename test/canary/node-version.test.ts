// M1: libp2p 3 starts on Node 20 and then fails at the first dial. So `shoal` refuses an old Node.js with a sentence.
// If the second test fails, libp2p has learnt to run there and the lower bound may be looked at again.
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { existsSync, realpathSync } from 'node:fs'
import { delimiter, join, resolve } from 'node:path'
import { test } from 'node:test'

const root = resolve(import.meta.dirname, '..', '..')
const old = oldNode()
const skip =
  old === undefined && 'SKIPPED: no Node.js older than 22.18 is installed here, so M1 is not checked'

test('shoal refuses a Node.js that is too old with a sentence that says what to do', { skip }, (t) => {
  if (old === undefined) return
  t.diagnostic(`old Node.js: ${old}`)
  const run = spawnSync(old, [join(root, 'agent', 'bin', 'shoal.js'), '--version'], { encoding: 'utf8' })
  assert.equal(run.status, 1)
  assert.equal(run.stdout, '')
  assert.match(run.stderr, /^shoal needs Node\.js 22\.18 or newer, and this is \d+\.\d+\.\d+\. /)
  assert.equal(run.stderr.trim().split('\n').length, 1, run.stderr)
})

test('libp2p on Node.js 20 still fails at the first dial', { skip }, (t) => {
  if (old === undefined) return
  const major = Number(
    spawnSync(old, ['-p', 'process.versions.node'], { encoding: 'utf8' }).stdout.split('.')[0],
  )
  if (major !== 20) return t.skip(`SKIPPED: the old Node.js here is ${major}, not 20`)
  const program = `
    import { createLibp2p } from 'libp2p'
    import { tcp } from '@libp2p/tcp'
    import { noise } from '@libp2p/noise'
    import { yamux } from '@libp2p/yamux'
    const make = () => createLibp2p({ addresses: { listen: ['/ip4/127.0.0.1/tcp/0'] }, transports: [tcp()],
      connectionEncrypters: [noise()], streamMuxers: [yamux()] })
    const [a, b] = await Promise.all([make(), make()])
    console.log('started')
    process.on('uncaughtException', (error) => { console.log('failed', error.message); process.exit(0) })
    try { await a.dial(b.getMultiaddrs()); console.log('dialled') } catch (error) { console.log('failed', error.message) }
    process.exit(0)`
  const run = spawnSync(old, ['--input-type=module', '-e', program], {
    cwd: join(root, 'agent'),
    encoding: 'utf8',
    timeout: 20_000,
  })
  assert.match(run.stdout, /^started\nfailed /, run.stdout + run.stderr)
})

/** A Node.js on the path, outside the project, that is too old for it. */
function oldNode(): string | undefined {
  for (const folder of (process.env.PATH ?? '').split(delimiter)) {
    const path = join(folder, 'node')
    if (folder.startsWith(root) || !existsSync(path)) continue
    const version = spawnSync(path, ['-p', 'process.versions.node'], { encoding: 'utf8' }).stdout ?? ''
    const [major = 99, minor = 0] = version.split('.').map(Number)
    if (major >= 20 && (major < 22 || (major === 22 && minor < 18))) return realpathSync(path)
  }
  return undefined
}
