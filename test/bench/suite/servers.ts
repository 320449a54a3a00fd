// Whoever serves the file over HTTP, as the cases `hit` and `head` ask them: our agent with the file on disk, nginx, and plain Node.
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { FILE, type Given } from './case.ts'
import { startNginx, whyNoNginx } from './nginx.ts'
import { benchAgent, fileUrl, loopDelayMs, SMALL_FILE } from './ours.ts'
import { runFolder } from './places.ts'
import { startProgram } from './processes.ts'
import type { Scope } from './scope.ts'

const FILE_SERVER = join(import.meta.dirname, 'peers/file-server.ts')

export interface Server {
  readonly url: string
  /** Of the small file. */
  readonly smallUrl: string
  readonly pid: number
  /** Of our agents: see {@link loopDelayMs}. */
  loopDelayMs?(): Promise<number>
}

export interface Serving {
  readonly name: string
  readonly ours?: boolean
  readonly does: string
  missing?(): Promise<string | undefined>
  start(scope: Scope): Promise<Server>
}

/** @param holder a storage folder that has the file @param files a folder that has it by its name */
export function servings(given: Given, hub: string, holder: string, files: string): readonly Serving[] {
  const { place, smoke, wants, env } = given
  const rivals: readonly Serving[] = [
    {
      name: 'nginx-http',
      does: 'sendfile',
      missing: whyNoNginx,
      async start(scope) {
        const folder = await runFolder(scope, place)
        await mkdir(folder, { recursive: true })
        const { http, pid } = await startNginx(scope, folder, files)
        return { url: `${http}/${FILE}`, smallUrl: `${http}/${SMALL_FILE}`, pid }
      },
    },
    {
      name: 'plain-node-http',
      does: 'createReadStream, pieces of 1 MiB',
      async start(scope) {
        const { said, pid } = startProgram(scope, process.execPath, [FILE_SERVER, files])
        const port = (await said('port ')).slice('port '.length)
        const base = `http://127.0.0.1:${port}`
        return { url: `${base}/${FILE}`, smallUrl: `${base}/${SMALL_FILE}`, pid }
      },
    },
  ]
  return [
    {
      name: 'shoal',
      ours: true,
      does: 'the Hub endpoint, all its headers and checks',
      async start(scope) {
        const agent = await benchAgent(scope, { hub, folder: holder, env })
        return {
          url: fileUrl(agent.url),
          smallUrl: fileUrl(agent.url, SMALL_FILE),
          pid: agent.pid,
          loopDelayMs: () => loopDelayMs(agent),
        }
      },
    },
    ...rivals.filter(({ name }) => (smoke ? name === 'plain-node-http' : wants(name))),
  ]
}
