import { chmod, open } from 'node:fs/promises'
import { storeLayout } from '@shoal/agent/store/layout.ts'
import { openDiskParts } from '../support/disk-parts.ts'
import { createMemoryStore, type MemoryStore } from '../support/memory-store.ts'
import { tempFolder } from '../support/temp-folder.ts'
import { blobStoreContract } from './blob-store.contract.ts'

const folders = new WeakMap<object, string>()
const twins = new WeakMap<object, MemoryStore>()

blobStoreContract({
  name: 'disk',
  async open(context, options) {
    const path = await tempFolder(context)
    const { store, stop } = await openDiskParts(path, options)
    context.after(stop)
    folders.set(store, path)
    return store
  },
  async spoil(store, made, position) {
    const path = storeLayout(folders.get(store) ?? '').blob(made.blob)
    await chmod(path, 0o600)
    const handle = await open(path, 'r+')
    await handle.write(Buffer.from([(made.bytes[position] ?? 0) ^ 1]), 0, 1, position)
    await handle.close()
  },
})

blobStoreContract({
  name: 'memory twin',
  async open(context, options) {
    const store = createMemoryStore(options)
    await store.start()
    context.after(() => store.stop())
    twins.set(store, store)
    return store
  },
  async spoil(store, made, position) {
    twins.get(store)?.corrupt(made.blob, position)
  },
})
