// A storage path as an agent leaves it, with as much on record as a test wants: sparse files in the places of blobs, real sidecars and
// journals, real records. Nothing but zeros lies in the files: the digests of chunks are those of zeros, names and signatures are made up.
import { createHash } from 'node:crypto'
import { mkdir, open, writeFile } from 'node:fs/promises'
import { dirname } from 'node:path'
import { loadHashing } from '@shoal/agent/hashing.ts'
import {
  encodeChunkSlot,
  encodeJournalHeader,
  encodeSidecar,
  encodeSyncSlot,
} from '@shoal/agent/store/chunk-codec.ts'
import { createDiskRecords } from '@shoal/agent/store/disk-records.ts'
import { storeLayout } from '@shoal/agent/store/layout.ts'
import { createStorage } from '@shoal/agent/store/storage.ts'
import { ensureDirectory } from '@shoal/agent/store/store-files.ts'
import { fixedSlices } from '@shoal/protocol/chunks.ts'
import {
  type BlobId,
  parseBlobId,
  parseCommit,
  parseFilePath,
  parseRepoId,
  parseRevision,
} from '@shoal/protocol/ids.ts'
import type { FileEntry } from '@shoal/protocol/manifest.ts'
import type { ChunkVoucher } from '@shoal/protocol/messages.ts'

export interface SeededStorage {
  readonly completeBlobs?: number
  /** Blobs of which every other chunk is held, all synced but the last few. */
  readonly partialBlobs?: number
  readonly chunksPerBlob: number
  readonly chunkBytes: number
  /** Files of one commit each; by default 10. */
  readonly filesPerRepo?: number
}

export interface SeededBlob {
  readonly blob: BlobId
  readonly sizeBytes: number
  readonly repo: string
  readonly path: string
}

const UNSYNCED_CHUNKS = 2

/** Fills an empty folder. @returns what is complete there, in the order made */
export async function seedStorage(path: string, wanted: SeededStorage): Promise<readonly SeededBlob[]> {
  const { completeBlobs = 0, partialBlobs = 0, chunksPerBlob, chunkBytes, filesPerRepo = 10 } = wanted
  const layout = storeLayout(path)
  await mkdir(path, { recursive: true, mode: 0o700 })
  await createStorage(layout).start()
  const records = createDiskRecords({ path: layout.records, temp: layout.temp })
  await records.start()
  const geometry = fixedSlices(chunksPerBlob * chunkBytes, chunkBytes)
  const zeros = (await loadHashing()).blake3(new Uint8Array(chunkBytes))
  const voucherOf = (index: number): ChunkVoucher => ({
    digest: zeros,
    author: new Uint8Array(32).fill(1 + (index % 3)),
    signature: new Uint8Array(64).fill(index % 256),
  })
  const blobs = Array.from({ length: completeBlobs + partialBlobs }, (_, number) =>
    parseBlobId(`sha256:${digestOf(`blob ${number}`).toString('hex')}`),
  )
  for (const [number, blob] of blobs.entries()) {
    if (number < completeBlobs) await seedComplete(blob)
    else await seedPartial(blob)
  }
  const seeded: SeededBlob[] = []
  for (let first = 0; first < blobs.length; first += filesPerRepo) {
    const id = `seeded/repo-${first / filesPerRepo}`
    const files = blobs.slice(first, first + filesPerRepo).map((blob, place): FileEntry => {
      const name = `part-${place}.safetensors`
      seeded.push({ blob, sizeBytes: geometry.sizeBytes, repo: id, path: name })
      const oid = digestOf(`oid ${blob}`).toString('hex').slice(0, 40)
      return { path: parseFilePath(name), sizeBytes: geometry.sizeBytes, blob, oid, pointerBytes: 135 }
    })
    const repo = { kind: 'model', id: parseRepoId(id) } as const
    const commit = parseCommit(digestOf(`commit ${id}`).toString('hex').slice(0, 40))
    const learnedAt = Date.UTC(2026, 0, 1)
    await records.putManifest({
      repo,
      commit,
      access: 'public',
      files,
      directories: [],
      info: { id },
      learnedAt,
    })
    await records.putAccess(repo, 'public')
    await records.putRef(repo, parseRevision('main'), { commit, resolvedAt: learnedAt, from: 'origin' })
  }
  await records.stop()
  return seeded.slice(0, completeBlobs)

  async function seedComplete(blob: BlobId): Promise<void> {
    await sparse(layout.blob(blob), geometry.sizeBytes, 0o444)
    const bytes = encodeSidecar(blob, geometry.sizeBytes, geometry, voucherOf)
    await ensureDirectory(dirname(layout.sidecar(blob)))
    await writeFile(layout.sidecar(blob), bytes, { mode: 0o600 })
  }

  async function seedPartial(blob: BlobId): Promise<void> {
    const { data, journal } = layout.partial(blob)
    await sparse(data, geometry.sizeBytes, 0o600)
    const { bytes, seed } = encodeJournalHeader(blob, geometry)
    const slots = [bytes]
    const held = Math.floor(chunksPerBlob / 2)
    for (let count = 0; count < held; count++) {
      slots.push(encodeChunkSlot(seed, count * 2, voucherOf(count * 2)))
      if (count === held - UNSYNCED_CHUNKS) slots.push(encodeSyncSlot(seed, count))
    }
    await writeFile(journal, Buffer.concat(slots), { mode: 0o600 })
  }
}

async function sparse(path: string, sizeBytes: number, mode: number): Promise<void> {
  await ensureDirectory(dirname(path))
  const handle = await open(path, 'wx', mode)
  await handle.truncate(sizeBytes)
  await handle.close()
}

function digestOf(text: string): Buffer {
  return createHash('sha256').update(text).digest()
}
