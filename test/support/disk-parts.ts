// A disk store with what it stands on, in a folder of the test's own. Started in order, stopped in reverse.

import type { BlobStore } from '@shoal/agent/store/blob-store.ts'
import { createDiskStore, type DiskStoreOptions } from '@shoal/agent/store/disk-store.ts'
import { createIndexDb, type IndexDb } from '@shoal/agent/store/index-db.ts'
import { type StoreLayout, storeLayout } from '@shoal/agent/store/layout.ts'
import { createStorage } from '@shoal/agent/store/storage.ts'
import { startAll } from '@shoal/protocol/service.ts'

export interface DiskParts {
  readonly layout: StoreLayout
  readonly index: IndexDb
  readonly store: BlobStore
  stop(): Promise<void>
}

export async function openDiskParts(
  path: string,
  options: Omit<DiskStoreOptions, 'path' | 'index'> = {},
): Promise<DiskParts> {
  const layout = storeLayout(path)
  const index = createIndexDb({ path: layout.index })
  const store = createDiskStore({ keepFreeBytes: 0, ...options, path, index })
  const stop = await startAll([createStorage(layout), index, store])
  return { layout, index, store, stop }
}
