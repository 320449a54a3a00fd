// Loads settings from what a test gives: a temporary home and working directory, nothing of the real surroundings.
import assert from 'node:assert/strict'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import { type LoadedSettings, loadSettings, type Surroundings } from '@shoal/agent/config.ts'
import { asShoalError } from '@shoal/protocol/errors.ts'
import { tempFolder } from './temp-folder.ts'

export const SECRET = 'ab'.repeat(32)

export interface Given extends Partial<Omit<Surroundings, 'cwd' | 'home'>> {
  /** Written to shoal.json of the working directory: text as it is, else as JSON. */
  readonly file?: unknown
}

export async function load(
  context: TestContext,
  given: Given = {},
): Promise<LoadedSettings & { readonly cwd: string }> {
  const cwd = await tempFolder(context)
  const { file, ...surroundings } = given
  if (file !== undefined)
    await writeFile(join(cwd, 'shoal.json'), typeof file === 'string' ? file : JSON.stringify(file))
  const loaded = await loadSettings({ env: {}, cwd, home: join(cwd, 'home'), isRoot: false, ...surroundings })
  return { ...loaded, cwd }
}

export async function problems(context: TestContext, given: Given): Promise<readonly string[]> {
  const error = await load(context, given).then(
    () => assert.fail('the settings were accepted'),
    (thrown: unknown) => asShoalError(thrown) ?? assert.fail(String(thrown)),
  )
  assert.equal(error.code, 'bad-config')
  const listed = error.details.problems
  return Array.isArray(listed) ? listed : [error.message]
}
