// What a host tells the mesh about itself, and that it never stops for a failure or after its end.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createHealth, type HealthDeps } from '@shoal/agent/health.ts'
import { silentLog } from '@shoal/agent/log.ts'
import { newIdentity } from '@shoal/agent/net/identity.ts'
import { gossipIntervalMs } from '@shoal/agent/plan/gossip-interval.ts'
import { ShoalError } from '@shoal/protocol/errors.ts'
import { GOSSIP_MAX_LIFETIME_MS, gossipHealthSchema } from '@shoal/protocol/messages.ts'
import { FakeMesh } from '../support/fake-mesh.ts'
import { makeBlob } from '../support/made-blob.ts'
import { createMemoryStore } from '../support/memory-store.ts'
import { virtualClock } from '../support/virtual-clock.ts'

test('a host tells how it is a second after its start and about every ten seconds, whatever fails, until it stops', async () => {
  const clock = virtualClock()
  const store = createMemoryStore()
  await store.start()
  const made = makeBlob(1, 100)
  await store.put(made.blob, made.bytes)
  const mesh = new FakeMesh(newIdentity().peer)
  const told: object[] = []
  let fails = false
  const publish: HealthDeps['mesh']['publishHealth'] = async (health) => {
    if (fails) throw new ShoalError('not-running', 'the mesh is not running')
    told.push(health)
  }
  mesh.publishHealth = publish as typeof mesh.publishHealth
  const failures: unknown[] = []
  const health = createHealth({
    mesh,
    store,
    clock,
    random: { next: () => 0.5 },
    log: silentLog,
    version: '0.1.0',
    site: 'lab',
    rack: undefined,
    uploadLoad: () => 7,
    onFailure: (_name, error) => failures.push(error),
  })
  await health.start()
  await health.start()
  await clock.advance(1_000)
  assert.equal(told.length, 1)
  const sent = gossipHealthSchema.parse({
    ...Object.fromEntries(Object.entries(told[0] ?? {}).filter(([, value]) => value !== undefined)),
    sequence: 1,
    at: 0,
    expires: 1,
  })
  assert.deepEqual([sent.uploadLoad, sent.blobsHeld, sent.site], [1, 1, 'lab'])
  fails = true
  await clock.advance(30_000)
  fails = false
  await clock.advance(10_000)
  assert.equal(told.length, 2)
  await health.stop()
  await health.stop()
  await clock.advance(60_000)
  assert.equal(told.length, 2)
  assert.equal(clock.pending, 0)
  assert.deepEqual(failures, [])
})

test('among a thousand hosts one tells how it is every eight minutes, also when it hears of them only later', async () => {
  const clock = virtualClock()
  const store = createMemoryStore()
  await store.start()
  const mesh = new FakeMesh(newIdentity().peer)
  let hosts = 2
  mesh.hostsKnown = () => hosts
  const told: { readonly at: number; readonly lifetimeMs: number }[] = []
  const publish: HealthDeps['mesh']['publishHealth'] = async (_health, lifetimeMs) => {
    told.push({ at: clock.now(), lifetimeMs })
  }
  mesh.publishHealth = publish as typeof mesh.publishHealth
  const start = clock.now()
  const health = createHealth({
    mesh,
    store,
    clock,
    random: { next: () => 0.5 },
    log: silentLog,
    version: '0.1.0',
    site: undefined,
    rack: undefined,
    uploadLoad: () => 0,
    onFailure: () => {},
  })
  await health.start()
  await clock.advance(5_000)
  hosts = 1_000
  await clock.advance(1_200_000)
  hosts = 2
  await clock.advance(25_000)
  await health.stop()
  const at = told.map((one) => Math.round((one.at - start) / 1_000))
  const interval = gossipIntervalMs(1_000) / 1_000
  assert.deepEqual(at.slice(0, 3), [1, 1 + interval, 1 + 2 * interval])
  assert.ok(at.length >= 4, `fewer hosts, and it tells more often at once: ${at}`)
  for (const { lifetimeMs } of told)
    assert.ok(lifetimeMs > 1.2 * interval * 1_000 && lifetimeMs <= GOSSIP_MAX_LIFETIME_MS)
})
