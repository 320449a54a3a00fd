// A storage folder with very many chunks on record, as an agent leaves one: sparse files under their blobs' names, the sidecars and
// journals that the store itself encodes, manifests and the Hub view. Nothing is hashed: a start hashes nothing either.
import { chmod, truncate, writeFile } from 'node:fs/promises'
import { dirname } from 'node:path'
import { sha256 } from '@shoal/agent/hashing.ts'
import { createDiskRecords } from '@shoal/agent/store/disk-records.ts'
import { createHubView } from '@shoal/agent/store/hub-cache.ts'
import { writeJournal } from '@shoal/agent/store/journal-file.ts'
import { storeLayout } from '@shoal/agent/store/layout.ts'
import { writeSidecar } from '@shoal/agent/store/publish.ts'
import { createStorage } from '@shoal/agent/store/storage.ts'
import { BLOB_MODE, ensureDirectory, FILE_MODE } from '@shoal/agent/store/store-files.ts'
import { fixedSlices } from '@shoal/protocol/chunks.ts'
import {
  type BlobId,
  parseBlobId,
  parseCommit,
  parseFilePath,
  parseRepoKey,
  parseRevision,
} from '@shoal/protocol/ids.ts'
import type { FileEntry } from '@shoal/protocol/manifest.ts'
import type { ChunkVoucher } from '@shoal/protocol/messages.ts'
import { startAll } from '@shoal/protocol/service.ts'
import { MIB } from './case.ts'

const CHUNK_BYTES = 4 * MIB
const FILES_OF_REPO = 20
const HEX_DIGITS = 64
const COMMIT_DIGITS = 40

export interface StoreShape {
  /** At least that many on record. */
  readonly chunks: number
  readonly chunksOfFile: number
  /** One file in so many is still arriving: all but its last chunk is here. */
  readonly partialEvery: number
}

export interface SeededStore {
  readonly chunks: number
  readonly files: number
  readonly repos: number
}

/** Fills an empty folder. */
export async function seedChunkStore(
  root: string,
  { chunks, chunksOfFile, partialEvery }: StoreShape,
): Promise<SeededStore> {
  const layout = storeLayout(root)
  const records = createDiskRecords({ path: layout.records, temp: layout.temp })
  const view = createHubView({ path: layout.hub, temp: layout.temp, blobFile: (blob) => layout.blob(blob) })
  await ensureDirectory(root)
  const stop = await startAll([createStorage(layout), records, view])
  await ensureDirectory(layout.temp)
  let [onRecord, files, repos] = [0, 0, 0]
  while (onRecord < chunks) {
    const repo = parseRepoKey(`models/bench/model-${repos}`)
    const commit = parseCommit(digits(`commit ${repos}`, COMMIT_DIGITS))
    const entries: FileEntry[] = []
    const complete: FileEntry[] = []
    for (let at = 0; at < FILES_OF_REPO && onRecord < chunks; at++) {
      const blob = parseBlobId(`sha256:${digits(`blob ${files}`, HEX_DIGITS)}`)
      const count = Math.max(2, Math.min(chunksOfFile, chunks - onRecord))
      const sizeBytes = count * CHUNK_BYTES - 1
      const entry = {
        path: parseFilePath(`part-${at}.safetensors`),
        sizeBytes,
        blob,
        oid: digits(`oid ${files}`, COMMIT_DIGITS),
        pointerBytes: 134,
      }
      const partial = files % partialEvery === partialEvery - 1
      if (partial) await writePartial(root, blob, sizeBytes)
      else {
        await writeComplete(root, blob, sizeBytes)
        complete.push(entry)
      }
      entries.push(entry)
      files++
      onRecord += partial ? count - 1 : count
    }
    await records.putManifest({
      repo,
      commit,
      access: 'public',
      files: entries,
      directories: [],
      info: {},
      learnedAt: 1,
    })
    await records.putRef(repo, parseRevision('main'), { commit, resolvedAt: 1, from: 'origin' })
    await records.putAccess(repo, 'public')
    for (const entry of complete) await view.link(repo, commit, entry)
    await view.setRef(repo, parseRevision('main'), commit)
    repos++
  }
  await stop()
  return { chunks: onRecord, files, repos }
}

async function writeComplete(root: string, blob: BlobId, sizeBytes: number): Promise<void> {
  const layout = storeLayout(root)
  const geometry = fixedSlices(sizeBytes, CHUNK_BYTES)
  await sparse(layout.blob(blob), sizeBytes, BLOB_MODE)
  await writeSidecar(layout, { blob, sizeBytes, geometry, voucher })
}

async function writePartial(root: string, blob: BlobId, sizeBytes: number): Promise<void> {
  const layout = storeLayout(root)
  const geometry = fixedSlices(sizeBytes, CHUNK_BYTES)
  const { data, journal } = layout.partial(blob)
  await sparse(data, sizeBytes, FILE_MODE)
  const held = Array.from({ length: geometry.chunkCount - 1 }, (_, index) => [index, voucher(index)] as const)
  await writeJournal(journal, blob, geometry, held, layout.temp)
}

/** A file of that length without a byte on disk. */
async function sparse(path: string, sizeBytes: number, mode: number): Promise<void> {
  await ensureDirectory(dirname(path))
  await writeFile(path, '')
  await truncate(path, sizeBytes)
  await chmod(path, mode)
}

/** Nobody checks them at a start; two authors, as where two hosts fetched from the origin. */
function voucher(index: number): ChunkVoucher {
  return {
    digest: new Uint8Array(32).fill(index % 251),
    author: new Uint8Array(32).fill(1 + (index % 2)),
    signature: new Uint8Array(64).fill(index % 241),
  }
}

function digits(text: string, count: number): string {
  return Buffer.from(sha256(Buffer.from(text)))
    .toString('hex')
    .slice(0, count)
}
