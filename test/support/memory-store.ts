// Memory twin of the blob store: the same promises, no disk. Passes the same contract suite. For tests of what stands on it.

import { blobDigest, type Hashing, loadHashing } from '@shoal/agent/hashing.ts'
import type {
  BlobReader,
  BlobRecord,
  BlobStore,
  PartialBlob,
  StoreUsage,
  VerifyReport,
} from '@shoal/agent/store/blob-store.ts'
import { type ChunkGeometry, ChunkMap, chunkLength, chunksOf } from '@shoal/protocol/chunks.ts'
import { ShoalError } from '@shoal/protocol/errors.ts'
import { type BlobId, blobParts } from '@shoal/protocol/ids.ts'
import type { ChunkVoucher } from '@shoal/protocol/messages.ts'
import { throwIfAborted } from '@shoal/protocol/time.ts'

interface Content {
  readonly bytes: Uint8Array
  readonly geometry: ChunkGeometry | undefined
  readonly vouchers: ReadonlyMap<number, ChunkVoucher>
}

interface Draft {
  readonly bytes: Uint8Array
  readonly geometry: ChunkGeometry
  readonly held: ChunkMap
  readonly vouchers: Map<number, ChunkVoucher>
}

/** The twin can also be spoiled: `corrupt` flips a bit of a complete blob. */
export interface MemoryStore extends BlobStore {
  corrupt(blob: BlobId, position: number): void
}

