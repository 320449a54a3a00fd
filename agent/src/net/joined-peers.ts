// The peers that `shoal join` wrote down: where a host that joined finds its mesh again. Owns the file `joined.json` in the
// storage path (versioned, mode 0600, replaced as a whole). The secret of the mesh is in a file of its own.
import { join } from 'node:path'
import { ShoalError } from '@shoal/protocol/errors.ts'
import { z } from 'zod'
import { readPrivateFile, writePrivateFile } from './private-file.ts'

export const JOINED_FILE = 'joined.json'
export const MAX_JOINED_PEERS = 64

const schema = z.strictObject({
  version: z.literal(1),
  peers: z.array(z.string().regex(/^\/[^\s]{1,255}$/)).max(MAX_JOINED_PEERS),
  coordinator: z
    .url({ protocol: /^https?$/ })
    .max(512)
    .optional(),
})

export interface JoinedPeers {
  /** Multiaddrs to dial, newest first. */
  readonly peers: readonly string[]
  /** The coordinator's URL, if the invite named one. */
  readonly coordinator?: string | undefined
}

/**
 * What was joined; no peers when nothing was.
 * @throws ShoalError `bad-config` when the file is not one of ours: it is never replaced in silence
 */
export async function readJoinedPeers(storagePath: string): Promise<JoinedPeers> {
  const path = join(storagePath, JOINED_FILE)
  const content = await readPrivateFile(path)
  if (content === undefined) return { peers: [] }
  const parsed = schema.safeParse(parseJson(content))
  if (parsed.success) return { peers: parsed.data.peers, coordinator: parsed.data.coordinator }
  throw new ShoalError(
    'bad-config',
    `${path} is damaged or of another version of shoal. Remove it and join again with an invite.`,
    { path },
  )
}

/** Replaces what was joined, in one step and synced. Keeps the first {@link MAX_JOINED_PEERS} peers, each once. */
export async function writeJoinedPeers(storagePath: string, joined: JoinedPeers): Promise<void> {
  const file = schema.parse({
    version: 1,
    peers: [...new Set(joined.peers)].slice(0, MAX_JOINED_PEERS),
    coordinator: joined.coordinator,
  })
  await writePrivateFile(join(storagePath, JOINED_FILE), `${JSON.stringify(file)}\n`)
}

function parseJson(content: Buffer): unknown {
  try {
    return JSON.parse(content.toString('utf8'))
  } catch {
    return undefined
  }
}
