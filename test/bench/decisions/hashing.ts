// How fast each digest is on one thread, over chunks of 4 MiB. Run: node test/bench/decisions/hashing.ts [rounds]
import { createHash } from 'node:crypto'
import { loadHashing } from '@shoal/agent/hashing.ts'
import { systemClock } from '@shoal/protocol/time.ts'
import { createSHA256 } from 'hash-wasm'
import { compareInRounds } from './rounds.ts'

const CHUNK = Buffer.alloc(4 * 1024 * 1024, 7)
const FOR_MS = 1_000

const VARIANTS: Record<string, () => Promise<(bytes: Uint8Array) => unknown>> = {
  'SHA-256, node:crypto': async () => (bytes) => createHash('sha256').update(bytes).digest(),
  'SHA-1, node:crypto': async () => (bytes) => createHash('sha1').update(bytes).digest(),
  'SHA-256, hash-wasm': async () => {
    const hasher = await createSHA256()
    return (bytes) => hasher.init().update(bytes).digest('binary')
  },
  'BLAKE3, native': async () => (await loadHashing()).blake3,
  'BLAKE3, hash-wasm': async () => (await loadHashing('wasm')).blake3,
}

const variant = process.env.VARIANT
if (variant === undefined) await compareInRounds(import.meta.filename, Object.keys(VARIANTS), 'MB/s')
else {
  const digest = await VARIANTS[variant]?.()
  if (digest === undefined) throw new Error(`no such variant: ${variant}`)
  for (let warm = 0; warm < 5; warm++) digest(CHUNK)
  const from = systemClock.now()
  let bytes = 0
  while (systemClock.now() - from < FOR_MS) {
    digest(CHUNK)
    bytes += CHUNK.byteLength
  }
  process.send?.(bytes / 1e3 / (systemClock.now() - from))
  process.disconnect?.()
}
