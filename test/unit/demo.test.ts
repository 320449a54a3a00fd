// What the demo concludes and how it is called: pure parts only. The demo itself runs in test/e2e/demo.test.ts.
import assert from 'node:assert/strict'
import test from 'node:test'
import type { PullShape } from '@shoal/agent/http/node-shapes.ts'
import { parseOptions } from '../../demo/options.ts'
import { progressLine } from '../../demo/progress.ts'
import { amplificationText, hostTable, type Outcome, verdictOf } from '../../demo/report.ts'

const SIZE = 100_000_000

function pull(changes: Partial<PullShape>): PullShape {
  return {
    id: 'p1',
    repo: 'org/model',
    revision: 'main',
    commit: null,
    state: 'complete',
    files: 1,
    filesDone: 1,
    totalBytes: SIZE,
    doneBytes: SIZE,
    originBytes: 0,
    peerBytes: 0,
    diskBytes: 0,
    bytesPerSecond: 0,
    priority: 'pull',
    place: null,
    peers: 0,
    planned: null,
    efficiency: null,
    startedAt: 1000,
    endedAt: 3000,
    error: null,
    ...changes,
  }
}

function outcome(changes: Partial<Outcome> = {}): Outcome {
  return {
    hosts: [
      { host: 'host-1', pulls: [pull({ originBytes: SIZE })], filesRead: 3, problems: [] },
      { host: 'host-2', pulls: [pull({ peerBytes: SIZE })], filesRead: 3, problems: [] },
    ],
    modelBytes: SIZE,
    originBytes: SIZE,
    countedBy: 'the Hub',
    ...changes,
  }
}

test('the verdict is good when every pull is complete, every hash right and the origin sent one copy', () => {
  assert.equal(verdictOf(outcome()).good, true)
  assert.equal(verdictOf(outcome({ originBytes: SIZE * 1.02 })).good, true)
})

const failures: readonly [id: string, changes: Partial<Outcome>, text: RegExp][] = [
  ['the origin sent too much', { originBytes: SIZE * 1.03 }, /the origin sent 1\.030 times/],
  [
    'a pull failed',
    {
      hosts: [
        {
          host: 'host-1',
          pulls: [pull({ state: 'failed', error: { code: 'no-source', message: 'nobody has it' } })],
          filesRead: 3,
          problems: [],
        },
      ],
    },
    /host-1: org\/model is failed: nobody has it/,
  ],
  [
    'a file was read wrongly',
    { hosts: [{ host: 'host-2', pulls: [pull({})], filesRead: 3, problems: ['a.bin has the hash 00'] }] },
    /host-2: a\.bin has the hash 00/,
  ],
]
for (const [id, changes, text] of failures) {
  test(`the verdict is bad when ${id}, and says so`, () => {
    const verdict = verdictOf(outcome(changes))
    assert.equal(verdict.good, false)
    assert.match(verdict.text, text)
  })
}

test('the table has a row a host with bytes by source, seconds and MB/s', () => {
  const [heading = '', first = '', second = ''] = hostTable(outcome().hosts).split('\n')
  assert.match(heading, /^host +from origin +from peers +from disk +seconds +MB\/s/)
  assert.match(first, /^host-1 +100 MB +0 B +0 B +2\.0 +50 +3 files, all hashes equal$/)
  assert.match(second, /^host-2 +0 B +100 MB +0 B +2\.0 +50 /)
  assert.match(amplificationText(outcome()), /^amplification 1\.000: .*100 MB \(counted by the Hub\)/)
})

test('progress adds up the pulls of a host', () => {
  const half = pull({
    state: 'running',
    doneBytes: SIZE / 2,
    peerBytes: SIZE / 2,
    bytesPerSecond: 10_000_000,
  })
  assert.equal(
    progressLine('host-2', [half, half]),
    '  host-2 [############............] 50% of 200 MB | 20 MB/s | origin 0 B, peers 100 MB, disk 0 B',
  )
})

test('arguments are read, and refused with a sentence', () => {
  assert.deepEqual(parseOptions(['--once']), { once: true, generatedBytes: 268_000_000, real: undefined })
  assert.deepEqual(parseOptions(['--upstream', 'https://huggingface.co/', '--repo', 'org/m']), {
    once: false,
    generatedBytes: 268_000_000,
    real: { upstream: 'https://huggingface.co', repo: 'org/m' },
  })
  assert.equal(parseOptions(['--help']), 'help')
  assert.throws(() => parseOptions(['--repo', 'org/m']), /go together/)
  assert.throws(() => parseOptions(['--upstream', 'huggingface.co', '--repo', 'org/m']), /needs a URL/)
  assert.throws(
    () => parseOptions(['--upstream', 'https://huggingface.co', '--repo', '../x/y']),
    /needs ORG\/NAME/,
  )
  assert.throws(() => parseOptions(['--size-mb', 'big']), /4 to 100000/)
  assert.throws(() => parseOptions(['--twice']), /--twice/)
})
