// Metrics as a scrape sees them: fixed labels, true gauges, rates over a window.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createMetrics } from '@shoal/agent/metrics.ts'
import type { Clock } from '@shoal/protocol/time.ts'

function make() {
  let now = 0
  const clock: Clock = { now: () => now, wallTime: () => now, after: () => () => {} }
  const metrics = createMetrics({ version: '1.2.3', nodeVersion: '24.0.0', clock })
  return {
    metrics,
    pass(ms: number) {
      now += ms
    },
  }
}

function value(text: string, series: string): number | undefined {
  const line = text.split('\n').find((candidate) => candidate.startsWith(`${series} `))
  return line === undefined ? undefined : Number(line.slice(series.length + 1))
}

test('counters add up by their labels, and a strange status makes no new series', async () => {
  const { metrics } = make()
  metrics.bytes('origin', 'disk', 5)
  metrics.bytes('origin', 'disk', 6)
  metrics.originRequest('api', 200)
  metrics.originRequest('api', 'failed')
  for (const status of [7000, -1, 1.5]) metrics.originRequest('api', status)
  metrics.chunk('corrupt', 1)
  metrics.gossip('have', 'accept')
  const text = await metrics.text()
  assert.equal(value(text, 'shoal_bytes_total{from="origin",to="disk"}'), 11)
  assert.equal(value(text, 'shoal_origin_requests_total{kind="api",status="200"}'), 1)
  assert.equal(value(text, 'shoal_origin_requests_total{kind="api",status="failed"}'), 1)
  assert.equal(value(text, 'shoal_origin_requests_total{kind="api",status="other"}'), 3)
  assert.equal(value(text, 'shoal_chunks_total{result="corrupt"}'), 1)
  assert.equal(value(text, 'shoal_gossip_messages_total{topic="have",verdict="accept"}'), 1)
})

test('gauges are read at the scrape, and what nobody has told is absent rather than 0', async () => {
  const { metrics } = make()
  const before = await metrics.text()
  assert.equal(value(before, 'shoal_origin_ratelimit_remaining'), undefined)
  assert.equal(value(before, 'disk_usage_percent'), undefined)
  metrics.originRateLimitRemaining(42)
  metrics.observe({
    downloads: () => ['running', 'running', 'verifying'],
    connectedPeers: () => 3,
    store: async () => ({ usedBytes: 25, limitBytes: undefined, freeBytes: 75 }),
  })
  const text = await metrics.text()
  assert.equal(value(text, 'shoal_origin_ratelimit_remaining'), 42)
  assert.equal(value(text, 'shoal_downloads{state="running"}'), 2)
  assert.equal(value(text, 'shoal_downloads{state="failed"}'), 0)
  assert.equal(value(text, 'shoal_peers{state="connected"}'), 3)
  assert.equal(value(text, 'shoal_store_bytes{tier="hot"}'), 25)
  assert.equal(value(text, 'shoal_store_limit_bytes{tier="hot"}'), undefined)
  assert.equal(value(text, 'disk_usage_percent'), 25)
  metrics.observe({
    downloads: () => [],
    connectedPeers: () => 0,
    store: async () => ({ usedBytes: 45, limitBytes: 50, freeBytes: 1000 }),
  })
  assert.equal(value(await metrics.text(), 'disk_usage_percent'), 90)
})

test('the failure rate speaks of the last 15 minutes only', async () => {
  const { metrics, pass } = make()
  assert.equal(value(await metrics.text(), 'download_failure_rate'), 0)
  metrics.download('failed', 1)
  for (let index = 0; index < 3; index += 1) metrics.download('complete', 1)
  assert.equal(value(await metrics.text(), 'download_failure_rate'), 0.25)
  pass(15 * 60_000 + 1)
  assert.equal(value(await metrics.text(), 'download_failure_rate'), 0)
})

test('every metric is described, with help and labels', async () => {
  const { metrics } = make()
  const described = await metrics.describe()
  const bytes = described.find(({ name }) => name === 'shoal_bytes_total')
  assert.deepEqual([bytes?.type, bytes?.labels], ['counter', ['from', 'to']])
  for (const { name, help } of described) assert.ok(help.length > 5, name)
})
