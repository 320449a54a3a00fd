// Where files of a measurement lie: a RAM disk, and a disk when one was named. Makes the file that is sent, and proves the copy.
import { createHash } from 'node:crypto'
import { createReadStream, createWriteStream } from 'node:fs'
import { mkdir, mkdtemp, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { atEnd } from '../../support/cleanups.ts'
import { seededContent } from '../../support/local-hub/content.ts'
import { memoryFolder } from '../../support/netns-crowd.ts'
import type { Ending } from './scope.ts'

export interface Place {
  readonly name: 'RAM disk' | 'disk'
  readonly folder: string
}

/** The RAM disk where there is one, and the named disk: folders of this run, removed with the scope. */
export async function placesOf(scope: Ending, disk: string | undefined): Promise<readonly Place[]> {
  const memory = await memoryFolder(scope)
  const places: Place[] = [{ name: memory.startsWith('/dev/shm') ? 'RAM disk' : 'disk', folder: memory }]
  if (disk === undefined) return places
  await mkdir(disk, { recursive: true })
  const folder = await mkdtemp(join(disk, 'shoal-bench-'))
  atEnd(scope, () => rm(folder, { recursive: true, force: true }))
  return [...places, { name: 'disk', folder }]
}

/** An empty folder for one run, removed with it. */
export async function runFolder(scope: Ending, { folder }: Place): Promise<string> {
  const path = await mkdtemp(join(folder, 'run-'))
  atEnd(scope, () => rm(path, { recursive: true, force: true }))
  return path
}

/** What the local Hub holds as `{ seed, sizeBytes }`, as a file. */
export async function writeSeeded(path: string, seed: string, sizeBytes: number): Promise<void> {
  await pipeline(seededContent(seed, sizeBytes).read(0, sizeBytes), createWriteStream(path))
}

/** A virtual machine gets its memory at the first touch, which costs five times what using it costs. */
export async function warmMemory({ folder }: Place, sizeBytes: number): Promise<void> {
  const path = join(folder, 'warm')
  await writeSeeded(path, 'warm', sizeBytes)
  await rm(path)
}

/** @throws Error unless the file has that length and that SHA-256 */
export async function proveCopy(path: string, sizeBytes: number, sha256: string): Promise<void> {
  const { size } = await stat(path)
  if (size !== sizeBytes) throw new Error(`the copy has ${size} bytes, not ${sizeBytes}`)
  const hash = createHash('sha256')
  for await (const piece of createReadStream(path, { highWaterMark: 4 * 1024 * 1024 }))
    hash.update(piece as Buffer)
  if (hash.digest('hex') !== sha256) throw new Error('the copy has other bytes')
}
