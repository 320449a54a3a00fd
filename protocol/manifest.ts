// What a commit holds: its files, their sizes and digests, and who may read them. Facts about a commit never change,
// so a manifest is kept for ever once known. Shapes only; where manifests come from is the agent's business.
import { z } from 'zod'
import {
  type BlobId,
  type Commit,
  type FilePath,
  isCommit,
  isFilePath,
  parseBlobId,
  parseRepoKey,
  type Repo,
} from './ids.ts'

export const MAX_FILES = 100_000
export const MAX_FILE_BYTES = 5 * 1024 ** 4

/** One file of a commit. `oid` is the git object id (for an LFS file that of its pointer). */
export interface FileEntry {
  readonly path: FilePath
  readonly sizeBytes: number
  readonly blob: BlobId
  readonly oid: string
  /** Size of the LFS pointer text; present exactly for LFS and Xet files. */
  readonly pointerBytes?: number | undefined
  /** What the Hub's own storage calls the content: part of the links that it gives. */
  readonly xetHash?: string | undefined
}

/** Who may read a repo: `public` for everyone, else only those whose own token the Hub accepts. */
export type Access = 'public' | 'gated' | 'private'

export interface Manifest {
  readonly repo: Repo
  readonly commit: Commit
  readonly access: Access
  readonly files: readonly FileEntry[]
  readonly directories: readonly { readonly path: FilePath; readonly oid: string }[]
  /** The Hub's repo info as it was for this commit, less what we do not pass on. A JSON object. */
  readonly info: Readonly<Record<string, unknown>>
  /** Unix time in milliseconds when the Hub told us. */
  readonly learnedAt: number
}

const oid = z.string().regex(/^[0-9a-f]{40}$/)
const path = z.custom<FilePath>((value) => typeof value === 'string' && isFilePath(value), 'not a file path')
const blob = z.string().transform((text, context) => {
  try {
    return parseBlobId(text)
  } catch {
    context.addIssue({ code: 'custom', message: 'not a blob id' })
    return z.NEVER
  }
})

export const fileEntrySchema = z.strictObject({
  path,
  sizeBytes: z.int().min(0).max(MAX_FILE_BYTES),
  blob,
  oid,
  pointerBytes: z.int().min(1).max(1024).optional(),
  xetHash: z
    .string()
    .regex(/^[0-9a-f]{64}$/)
    .optional(),
})

/** Reads a manifest from JSON that a file, the index or a peer holds. */
export const manifestSchema: z.ZodType<Manifest> = z.strictObject({
  repo: z
    .strictObject({ kind: z.enum(['model', 'dataset', 'space']), id: z.string() })
    .transform((value, context): Repo => {
      try {
        return parseRepoKey(`${value.kind}s/${value.id}`)
      } catch {
        context.addIssue({ code: 'custom', message: 'not a repository' })
        return z.NEVER
      }
    }),
  commit: z.custom<Commit>((value) => typeof value === 'string' && isCommit(value), 'not a commit'),
  access: z.enum(['public', 'gated', 'private']),
  files: z.array(fileEntrySchema).max(MAX_FILES),
  directories: z.array(z.strictObject({ path, oid })).max(MAX_FILES),
  info: z.record(z.string(), z.unknown()),
  learnedAt: z.number().min(0),
})

const entryIndex = new WeakMap<Manifest, Map<string, FileEntry>>()

/** The file at `path`, or undefined. Constant time after the first call for a manifest. */
export function fileAt(manifest: Manifest, path: string): FileEntry | undefined {
  let index = entryIndex.get(manifest)
  if (index === undefined) {
    index = new Map(manifest.files.map((entry) => [entry.path, entry]))
    entryIndex.set(manifest, index)
  }
  return index.get(path)
}
