// The file in which a program says that it is ready and where it answers. Owns that a reader sees all of it or none, and that
// it goes when the program ends in order; after a crash it stays, so a reader asks the address before it believes it.
import { readFile, rename, rm, writeFile } from 'node:fs/promises'
import { z } from 'zod'
import { ShoalError } from './errors.ts'

/** Name of the agent's ready file in its storage path, beside the one that `--ready-file` names. */
export const AGENT_READY_FILE = 'agent.json'

export const readyShape = z.object({
  /** Base URL without a trailing slash. */
  http: z.url({ protocol: /^https?$/ }),
  pid: z.int().min(1),
  /** The agent only: its multiaddrs with the peer id. */
  p2p: z.array(z.string()).optional(),
  peerId: z.string().optional(),
})
export type Ready = z.infer<typeof readyShape>

/** Replaces the file as a whole. @throws ShoalError `bad-config` when it cannot be written */
export async function writeReadyFile(path: string, ready: Ready): Promise<void> {
  const draft = `${path}.${ready.pid}.new`
  try {
    await writeFile(draft, `${JSON.stringify(ready)}\n`, { mode: 0o644 })
    await rename(draft, path)
  } catch (error) {
    await rm(draft, { force: true }).catch(() => {})
    throw new ShoalError('bad-config', `the ready file ${path} cannot be written`, { path }, error)
  }
}

/** undefined when there is no file that a program of ours could have written. */
export async function readReadyFile(path: string): Promise<Ready | undefined> {
  try {
    const parsed = readyShape.safeParse(JSON.parse(await readFile(path, 'utf8')))
    return parsed.success ? parsed.data : undefined
  } catch {
    return undefined
  }
}

/** Removes the file; nothing happens when there is none. At start (an old one would lie) and at the end. */
export async function removeReadyFile(path: string): Promise<void> {
  await rm(path, { force: true }).catch(() => {})
}
