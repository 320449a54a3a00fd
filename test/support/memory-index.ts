// Memory twin of the index: records by key, in key order.
import type { Index } from '@shoal/agent/store/index-port.ts'

export interface MemoryIndex extends Index {
  readonly rows: ReadonlyMap<string, unknown>
}

export function memoryIndex(rows = new Map<string, unknown>()): MemoryIndex {
  const put = (key: string, value: unknown) => rows.set(key, JSON.parse(JSON.stringify(value)))
  return {
    name: 'memory index',
    rows,
    start: async () => {},
    stop: async () => {},
    get: async (key) => rows.get(key),
    async put(key, value) {
      put(key, value)
    },
    async delete(key) {
      rows.delete(key)
    },
    async batch(changes) {
      for (const { key, value } of changes) {
        if (value === undefined) rows.delete(key)
        else put(key, value)
      }
    },
    async *entries(prefix) {
      for (const key of [...rows.keys()].toSorted())
        if (key.startsWith(prefix) && rows.has(key)) yield [key, rows.get(key)]
    },
  }
}
