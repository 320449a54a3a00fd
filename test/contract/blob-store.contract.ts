// What every blob store promises, as a suite that any implementation runs. Speaks only to the port.
import assert from 'node:assert/strict'
import { describe, type TestContext, test } from 'node:test'
import type { BlobStore, PartialBlob } from '@shoal/agent/store/blob-store.ts'
import { fixedSlices } from '@shoal/protocol/chunks.ts'
import { hasCode } from '@shoal/protocol/errors.ts'
import type { ChunkVoucher } from '@shoal/protocol/messages.ts'
import { type MadeBlob, makeBlob } from '../support/made-blob.ts'

export interface StoreFactory {
  readonly name: string
  /** A started, empty store that ends with the test. */
  open(context: TestContext, options: { readonly limitBytes?: number }): Promise<BlobStore>
  /** Changes one byte of a complete blob behind the store's back. */
  spoil(store: BlobStore, made: MadeBlob, position: number): Promise<void>
}

const KIB = 1024
const signal = new AbortController().signal
const withCode = (code: Parameters<typeof hasCode>[1]) => (error: unknown) => hasCode(error, code)

export async function fill(partial: PartialBlob, made: MadeBlob): Promise<void> {
  for (let index = 0; index < made.geometry.chunkCount; index++)
    await partial.write(index, made.chunk(index), made.voucher(index))
}

export async function publishWhole(store: BlobStore, made: MadeBlob): Promise<void> {
  const partial = await store.openPartial(made.blob, made.geometry)
  await fill(partial, made)
  assert.equal(await partial.verifyWhole(signal), true)
  await partial.publish()
}

export async function readWhole(store: BlobStore, made: MadeBlob): Promise<Buffer> {
  const reader = await store.open(made.blob)
  assert.ok(reader !== undefined, 'the blob is complete')
  const bytes = Buffer.alloc(reader.sizeBytes)
  await reader.read(bytes, 0)
  await reader.close()
  return bytes
}

