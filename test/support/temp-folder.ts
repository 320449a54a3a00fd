// A folder of a test's own, removed when the test ends.
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import { atEnd } from './cleanups.ts'

/** An empty folder, removed with all its contents after the test (or suite) `context` belongs to. */
export async function tempFolder(context: Pick<TestContext, 'after'>): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'shoal-test-'))
  atEnd(context, () => rm(path, { recursive: true, force: true }))
  return path
}
