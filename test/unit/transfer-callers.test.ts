// Several callers of one download: what each may have, whose token is used, and what peers are shown.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ShoalError } from '@shoal/protocol/errors.ts'
import { type FakePeer, holdsAll, holdsOnly } from '../support/fake-mesh.ts'
import { failing, honestly, silence } from '../support/fake-origin.ts'
import { blobOf, CHUNK, honestPeer, TransferWorld } from '../support/transfer-world.ts'

test('what the Hub refuses ends the download although peers hold the file, and a second caller is not harmed by the first', async (t) => {
  const world = await TransferWorld.start(t)
  const made = blobOf(29, 4 * CHUNK)
  world.mesh.add({ chunk: async () => undefined, have: () => holdsOnly(4, [3]) })
  const refusal = () => new ShoalError('repo-gated', 'Access to this repository is restricted.')
  world.origin.manner = failing(refusal)
  const bad = world.file(made, { access: 'gated', caller: { kind: 'client', token: 'hf_bad' } })
  await assert.rejects(world.fetch(bad), { code: 'repo-gated' })

  world.origin.manner = async (call) => {
    if (call.token !== 'hf_good') throw refusal()
    await honestly(call)
  }
  const good = world.file(made, { access: 'gated', caller: { kind: 'client', token: 'hf_good' } })
  const both = [
    world.downloader.fetch(bad, { signal: new AbortController().signal }),
    world.downloader.fetch(good, { signal: new AbortController().signal }),
  ]
  await world.pass(Promise.all(both))
  assert.ok(world.store.isComplete(made.blob))
})

test('grants go along for files that are not public, and the token of another repo is never lent', async (t) => {
  const world = await TransferWorld.start(t)
  const made = blobOf(30, 2 * CHUNK)
  const grants: (string | undefined)[] = []
  const peer: FakePeer = world.mesh.add({
    chunk: (call) => {
      grants.push(call.grant?.repo)
      return honestPeer(made, peer.identity)(call)
    },
    have: (ask) => {
      grants.push(ask.grant?.repo)
      return holdsAll
    },
  })
  world.origin.manner = (call) => silence(call.options.signal)
  const secret = world.file(made, {
    repo: 'org/secret',
    access: 'private',
    caller: { kind: 'client', token: 'hf_one' },
  })
  await world.fetch(secret)
  assert.ok(grants.length > 0)
  assert.deepEqual([...new Set(grants)], ['models/org/secret'])

  const second = blobOf(31, 2 * CHUNK)
  world.mesh.drop(peer.peer)
  const seen = new Set<string | undefined>()
  world.origin.manner = async (call) => {
    seen.add(call.token)
    if (call.attempt === 1) throw new ShoalError('unauthorized', 'no')
    await honestly(call)
  }
  const mine = world.file(second, {
    repo: 'org/secret',
    access: 'private',
    caller: { kind: 'client', token: 'hf_one' },
  })
  const theirs = world.file(second, { repo: 'org/other', caller: { kind: 'client', token: 'hf_two' } })
  const pulls = [mine, theirs].map((file) =>
    world.downloader.fetch(file, { signal: new AbortController().signal }),
  )
  await world.pass(Promise.allSettled(pulls))
  assert.deepEqual([...seen], ['hf_one'])
})