export function blobStoreContract(factory: StoreFactory): void {
  describe(`blob store: ${factory.name}`, () => {
    for (const [id, sizeBytes, algorithm] of [
      ['several chunks, the last one shorter', 200 * KIB + 5, 'sha256'],
      ['exact chunks', 128 * KIB, 'sha256'],
      ['one byte', 1, 'sha256'],
      ['no bytes', 0, 'sha256'],
      ['a git blob', 70 * KIB, 'git-sha1'],
      ['an empty git blob', 0, 'git-sha1'],
    ] as const) {
      test(`${id}: what was written chunk by chunk is read back whole after publish`, async (context) => {
        const store = await factory.open(context, {})
        const made = makeBlob(1, sizeBytes, { algorithm })
        await publishWhole(store, made)
        assert.equal(store.isComplete(made.blob), true)
        assert.equal(store.partialChunks(made.blob), undefined)
        assert.deepEqual(await readWhole(store, made), made.bytes)
        const usage = await store.usage()
        assert.equal(usage.usedBytes, sizeBytes)
        assert.equal(usage.reservedBytes, 0)
      })
    }

    test('vouchers of a complete blob are those its chunks came with', async (context) => {
      const store = await factory.open(context, {})
      const made = makeBlob(2, 300 * KIB)
      await publishWhole(store, made)
      const reader = await store.open(made.blob)
      assert.equal(reader?.geometry?.text, made.geometry.text)
      for (let index = 0; index < made.geometry.chunkCount; index++) {
        const voucher: ChunkVoucher | undefined = await reader?.voucher(index)
        const want = made.voucher(index)
        assert.deepEqual(Buffer.from(voucher?.digest ?? []), Buffer.from(want.digest), `digest ${index}`)
        assert.deepEqual(Buffer.from(voucher?.author ?? []), Buffer.from(want.author), `author ${index}`)
        assert.deepEqual(Buffer.from(voucher?.signature ?? []), Buffer.from(want.signature), `sig ${index}`)
      }
      await reader?.close()
    })

    test('chunks stay when a writer closes, and the next writer goes on with them', async (context) => {
      const store = await factory.open(context, {})
      const made = makeBlob(3, 300 * KIB)
      const first = await store.openPartial(made.blob, made.geometry)
      await first.write(1, made.chunk(1), made.voucher(1))
      await first.write(3, made.chunk(3), made.voucher(3))
      await first.close()
      assert.deepEqual([...(store.partialChunks(made.blob)?.held.indices() ?? [])], [1, 3])
      const second = await store.openPartial(made.blob, made.geometry)
      assert.deepEqual([...second.held.indices()], [1, 3])
      assert.equal(second.voucher(3)?.signature[0], 3)
      const target = Buffer.alloc(64 * KIB)
      await second.read(target, 3 * 64 * KIB)
      assert.deepEqual(target, made.chunk(3))
      await second.close()
      assert.deepEqual(
        store.list().map(({ heldBytes, complete }) => ({ heldBytes, complete })),
        [{ heldBytes: 128 * KIB, complete: false }],
      )
    })

    test('a second writer of the same blob is refused, and one of a complete blob too', async (context) => {
      const store = await factory.open(context, {})
      const made = makeBlob(4, 100 * KIB)
      const [first, second] = await Promise.allSettled([
        store.openPartial(made.blob, made.geometry),
        store.openPartial(made.blob, made.geometry),
      ])
      assert.equal(first.status, 'fulfilled')
      assert.ok(second.status === 'rejected' && hasCode(second.reason, 'conflict'))
      await assert.rejects(store.remove(made.blob), withCode('conflict'))
      if (first.status === 'fulfilled') await first.value.close()
      await publishWhole(store, made)
      await assert.rejects(store.openPartial(made.blob, made.geometry), withCode('conflict'))
    })

    test('two writes of the same chunk at once count once', async (context) => {
      const store = await factory.open(context, {})
      const made = makeBlob(5, 200 * KIB)
      const partial = await store.openPartial(made.blob, made.geometry)
      const chunk = made.chunk(0)
      await Promise.all([partial.write(0, chunk, made.voucher(0)), partial.write(0, chunk, made.voucher(0))])
      assert.equal((await store.usage()).usedBytes, 64 * KIB)
      await partial.close()
    })

    test('reading a chunk that is not held fails', async (context) => {
      const store = await factory.open(context, {})
      const made = makeBlob(6, 200 * KIB)
      const partial = await store.openPartial(made.blob, made.geometry)
      await partial.write(0, made.chunk(0), made.voucher(0))
      await assert.rejects(partial.read(Buffer.alloc(64 * KIB + 1), 0))
      await partial.close()
    })

    test('a blob whose bytes are not what its id says is never published', async (context) => {
      const store = await factory.open(context, {})
      const made = makeBlob(7, 200 * KIB)
      const partial = await store.openPartial(made.blob, made.geometry)
      await fill(partial, made)
      await partial.discard([2])
      const wrong = Buffer.from(made.chunk(2))
      wrong[9] = (wrong[9] ?? 0) ^ 1
      await partial.write(2, wrong, made.voucher(2))
      assert.equal(await partial.verifyWhole(signal), false)
      await assert.rejects(partial.publish())
      assert.equal(store.isComplete(made.blob), false)
      assert.equal(await store.open(made.blob), undefined)
      await partial.discard([2])
      assert.equal(partial.held.has(2), false)
      await partial.write(2, made.chunk(2), made.voucher(2))
      assert.equal(await partial.verifyWhole(signal), true)
      await partial.publish()
      assert.deepEqual(await readWhole(store, made), made.bytes)
    })

    test('discarded chunks are not there for the next writer', async (context) => {
      const store = await factory.open(context, {})
      const made = makeBlob(8, 300 * KIB)
      const partial = await store.openPartial(made.blob, made.geometry)
      await fill(partial, made)
      await Promise.all([partial.discard([0]), partial.discard([4])])
      assert.equal((await store.usage()).usedBytes, 192 * KIB)
      await partial.close()
      const next = await store.openPartial(made.blob, made.geometry)
      assert.deepEqual([...next.held.indices()], [1, 2, 3])
      await next.close()
    })

    test('a partial blob cut by another geometry starts anew', async (context) => {
      const store = await factory.open(context, {})
      const made = makeBlob(9, 300 * KIB)
      const partial = await store.openPartial(made.blob, made.geometry)
      await partial.write(0, made.chunk(0), made.voucher(0))
      await partial.close()
      const other = await store.openPartial(made.blob, fixedSlices(300 * KIB, 32 * KIB))
      assert.equal(other.held.held, 0)
      assert.equal((await store.usage()).usedBytes, 0)
      await other.close()
    })

    test('reads of a partial blob that race its publish get their bytes', async (context) => {
      const store = await factory.open(context, {})
      const made = makeBlob(10, 400 * KIB)
      const partial = await store.openPartial(made.blob, made.geometry)
      await fill(partial, made)
      await partial.verifyWhole(signal)
      const publishing = partial.publish()
      for (let round = 0; round < 30; round++) {
        const target = Buffer.alloc(64 * KIB)
        await partial.read(target, 64 * KIB)
        assert.deepEqual(target, made.chunk(1), `round ${round}`)
      }
      await publishing
    })

    test('put takes a small blob once, refuses wrong bytes, and may be repeated', async (context) => {
      const store = await factory.open(context, {})
      const made = makeBlob(11, 10 * KIB, { algorithm: 'git-sha1' })
      await assert.rejects(store.put(made.blob, made.bytes.subarray(1)), withCode('blob-corrupt'))
      assert.equal(store.isComplete(made.blob), false)
      await Promise.all([store.put(made.blob, made.bytes), store.put(made.blob, made.bytes)])
      assert.deepEqual(await readWhole(store, made), made.bytes)
      assert.equal((await store.usage()).usedBytes, 10 * KIB)
    })

    test('a reader keeps its bytes when the blob is removed', async (context) => {
      const store = await factory.open(context, {})
      const made = makeBlob(12, 200 * KIB)
      await publishWhole(store, made)
      const reader = await store.open(made.blob)
      assert.equal(await store.remove(made.blob), true)
      assert.equal(await store.remove(made.blob), false)
      assert.equal(store.isComplete(made.blob), false)
      assert.equal((await store.usage()).usedBytes, 0)
      const bytes = Buffer.alloc(made.bytes.byteLength)
      await reader?.read(bytes, 0)
      assert.deepEqual(bytes, made.bytes)
      await reader?.close()
    })

    test('space is promised before the first byte: of two that need more than half, one is refused', async (context) => {
      const store = await factory.open(context, { limitBytes: 1000 * KIB })
      const [a, b] = [makeBlob(13, 600 * KIB), makeBlob(14, 600 * KIB)]
      const outcomes = await Promise.allSettled([
        store.openPartial(a.blob, a.geometry),
        store.openPartial(b.blob, b.geometry),
      ])
      const refused = outcomes.filter((outcome) => outcome.status === 'rejected')
      assert.equal(refused.length, 1)
      const reason: unknown = refused[0]?.reason
      assert.ok(hasCode(reason, 'store-full'))
      assert.equal(reason.details.neededBytes, 600 * KIB)
      assert.equal(reason.details.freeBytes, 400 * KIB)
      for (const outcome of outcomes) if (outcome.status === 'fulfilled') await outcome.value.close()
      const later = await store.openPartial(b.blob, b.geometry)
      await later.close()
    })

    test('verify finds each spoiled chunk and nothing else; repair needs only that one', async (context) => {
      const store = await factory.open(context, {})
      const made = makeBlob(15, 500 * KIB)
      await publishWhole(store, made)
      assert.deepEqual(await store.verify(made.blob, signal), {
        ok: true,
        badChunks: [],
        bytes: made.bytes.byteLength,
      })
      await factory.spoil(store, made, 3 * 64 * KIB + 7)
      const report = await store.verify(made.blob, signal)
      assert.equal(report.ok, false)
      assert.deepEqual(report.badChunks, [3])
      await store.quarantine(made.blob, report.badChunks)
      assert.equal(store.isComplete(made.blob), false)
      assert.equal(await store.open(made.blob), undefined)
      assert.equal((await store.usage()).usedBytes, made.bytes.byteLength)
      const partial = await store.reopenAsPartial(made.blob, made.geometry, [])
      assert.deepEqual([...partial.held.indices()], [0, 1, 2, 4, 5, 6, 7])
      await partial.write(3, made.chunk(3), made.voucher(3))
      assert.equal(await partial.verifyWhole(signal), true)
      await partial.publish()
      assert.deepEqual(await readWhole(store, made), made.bytes)
      assert.equal((await store.usage()).usedBytes, made.bytes.byteLength)
    })

    test('a complete blob can be reopened without quarantine', async (context) => {
      const store = await factory.open(context, {})
      const made = makeBlob(16, 200 * KIB)
      await publishWhole(store, made)
      const partial = await store.reopenAsPartial(made.blob, made.geometry, [0])
      assert.deepEqual([...partial.held.indices()], [1, 2, 3])
      assert.equal(store.isComplete(made.blob), false)
      await partial.close()
      assert.equal(await store.remove(made.blob), true)
      assert.equal((await store.usage()).usedBytes, 0)
    })

    test('what is not here is not found', async (context) => {
      const store = await factory.open(context, {})
      const made = makeBlob(17, 5)
      assert.equal(await store.open(made.blob), undefined)
      assert.equal(store.partialChunks(made.blob), undefined)
      await assert.rejects(store.verify(made.blob, signal), withCode('not-found'))
      await assert.rejects(store.quarantine(made.blob, []), withCode('not-found'))
      await assert.rejects(store.reopenAsPartial(made.blob, made.geometry, []), withCode('not-found'))
    })

    test('an aborted verification ends with the abort', async (context) => {
      const store = await factory.open(context, {})
      const made = makeBlob(18, 200 * KIB)
      const partial = await store.openPartial(made.blob, made.geometry)
      await fill(partial, made)
      await assert.rejects(partial.verifyWhole(AbortSignal.abort()), withCode('aborted'))
      await partial.close()
    })

    test('a stopped store says so, and a partial blob of it too', async (context) => {
      const store = await factory.open(context, {})
      const made = makeBlob(19, 200 * KIB)
      const partial = await store.openPartial(made.blob, made.geometry)
      await store.stop()
      await store.stop()
      await assert.rejects(partial.write(0, made.chunk(0), made.voucher(0)), withCode('not-running'))
      await assert.rejects(store.openPartial(made.blob, made.geometry), withCode('not-running'))
    })
  })
}
