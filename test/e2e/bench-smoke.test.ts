// The benchmark runs, and nothing of ours is three times worse beside its yardsticks than it was.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { REPOSITORY, spawnProgram } from '../support/command-line.ts'

test('the smoke benchmark ends well: no ratio is three times worse than the one recorded', async (t) => {
  if (process.platform !== 'linux') {
    t.diagnostic('SKIPPED: the benchmark reads /proc, which is Linux')
    return
  }
  const { child, ended } = spawnProgram('test/bench/suite/main.ts', ['--smoke'], { folder: REPOSITORY })
  let [table, progress] = ['', '']
  child.stdout.on('data', (piece: Buffer) => {
    table += piece.toString()
  })
  child.stderr.on('data', (piece: Buffer) => {
    progress += piece.toString()
  })
  t.after(() => child.kill('SIGTERM'))
  const code = await ended
  for (const line of table.split('\n')) if (line !== '') t.diagnostic(line)
  for (const line of progress.split('\n')) if (line.startsWith('MISSING')) t.diagnostic(`SKIPPED: ${line}`)
  assert.equal(code, 0, `${progress}\n${table}`)
})
