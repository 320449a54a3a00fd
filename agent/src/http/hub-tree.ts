// Listings of a commit as the Hub words them: tree, paths-info, and the files of a repo's info. PURE, over a manifest.
// Nothing here advertises Xet, and no listing is ever a part of the commit: clients keep it for ever.
import { blobParts } from '@shoal/protocol/ids.ts'
import type { FileEntry, Manifest } from '@shoal/protocol/manifest.ts'

export interface LastCommit {
  readonly id: string
  readonly title: string
  readonly date: string
}

export type TreeItem =
  | {
      readonly type: 'file'
      readonly oid: string
      readonly size: number
      readonly path: string
      readonly lfs?: { readonly oid: string; readonly size: number; readonly pointerSize: number }
      readonly lastCommit?: LastCommit
    }
  | {
      readonly type: 'directory'
      readonly oid: string
      readonly size: 0
      readonly path: string
      readonly lastCommit?: LastCommit
    }

interface Listing {
  readonly items: readonly TreeItem[]
  readonly byPath: ReadonlyMap<string, TreeItem>
}

const UNKNOWN_OID = '0'.repeat(40)
const listings = new WeakMap<Manifest, Listing>()

/**
 * Files and directories of a commit in path order.
 * @param directory undefined: the root
 * @returns undefined when the commit has no such directory
 */
export function treeItems(
  manifest: Manifest,
  directory: string | undefined,
  options: { readonly recursive: boolean; readonly expand: boolean },
): readonly TreeItem[] | undefined {
  const listing = listingOf(manifest)
  if (directory !== undefined && listing.byPath.get(directory)?.type !== 'directory') return undefined
  const prefix = directory === undefined ? '' : `${directory}/`
  const items = listing.items.filter(
    ({ path }) => path.startsWith(prefix) && (options.recursive || path.indexOf('/', prefix.length) === -1),
  )
  return options.expand ? withLastCommit(items, manifest) : items
}

/** The named files and directories; unknown paths are left out, repeated ones given once. */
export function pathsInfo(
  manifest: Manifest,
  paths: readonly string[],
  expand: boolean,
): readonly TreeItem[] {
  const { byPath } = listingOf(manifest)
  const items = [...new Set(paths)].flatMap((path) => byPath.get(path) ?? [])
  return expand ? withLastCommit(items, manifest) : items
}

/**
 * `siblings` of a repo's info.
 * @param blobs with sizes and digests, as `?blobs=true` asks
 */
export function siblings(manifest: Manifest, blobs: boolean): readonly Readonly<Record<string, unknown>>[] {
  return manifest.files.map((entry) => {
    if (!blobs) return { rfilename: entry.path }
    const base = { rfilename: entry.path, size: entry.sizeBytes, blobId: entry.oid }
    const sha256 = lfsDigest(entry)
    if (sha256 === undefined) return base
    return { ...base, lfs: { sha256, size: entry.sizeBytes, pointerSize: pointerBytes(entry) } }
  })
}

/** SHA-256 of an LFS file's content; undefined for a plain git file. */
export function lfsDigest(entry: FileEntry): string | undefined {
  const { algorithm, hex } = blobParts(entry.blob)
  return algorithm === 'sha256' ? hex : undefined
}

/** The text that stands for an LFS file in git. */
export function pointerText(sha256: string, sizeBytes: number): string {
  return `version https://git-lfs.github.com/spec/v1\noid sha256:${sha256}\nsize ${sizeBytes}\n`
}

export function pointerBytes(entry: FileEntry): number {
  return entry.pointerBytes ?? 125 + String(entry.sizeBytes).length
}

/** What we can say of a file's last commit: the head of the listing. Its date is the repo's where the Hub gave one. */
export function headCommit(manifest: Manifest): LastCommit {
  const said = manifest.info.lastModified
  const date = typeof said === 'string' ? said : new Date(manifest.learnedAt).toISOString()
  return { id: manifest.commit, title: '', date }
}

function withLastCommit(items: readonly TreeItem[], manifest: Manifest): readonly TreeItem[] {
  const lastCommit = headCommit(manifest)
  return items.map((item) => ({ ...item, lastCommit }))
}

function listingOf(manifest: Manifest): Listing {
  const known = listings.get(manifest)
  if (known !== undefined) return known
  const byPath = new Map<string, TreeItem>()
  for (const { path, oid } of manifest.directories)
    byPath.set(path, { type: 'directory', oid, size: 0, path })
  for (const entry of manifest.files) {
    byPath.set(entry.path, fileItem(entry))
    // A directory that the record does not name still exists when it holds a file.
    for (let slash = entry.path.lastIndexOf('/'); slash > 0; slash = entry.path.lastIndexOf('/', slash - 1)) {
      const path = entry.path.slice(0, slash)
      if (byPath.has(path)) break
      byPath.set(path, { type: 'directory', oid: UNKNOWN_OID, size: 0, path })
    }
  }
  const items = [...byPath.values()].sort((one, other) => (one.path < other.path ? -1 : 1))
  const listing = { items, byPath }
  listings.set(manifest, listing)
  return listing
}

function fileItem(entry: FileEntry): TreeItem {
  const base = { type: 'file', oid: entry.oid, size: entry.sizeBytes, path: entry.path } as const
  const sha256 = lfsDigest(entry)
  if (sha256 === undefined) return base
  return { ...base, lfs: { oid: sha256, size: entry.sizeBytes, pointerSize: pointerBytes(entry) } }
}
