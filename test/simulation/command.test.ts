// `npm run simulate` as somebody calls it: what it prints, what it refuses, how it ends.
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'

interface Ended {
  readonly code: number
  readonly out: string
  readonly err: string
}

function simulateCommand(...words: readonly string[]): Promise<Ended> {
  const main = join(import.meta.dirname, 'main.ts')
  return new Promise((resolve) =>
    execFile(process.execPath, [main, ...words], (error, out, err) =>
      resolve({ code: typeof error?.code === 'number' ? error.code : 0, out, err }),
    ),
  )
}

test('the command prints one JSON object with every number promised, and writes a chart', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'shoal-simulation-'))
  t.after(() => rm(folder, { recursive: true, force: true }))
  const svg = join(folder, 'run.svg')
  const { code, out } = await simulateCommand(
    '--hosts',
    '8',
    '--chunks',
    '150',
    '--seed',
    '3',
    '--json',
    '--svg',
    svg,
  )
  assert.equal(code, 0, out)
  const result: unknown = JSON.parse(out)
  assert.ok(typeof result === 'object' && result !== null)
  const numbers = [
    'ratio',
    'p50',
    'p99',
    'amplification',
    'duplicates',
    'uploaderMaxOverMean',
    'gossipBytesPerSecondPerHost',
    'seconds',
    'hosts',
    'chunks',
    'seed',
    'boundSeconds',
    'wallSeconds',
  ]
  for (const name of numbers) assert.equal(typeof Reflect.get(result, name), 'number', name)
  assert.equal(Reflect.get(result, 'scenario'), 'flash-crowd')
  assert.match(await readFile(svg, 'utf8'), /^<svg /)
})

test('a limit that is not kept is named and ends the command with 1', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'shoal-simulation-'))
  t.after(() => rm(folder, { recursive: true, force: true }))
  // Three chunks are too few for a start to weigh little.
  const { code, out } = await simulateCommand(
    '--hosts',
    '8',
    '--chunks',
    '3',
    '--svg',
    join(folder, 'run.svg'),
  )
  assert.equal(code, 1)
  assert.match(out, /^FAIL {2}last host \/ bound/m)
})

for (const words of [
  ['--scenario', 'nonsense'],
  ['--nonsense'],
  ['--hosts', 'many'],
  ['--hosts', '0'],
  ['--seed', '-1'],
])
  test(`the command refuses "${words.join(' ')}" with 2 and says what there is`, async () => {
    const { code, err } = await simulateCommand(...words)
    assert.equal(code, 2)
    assert.match(err, /npm run simulate -- --scenario NAME/)
  })
