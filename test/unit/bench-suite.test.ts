// What the benchmark says of its runs: medians, ratios, tables, and when the smoke run fails.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  type Contest,
  median,
  percentile,
  type Result,
  rowsOf,
  runContest,
  timesBetter,
} from '../bench/suite/contest.ts'
import { optionsOf } from '../bench/suite/options.ts'
import { worseThanReference } from '../bench/suite/reference.ts'
import { pageOf, plainTable, tableOf } from '../bench/suite/report.ts'

const SPEED = { name: 'MB/s', better: 'more' } as const
const TIME = { name: 'ms', better: 'less', digits: 1 } as const

function contest(over: Partial<Contest> = {}): Contest {
  return {
    id: 'race',
    title: 'A race',
    figures: [SPEED],
    contestants: [
      { name: 'ours', ours: true, run: async () => ({ 'MB/s': 300 }) },
      { name: 'theirs', does: 'no proof', run: async () => ({ 'MB/s': 200 }) },
    ],
    ...over,
  }
}

function measure(over: Partial<Contest> = {}, runs = 1): Promise<Result> {
  return runContest(contest(over), runs, () => {})
}

test('a median of an even count lies between the middle two, and there is none of nothing', () => {
  assert.equal(median([9, 1, 5]), 5)
  assert.equal(median([4, 1, 2, 9]), 3)
  assert.equal(median([]), undefined)
})

test('a percentile is a value that was measured, never less than its share of them', () => {
  const sorted = Array.from({ length: 200 }, (_, at) => at + 1)
  assert.equal(percentile(sorted, 0.99), 198)
  assert.equal(percentile(sorted, 0.5), 100)
  assert.equal(percentile([7], 0.99), 7)
})

test('a ratio above 1 means that ours is better, whether more or less is', () => {
  assert.equal(timesBetter(SPEED, 300, 200), 1.5)
  assert.equal(timesBetter(TIME, 10, 20), 2)
  assert.equal(timesBetter(TIME, 10, undefined), undefined)
  assert.equal(timesBetter(SPEED, 10, 0), undefined)
})

test('contestants run in turn, each as often as asked, and the median counts, not the best', async () => {
  const order: string[] = []
  const speeds = [100, 900, 200]
  const { rows } = await measure(
    {
      contestants: [
        {
          name: 'ours',
          ours: true,
          run: async () => {
            order.push('A')
            return { 'MB/s': speeds[order.length / 2 - 0.5] ?? 0 }
          },
        },
        {
          name: 'theirs',
          run: async () => {
            order.push('B')
            return { 'MB/s': 100 }
          },
        },
      ],
    },
    3,
  )
  assert.equal(order.join(''), 'ABABAB')
  assert.deepEqual(rows[0]?.values, speeds)
  assert.equal(rows[1]?.ratio, 2)
})

test('a rival that the machine lacks is named in progress and table, and a failed run is counted', async () => {
  const said: string[] = []
  const failing = contest({
    contestants: [
      ...contest().contestants,
      { name: 'absent', missing: async () => 'it is not installed', run: async () => ({}) },
      {
        name: 'broken',
        run: async () => {
          throw new Error('the copy has other bytes')
        },
      },
    ],
  })
  const result = await runContest(failing, 2, (line) => said.push(line))
  assert.ok(said.includes('MISSING: absent: it is not installed'))
  assert.ok(said.includes('FAILED: race, run 2: broken: the copy has other bytes'))
  const table = tableOf(result).join('\n')
  assert.match(table, /\*\*Missing: absent\*\* \(it is not installed\)/)
  assert.match(table, /\| \? \| broken \|.*\*\*failed 2 of 2\*\*/)
  assert.match(table, /\| \*\*1\.50 x\*\* \| theirs \| 200 \| 200 to 200 \| no proof \|/)
  assert.match(plainTable(result), /^1\.50 x +theirs +200 +200 to 200 +no proof$/m)
})

test('what a run has opened is closed before the next one starts, also after a failure', async () => {
  const log: string[] = []
  await measure(
    {
      contestants: [
        {
          name: 'ours',
          ours: true,
          run: async (scope) => {
            log.push('open')
            scope.after(() => {
              log.push('closed')
            })
            throw new Error('no')
          },
        },
      ],
    },
    2,
  )
  assert.deepEqual(log, ['open', 'closed', 'open', 'closed'])
})

test('the smoke run complains of a ratio three times worse, of one without a reference and of one not measured', async () => {
  const result = await measure()
  assert.deepEqual(worseThanReference(result, { 'race, theirs': 4.4 }), [])
  assert.equal(worseThanReference(result, { 'race, theirs': 4.6 }).length, 1)
  assert.match(worseThanReference(result, {})[0] ?? '', /no reference/)
  const rows = rowsOf([SPEED], [{ contestant: { name: 'theirs' }, samples: [], failed: ['x'] }])
  assert.match(worseThanReference({ ...result, rows }, { 'race, theirs': 1 })[0] ?? '', /no ratio/)
})

test('the page keeps the sections of other cases, unless another machine wrote them', async () => {
  const section = (name: string, stamp: string, results: readonly Result[]) => ({
    name,
    about: 'x',
    stamp,
    results,
  })
  const result = await measure()
  const first = pageOf('', [section('pair', 'old', [result]), section('hit', 'old', [result])], '2 cores', [
    'curl 8',
  ])
  const second = pageOf(first, [section('pair', 'new', [result])], '2 cores', ['curl 8'])
  assert.match(second, /^## hit: x\n\nold$/m)
  assert.match(second, /^## pair: x\n\nnew$/m)
  assert.equal(pageOf(second, [section('pair', 'new', [result])], '2 cores', ['curl 8']), second)
  assert.doesNotMatch(pageOf(first, [section('pair', 'new', [result])], '64 cores', []), /## hit/)
})

test('an unknown case, a size that is no number and a setting without a value are refused', () => {
  assert.throws(() => optionsOf(['--only', 'pair,fly'], ['pair']), /no case fly; there are pair/)
  assert.throws(() => optionsOf(['--size-mb', 'big'], ['pair']), /--size-mb wants a whole number/)
  assert.throws(() => optionsOf(['--env', 'SHOAL_SITE'], ['pair']), /--env wants NAME=VALUE/)
  const { env, runs, sizeBytes } = optionsOf(['--env', 'A=b=c', '--env', 'D=e'], [])
  assert.deepEqual({ env, runs, sizeBytes }, { env: { A: 'b=c', D: 'e' }, runs: 5, sizeBytes: 2 ** 30 })
})
