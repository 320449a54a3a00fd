// Port: small records by key, kept in LevelDB. Everything in it can be rebuilt from the disk store; a record whose own
// checksum fails is a miss, never a wrong answer.
import type { Service } from '@shoal/protocol/service.ts'

export interface Index extends Service {
  /** undefined when absent or damaged. The value is what was put (JSON). */
  get(key: string): Promise<unknown>
  put(key: string, value: unknown): Promise<void>
  delete(key: string): Promise<void>
  /** Several puts and deletes at once, all or none. */
  batch(changes: readonly { readonly key: string; readonly value?: unknown }[]): Promise<void>
  /** All records whose key starts with `prefix`, in key order; damaged ones are left out. */
  entries(prefix: string): AsyncIterable<readonly [key: string, value: unknown]>
}
