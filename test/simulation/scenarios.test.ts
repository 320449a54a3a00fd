// The scenarios at sizes that take seconds: each is an assertion with its own limits. The large ones are run by `npm run simulate` and
// written down in docs/simulation.md.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { chart } from './chart.ts'
import { isKept, type Order, type Outcome, simulate } from './simulation.ts'

function run(order: Omit<Order, 'seed'> & { readonly seed?: number }): Outcome {
  return simulate({ seed: 1, ...order })
}

function mustKeep(outcome: Outcome, t: { diagnostic(text: string): void }): void {
  const { result, limits } = outcome
  t.diagnostic(
    `seed ${result.seed}: last ${result.ratio.toFixed(3)}, amplification ${result.amplification.toFixed(3)}`,
  )
  const broken = limits.filter((limit) => !isKept(limit))
  assert.deepEqual(broken, [], `${result.scenario} with seed ${result.seed}`)
}

test('ten hosts that want a blob at once are all done within 1.15 of the bound, and the origin gives it once', (t) => {
  mustKeep(run({ scenario: 'flash-crowd', hosts: 10, chunks: 500 }), t)
})

test('a hundred hosts that want a short blob at once lose no more than 50 chunk-times, and the origin gives it once', (t) => {
  const { result } = run({ scenario: 'flash-crowd', hosts: 100, chunks: 200 })
  t.diagnostic(`last ${result.ratio.toFixed(3)} of the bound`)
  const chunkSeconds = result.boundSeconds / (200 + 6)
  assert.ok(result.seconds - result.boundSeconds <= 50 * chunkSeconds, `ratio ${result.ratio}`)
  assert.ok(result.amplification <= 1.02, `amplification ${result.amplification}`)
  assert.ok(result.duplicates <= 0.01, `duplicates ${result.duplicates}`)
  assert.ok(result.uploaderMaxOverMean <= 3, `busiest uploader ${result.uploaderMaxOverMean}`)
})

test('with an origin of a tenth of a host’s rate the last host is done as soon as the origin has given all', (t) => {
  mustKeep(run({ scenario: 'thin-line', hosts: 30, chunks: 300 }), t)
})

for (const scenario of [
  'stale-gossip',
  'stale-gossip-killed',
  'partition',
  'churn',
  'rolling-restart',
  'sleep',
])
  test(`the scenario "${scenario}" keeps its limits with forty hosts`, (t) => {
    mustKeep(run({ scenario, hosts: 40, chunks: 250 }), t)
  })

test('a late joiner with three seeders takes nothing from the origin', (t) => {
  mustKeep(run({ scenario: 'late-joiner', chunks: 500 }), t)
})

test('the same seed gives the same run to the last number, another seed another', () => {
  const order = { scenario: 'churn', hosts: 20, chunks: 60 } as const
  const first = run(order)
  const again = run(order)
  assert.deepEqual(again.result, first.result)
  assert.deepEqual(again.samples, first.samples)
  assert.notEqual(run({ ...order, seed: 2 }).result.seconds, first.result.seconds)
})

test('every byte that came was sent by somebody: what hosts received adds up to what hosts and origin gave', () => {
  const { world } = run({ scenario: 'flash-crowd', hosts: 20, chunks: 60 })
  const given = world.hosts.reduce((sum, host) => sum + host.uploadedBytes, world.originBytes)
  const wanted = world.hosts.length * world.options.chunks * world.options.chunkBytes
  const twice = world.hosts.reduce((sum, host) => sum + host.duplicateBytes, 0)
  assert.equal(given, wanted + twice)
  assert.ok(Math.abs(world.network.bytesMoved - given) <= 1e-6 * given)
})

test('nobody is done before the lower bound', () => {
  for (const hosts of [1, 2, 7, 30]) {
    const { result } = run({ scenario: 'flash-crowd', hosts, chunks: 40 })
    assert.ok(result.ratio >= 1, `${hosts} hosts: ${result.ratio}`)
  }
})

test('an unknown scenario is refused by name', () => {
  assert.throws(() => run({ scenario: 'toString' }), /no scenario "toString"/)
})

test('the chart shows four lines and the bound', () => {
  const svg = chart(run({ scenario: 'flash-crowd', hosts: 5, chunks: 20 }))
  assert.equal(svg.match(/<polyline/g)?.length, 4)
  assert.match(svg, /bound \d+\.\d s/)
  assert.doesNotMatch(svg, /NaN|Infinity/)
})
