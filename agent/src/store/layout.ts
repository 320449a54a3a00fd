// Where everything lies under the storage path: the one place that builds its paths. Only digests and fixed names go into
// them; names from outside never do (the Hub view has its own checked function). Does no I/O.
import { join } from 'node:path'
import { type BlobAlgorithm, type BlobId, blobParts, parseBlobId } from '@shoal/protocol/ids.ts'

/** Version of the whole layout. A newer one is refused and left alone. */
export const STORE_FORMAT = 1

export const BLOB_ALGORITHMS = ['sha256', 'git-sha1'] as const satisfies readonly BlobAlgorithm[]

export interface PartialPaths {
  readonly directory: string
  readonly data: string
  readonly journal: string
}

export interface StoreLayout {
  readonly root: string
  /** Says that this directory is a Shoal store, and of which version. */
  readonly marker: string
  /** Which boot of the machine last had the store open. */
  readonly session: string
  readonly index: string
  readonly blobs: string
  readonly chunks: string
  readonly partials: string
  readonly quarantine: string
  readonly records: string
  readonly hub: string
  /** Files being written, on the same file system. Emptied on every start. */
  readonly temp: string
  /** A complete blob. */
  blob(blob: BlobId): string
  /** The record beside a complete blob: its size, geometry and chunk vouchers. */
  sidecar(blob: BlobId): string
  partial(blob: BlobId): PartialPaths
  /** Where a blob found wrong is set aside, its sidecar and what is wrong with it beside it; one per blob. */
  quarantined(blob: BlobId): { readonly data: string; readonly sidecar: string; readonly report: string }
}

export function storeLayout(root: string): StoreLayout {
  const sharded = (folder: string) => (blob: BlobId) => {
    const { algorithm, hex } = blobParts(blob)
    return join(root, folder, algorithm, hex.slice(0, 2), hex)
  }
  return {
    root,
    marker: join(root, 'shoal-store.json'),
    session: join(root, 'shoal-session.json'),
    index: join(root, 'index'),
    blobs: join(root, 'blobs'),
    chunks: join(root, 'chunks'),
    partials: join(root, 'partial'),
    quarantine: join(root, 'quarantine'),
    records: join(root, 'records'),
    hub: join(root, 'hub'),
    temp: join(root, 'tmp'),
    blob: sharded('blobs'),
    sidecar: sharded('chunks'),
    partial(blob) {
      const directory = join(root, 'partial', flatName(blob))
      return { directory, data: join(directory, 'data'), journal: join(directory, 'journal') }
    },
    quarantined(blob) {
      const data = join(root, 'quarantine', flatName(blob))
      return { data, sidecar: `${data}.chunks`, report: `${data}.json` }
    },
  }
}

/** The blob whose partial or quarantine entry has this name; undefined for anything else lying there. */
export function blobOfFlatName(name: string): BlobId | undefined {
  const algorithm = BLOB_ALGORITHMS.find((candidate) => name.startsWith(`${candidate}-`))
  return algorithm === undefined ? undefined : blobOf(algorithm, name.slice(algorithm.length + 1))
}

/** The blob with these digits; undefined when they are none. */
export function blobOf(algorithm: BlobAlgorithm, hex: string): BlobId | undefined {
  try {
    return parseBlobId(`${algorithm}:${hex}`)
  } catch {
    return undefined
  }
}

function flatName(blob: BlobId): string {
  const { algorithm, hex } = blobParts(blob)
  return `${algorithm}-${hex}`
}
