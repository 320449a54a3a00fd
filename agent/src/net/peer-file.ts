// The hosts known from earlier runs, in one small JSON file. Only a help to find the mesh again: a damaged or missing
// file is an empty one, and what it says is trusted no more than what a stranger says.
import { readFile, rename, stat, unlink, writeFile } from 'node:fs/promises'
import { z } from 'zod'
import { type PeerAddresses, peerAddressesSchema } from './questions.ts'

export const MAX_PEERS_KEPT = 256
const MAX_FILE_BYTES = 1024 * 1024
const schema = z.strictObject({
  version: z.literal(1),
  peers: z.array(peerAddressesSchema).max(MAX_PEERS_KEPT),
})

export class PeerFile {
  readonly #path: string
  #lastWritten = ''

  constructor(path: string) {
    this.#path = path
  }

  /** Empty when there is no readable file. */
  async read(): Promise<readonly PeerAddresses[]> {
    try {
      const found = await stat(this.#path)
      if (!found.isFile() || found.size > MAX_FILE_BYTES) return []
      const parsed = schema.safeParse(JSON.parse(await readFile(this.#path, 'utf8')))
      return parsed.success ? parsed.data.peers : []
    } catch {
      return []
    }
  }

  /** Replaces the file as a whole, if anything changed. @throws a system error when it cannot be written */
  async write(peers: readonly PeerAddresses[]): Promise<void> {
    const text = `${JSON.stringify({ version: 1, peers: peers.slice(0, MAX_PEERS_KEPT) })}\n`
    if (text === this.#lastWritten) return
    const draft = `${this.#path}.new`
    try {
      await writeFile(draft, text, { mode: 0o600 })
      await rename(draft, this.#path)
      this.#lastWritten = text
    } catch (error) {
      await unlink(draft).catch(() => {})
      throw error
    }
  }
}
