// What running TypeScript as it is costs at the start: an empty script, the protocol's files as .ts, and the whole agent's command
// line with and without a compile cache. Milliseconds of processor time. Run: node test/bench/decisions/start-up.ts [rounds]
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { stripTypeScriptTypes } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { compareInRounds } from './rounds.ts'

const ROOT = join(import.meta.dirname, '../../..')
/** Run first in the measured process: says on the way out what processor time it took. */
const REPORT = `process.on('exit', () => {
  const { user, system } = process.cpuUsage()
  process.stderr.write('cpu ' + (user + system) / 1000 + ' ')
})`
const PLAIN = ['ids', 'errors', 'chunks', 'time', 'service']

const VARIANTS: Record<string, (folder: string) => { readonly file: string; readonly cache?: string }> = {
  'an empty script': (folder) => ({ file: write(folder, 'empty.js', '') }),
  'five files, types stripped before': (folder) => {
    for (const name of PLAIN) {
      const text = stripTypeScriptTypes(readFileSync(join(ROOT, 'protocol', `${name}.ts`), 'utf8'))
      write(folder, `${name}.mjs`, text.replaceAll(/\.ts'/g, ".mjs'"))
    }
    return { file: write(folder, 'plain.mjs', PLAIN.map((name) => `import './${name}.mjs'\n`).join('')) }
  },
  'five files, types stripped by Node': (folder) => ({
    file: write(
      folder,
      'typed.mjs',
      PLAIN.map((name) => `import '${join(ROOT, 'protocol', `${name}.ts`)}'\n`).join(''),
    ),
  }),
  'shoal --version, no cache': () => ({ file: join(ROOT, 'agent/src/cli/main.ts') }),
  'shoal --version, compile cache': (folder) => ({
    file: join(ROOT, 'agent/src/cli/main.ts'),
    cache: folder,
  }),
}

const variant = process.env.VARIANT
if (variant === undefined)
  await compareInRounds(import.meta.filename, Object.keys(VARIANTS), 'ms of processor time', 'least')
else {
  const folder = mkdtempSync(join(tmpdir(), 'shoal-bench-'))
  const made = VARIANTS[variant]?.(folder)
  if (made === undefined) throw new Error(`no such variant: ${variant}`)
  const env = { ...process.env, ...(made.cache === undefined ? {} : { NODE_COMPILE_CACHE: made.cache }) }
  const run = () => {
    // The child's processor time is not in ours, so it says it itself on the way out.
    const { stderr } = spawnSync(
      process.execPath,
      ['--import', `data:text/javascript,${encodeURIComponent(REPORT)}`, made.file, '--version'],
      { env, encoding: 'utf8' },
    )
    return Number(/cpu (\d+(?:\.\d+)?)/.exec(stderr)?.[1])
  }
  run()
  process.send?.(run())
  process.disconnect?.()
  rmSync(folder, { recursive: true, force: true })
}

function write(folder: string, name: string, text: string): string {
  writeFileSync(join(folder, name), text)
  return join(folder, name)
}
