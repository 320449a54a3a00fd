// Finds and reads the one settings file as JSON. Owns what can be wrong with a file as a file: missing, too large, empty,
// not text, not JSON. Knows no setting. Both programs read the same file.
import { open } from 'node:fs/promises'
import { resolve } from 'node:path'
import { messageOf, ShoalError } from './errors.ts'

export const MAX_CONFIG_BYTES = 10 * 1024 * 1024
const SYSTEM_FILE = '/etc/shoal/config.json'

export interface ConfigFile {
  /** Absolute. */
  readonly path: string
  readonly json: unknown
}

export interface ConfigPlaces {
  /** From `--config`. */
  readonly named: string | undefined
  readonly env: Readonly<Record<string, string | undefined>>
  readonly cwd: string
}

/**
 * The file that was named by flag or variable, else `./shoal.json`, else the system's; undefined when none is named and
 * none is there.
 * @throws ShoalError `bad-config`
 */
export async function findConfigFile(places: ConfigPlaces): Promise<ConfigFile | undefined> {
  const named = [places.named, places.env.SHOAL_CONFIG_PATH, places.env.ENHANCED_MODEL_CONFIG_PATH].find(
    (path) => path !== undefined && path.trim() !== '',
  )
  if (named !== undefined) {
    const found = await readConfigFile(resolve(places.cwd, named))
    if (found === undefined)
      throw new ShoalError('bad-config', `${resolve(places.cwd, named)}: there is no such file`)
    return found
  }
  return (await readConfigFile(resolve(places.cwd, 'shoal.json'))) ?? (await readConfigFile(SYSTEM_FILE))
}

/** undefined when there is no such file. @throws ShoalError `bad-config` */
export async function readConfigFile(path: string): Promise<ConfigFile | undefined> {
  const bytes = await readBounded(path)
  return bytes === undefined ? undefined : { path, json: parseConfig(path, bytes) }
}

/** @throws ShoalError `bad-config` */
export function parseConfig(path: string, bytes: Uint8Array): unknown {
  let text: string
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: false }).decode(bytes)
  } catch (error) {
    throw new ShoalError('bad-config', `${path}: not UTF-8 text`, {}, error)
  }
  if (text.trim() === '')
    throw new ShoalError('bad-config', `${path}: the file is empty; write {} or run \`shoal config init\``)
  try {
    return JSON.parse(text)
  } catch (error) {
    // The engine's message may quote the file, which may hold what should not be shown: only the place is kept.
    const place = /\(line \d+ column \d+\)|position \d+/.exec(messageOf(error))?.[0] ?? 'at its end'
    throw new ShoalError('bad-config', `${path}: not JSON, ${place}`)
  }
}

async function readBounded(path: string): Promise<Uint8Array | undefined> {
  let file: Awaited<ReturnType<typeof open>>
  try {
    file = await open(path, 'r')
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined
    throw new ShoalError('bad-config', `${path}: cannot be opened: ${messageOf(error)}`, {}, error)
  }
  try {
    const stat = await file.stat()
    if (!stat.isFile()) throw new ShoalError('bad-config', `${path}: not a regular file`)
    if (stat.size > MAX_CONFIG_BYTES)
      throw new ShoalError(
        'bad-config',
        `${path}: ${stat.size} bytes, more than the ${MAX_CONFIG_BYTES} a settings file may have`,
      )
    return await file.readFile()
  } finally {
    await file.close()
  }
}
