// A host that gives peers nothing says nothing that makes them count on it, and stops being quiet when its limit is lifted.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { newIdentity } from '@shoal/agent/net/identity.ts'
import { quietHandlers, quietMesh } from '@shoal/agent/quiet-mesh.ts'
import type { HaveAsk } from '@shoal/protocol/messages.ts'
import { FakeMesh, holdsAll } from '../support/fake-mesh.ts'
import { makeBlob } from '../support/made-blob.ts'

const never = new AbortController().signal
const made = makeBlob(1, 4 * 1024 * 1024)
const { text } = made.geometry
const peer = newIdentity().peer
const ask: HaveAsk = { blob: made.blob, geometry: text, want: true }

test('a quiet host announces and tells nothing it holds or wants, and does not say that it is fetching', async () => {
  const mesh = new FakeMesh(newIdentity().peer)
  const other = mesh.add({ chunk: async () => undefined })
  let quiet = true
  const seen = quietMesh(mesh, () => quiet)
  const wanting = {
    blob: made.blob,
    geometry: text,
    state: 'wanting' as const,
    gained: [[0, 1]] as [number, number][],
  }
  await seen.announce([wanting, { ...wanting, state: 'complete' }])
  assert.deepEqual(
    mesh.announced.map(({ state, gained }) => [state, gained.length]),
    [
      ['gone', 0],
      ['gone', 0],
    ],
  )
  assert.equal(await seen.tell(other.peer, [wanting], never), false)
  assert.equal(other.told.length, 0)
  assert.deepEqual(await seen.askHave(other.peer, ask, never), holdsAll)
  assert.equal(other.haveAsks.at(-1)?.want, false)
  quiet = false
  await seen.announce([wanting])
  assert.equal(mesh.announced.at(-1)?.state, 'wanting')
  assert.equal(await seen.tell(other.peer, [wanting], never), true)
  await seen.askHave(other.peer, ask, never)
  assert.equal(other.haveAsks.at(-1)?.want, true)
})

test('peers that ask a quiet host are refused chunks and hear that it has none; metadata is answered', async () => {
  let quiet = true
  const asked: string[] = []
  const handlers = quietHandlers(
    {
      chunk: async () => {
        asked.push('chunk')
        return { status: 'ok', bytes: new Uint8Array(1) }
      },
      have: async () => {
        asked.push('have')
        return holdsAll
      },
      manifest: async () => ({ found: false }),
      told: () => true,
    },
    () => quiet,
  )
  const request = { blob: made.blob, geometry: text, index: 0, waitMs: 0 }
  assert.deepEqual(await handlers.chunk(peer, request, never), { status: 'refused' })
  assert.deepEqual(await handlers.have(peer, ask, never), { state: 'none', wanting: false, claimed: [] })
  assert.deepEqual(asked, ['have'], 'that the peer fetches it too is worth knowing')
  assert.deepEqual(await handlers.manifest(peer, { repo: 'models/a/b', revision: 'main' }, never), {
    found: false,
  })
  assert.equal(handlers.told(peer, { blobs: [] }), true)
  quiet = false
  assert.equal((await handlers.chunk(peer, request, never)).status, 'ok')
  assert.deepEqual(await handlers.have(peer, ask, never), holdsAll)
})
