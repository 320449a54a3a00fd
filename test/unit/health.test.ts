// What a host tells the mesh about itself, and that it never stops for a failure or after its end.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createHealth, type HealthDeps } from '@shoal/agent/health.ts'
import { silentLog } from '@shoal/agent/log.ts'
import { newIdentity } from '@shoal/agent/net/identity.ts'
import { ShoalError } from '@shoal/protocol/errors.ts'
import { gossipHealthSchema } from '@shoal/protocol/messages.ts'
import { FakeMesh } from '../support/fake-mesh.ts'
import { makeBlob } from '../support/made-blob.ts'
import { createMemoryStore } from '../support/memory-store.ts'
import { virtualClock } from '../support/virtual-clock.ts'

test('a host tells how it is a second after its start and every ten seconds, whatever fails, until it stops', async () => {
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