export function createMemoryStore(options: { readonly limitBytes?: number } = {}): MemoryStore {
  const complete = new Map<BlobId, Content>()
  const drafts = new Map<BlobId, Draft>()
  const aside = new Map<BlobId, { readonly content: Content; readonly badChunks: readonly number[] }>()
  const writers = new Set<BlobId>()
  let hashing: Hashing | undefined

  const limit = options.limitBytes ?? Number.POSITIVE_INFINITY
  const heldBytes = ({ geometry, held }: Draft) =>
    [...held.indices()].reduce((sum, index) => sum + chunkLength(geometry, index), 0)
  const usedBytes = () =>
    [...complete.values(), ...[...aside.values()].map(({ content }) => content)].reduce(
      (sum, { bytes }) => sum + bytes.byteLength,
      [...drafts.values()].reduce((sum, draft) => sum + heldBytes(draft), 0),
    )
  const reservedBytes = () =>
    [...writers].reduce((sum, blob) => {
      const draft = drafts.get(blob)
      return draft === undefined ? sum : sum + draft.geometry.sizeBytes - heldBytes(draft)
    }, 0)

  function running(): Hashing {
    if (hashing === undefined) throw new ShoalError('not-running', 'the store is not open')
    return hashing
  }

  function contentOf(blob: BlobId): Content {
    const content = complete.get(blob)
    if (content === undefined) throw new ShoalError('not-found', `${blob} is not complete on this host`)
    return content
  }

  function needSpace(neededBytes: number): void {
    const freeBytes = limit - usedBytes() - reservedBytes()
    if (neededBytes > freeBytes)
      throw new ShoalError('store-full', 'the limit of the store is reached', { neededBytes, freeBytes })
  }

  function claim(blob: BlobId, geometry: ChunkGeometry, found: Draft | undefined): PartialBlob {
    if (complete.has(blob)) throw new ShoalError('conflict', `${blob} is complete already`)
    const usable = found?.geometry.text === geometry.text ? found : undefined
    if (usable === undefined) drafts.delete(blob)
    const draft = usable ?? {
      bytes: new Uint8Array(geometry.sizeBytes),
      geometry,
      held: new ChunkMap(geometry.chunkCount),
      vouchers: new Map<number, ChunkVoucher>(),
    }
    needSpace(geometry.sizeBytes - heldBytes(draft))
    drafts.set(blob, draft)
    writers.add(blob)
    return partialOf(blob, draft)
  }

  function partialOf(blob: BlobId, draft: Draft): PartialBlob {
    const { bytes, geometry, held, vouchers } = draft
    let verified = false
    let published = false
    const check = () => {
      if (published || !writers.has(blob)) throw new ShoalError('not-running', `${blob} is closed`)
    }
    return {
      blob,
      geometry,
      held,
      voucher: (index) => vouchers.get(index),
      async write(index, chunk, voucher) {
        check()
        if (held.has(index)) return
        bytes.set(chunk, geometry.range(index).start)
        vouchers.set(index, voucher)
        held.add(index)
      },
      async read(target, position) {
        const { first, afterLast } = chunksOf(geometry, {
          start: position,
          end: position + target.byteLength,
        })
        for (let index = first; index < afterLast; index++)
          if (!held.has(index)) throw new Error(`chunk ${index} of ${blob} is not held`)
        if (!published) check()
        target.set(bytes.subarray(position, position + target.byteLength))
      },
      async discard(indices) {
        check()
        verified = false
        for (const index of indices) {
          held.delete(index)
          vouchers.delete(index)
        }
      },
      async verifyWhole(signal) {
        check()
        throwIfAborted(signal)
        if (!held.complete) throw new Error(`${blob} is not complete: verifyWhole came too early`)
        const { algorithm, hex } = blobParts(blob)
        verified = blobDigest(algorithm, bytes) === hex
        return verified
      },
      async publish() {
        check()
        if (!verified) throw new Error(`${blob} was not verified: publish came too early`)
        complete.set(blob, { bytes, geometry, vouchers })
        drafts.delete(blob)
        writers.delete(blob)
        published = true
      },
      async close() {
        if (!published) writers.delete(blob)
      },
    }
  }

  function readerOf({ bytes, geometry, vouchers }: Content): BlobReader {
    return {
      sizeBytes: bytes.byteLength,
      geometry,
      async read(target, position) {
        if (position + target.byteLength > bytes.byteLength)
          throw new ShoalError('store-corrupt', 'the blob ends before')
        target.set(bytes.subarray(position, position + target.byteLength))
      },
      voucher: async (index) => vouchers.get(index),
      async close() {},
    }
  }

  function inspect(blob: BlobId, { bytes, geometry, vouchers }: Content): VerifyReport {
    const { algorithm, hex } = blobParts(blob)
    const badChunks = [...vouchers].flatMap(([index, voucher]) => {
      const range = geometry?.range(index)
      const digest = range && running().blake3(bytes.subarray(range.start, range.end))
      return digest && Buffer.compare(digest, voucher.digest) === 0 ? [] : [index]
    })
    return { ok: blobDigest(algorithm, bytes) === hex, badChunks, bytes: bytes.byteLength }
  }

  return {
    name: 'memory store',
    async start() {
      hashing ??= await loadHashing()
    },
    async stop() {
      hashing = undefined
      writers.clear()
    },
    isComplete: (blob) => complete.has(blob),
    partialChunks: (blob) => drafts.get(blob),
    async open(blob) {
      running()
      const content = complete.get(blob)
      return content === undefined ? undefined : readerOf(content)
    },
    async openPartial(blob, geometry) {
      running()
      if (writers.has(blob)) throw new ShoalError('conflict', `${blob} already has a writer`)
      return claim(blob, geometry, drafts.get(blob))
    },
    async put(blob, bytes) {
      running()
      const { algorithm, hex } = blobParts(blob)
      if (blobDigest(algorithm, bytes) !== hex) throw new ShoalError('blob-corrupt', `not ${blob}`)
      if (complete.has(blob)) return
      if (writers.has(blob)) throw new ShoalError('conflict', `${blob} already has a writer`)
      needSpace(bytes.byteLength)
      complete.set(blob, { bytes: bytes.slice(), geometry: undefined, vouchers: new Map() })
      drafts.delete(blob)
    },
    async remove(blob) {
      running()
      if (writers.has(blob)) throw new ShoalError('conflict', `${blob} is being written`)
      return [complete.delete(blob), drafts.delete(blob), aside.delete(blob)].includes(true)
    },
    async verify(blob, signal) {
      throwIfAborted(signal)
      return inspect(blob, contentOf(blob))
    },
    async quarantine(blob, badChunks) {
      aside.set(blob, { content: contentOf(blob), badChunks })
      complete.delete(blob)
    },
    async reopenAsPartial(blob, geometry, badChunks) {
      running()
      if (writers.has(blob)) throw new ShoalError('conflict', `${blob} already has a writer`)
      const kept = aside.get(blob)
      const content = complete.get(blob) ?? kept?.content ?? contentOf(blob)
      const bad = new Set([...badChunks, ...(kept?.badChunks ?? [])])
      complete.delete(blob)
      aside.delete(blob)
      const held = new ChunkMap(geometry.chunkCount)
      const vouchers = new Map<number, ChunkVoucher>()
      for (const [index, voucher] of content.vouchers) {
        if (bad.has(index) || content.geometry?.text !== geometry.text) continue
        held.add(index)
        vouchers.set(index, voucher)
      }
      return claim(blob, geometry, { bytes: content.bytes, geometry, held, vouchers })
    },
    list(): readonly BlobRecord[] {
      const whole = [...complete].map(([blob, { bytes }]) => {
        const sizeBytes = bytes.byteLength
        return { blob, sizeBytes, heldBytes: sizeBytes, complete: true }
      })
      const partial = [...drafts].map(([blob, draft]) => {
        const { sizeBytes } = draft.geometry
        return { blob, sizeBytes, heldBytes: heldBytes(draft), complete: false }
      })
      return [...whole, ...partial]
    },
    async usage(): Promise<StoreUsage> {
      running()
      return {
        usedBytes: usedBytes(),
        reservedBytes: reservedBytes(),
        limitBytes: options.limitBytes,
        freeBytes: Math.max(0, Math.min(limit, Number.MAX_SAFE_INTEGER) - usedBytes() - reservedBytes()),
      }
    },
    corrupt(blob, position) {
      const { bytes } = contentOf(blob)
      bytes[position] = (bytes[position] ?? 0) ^ 1
    },
  }
}
