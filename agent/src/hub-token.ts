// The host's own Hub token where huggingface_hub keeps it, so that `hf auth login` is enough. Reads, never writes, and
// never puts the token into a message.
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { messageOf, ShoalError } from '@shoal/protocol/errors.ts'
import { hasErrnoCode } from './net/private-file.ts'

export interface TokenPlaces {
  /** Named by a setting. */
  readonly path: string | undefined
  readonly env: Readonly<Record<string, string | undefined>>
  readonly home: string
}

/**
 * The token in the named file, else in `$HF_HOME/token`; undefined when there is none, as huggingface_hub does.
 * @throws ShoalError `bad-config` when a file is there and cannot be read or holds no token
 */
export async function readHubToken(places: TokenPlaces): Promise<string | undefined> {
  const path = places.path ?? join(huggingFaceHome(places), 'token')
  let text: string
  try {
    text = await readFile(path, 'utf8')
  } catch (error) {
    if (hasErrnoCode(error, 'ENOENT') || hasErrnoCode(error, 'ENOTDIR')) return undefined
    throw new ShoalError('bad-config', `${path} cannot be read: ${messageOf(error)}`, {}, error)
  }
  const token = text.trim()
  if (token === '') return undefined
  if (!/^[\x21-\x7e]{1,1024}$/.test(token)) throw new ShoalError('bad-config', `${path} holds no token`)
  return token
}

function huggingFaceHome(places: TokenPlaces): string {
  const cache = nonEmpty(places.env.XDG_CACHE_HOME) ?? join(places.home, '.cache')
  const named = nonEmpty(places.env.HF_HOME)
  if (named === undefined) return join(cache, 'huggingface')
  return named === '~' || named.startsWith('~/') ? join(places.home, named.slice(1)) : named
}

function nonEmpty(text: string | undefined): string | undefined {
  return text === undefined || text === '' ? undefined : text
}
