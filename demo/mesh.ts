// The demo's mesh: a coordinator and three agents on this machine, each a process with its own folder and free ports.
// Starts and stops; moves no bytes.
import { randomBytes } from 'node:crypto'
import { createServer } from 'node:net'
import { join } from 'node:path'
import type { Clock } from '@shoal/protocol/time.ts'
import { launch, type Program } from './programs.ts'

export interface MeshOptions {
  readonly clock: Clock
  readonly folder: string
  readonly upstream: string
  /** The embedded Hub knows no user: a token of this machine's owner must not reach it. */
  readonly withToken: boolean
  /** Take the usual port for the first agent when it is free. */
  readonly usualPort: boolean
  readonly signal: AbortSignal
  readonly onEnd: (error: Error) => void
}

export interface DemoMesh {
  readonly coordinator: Program
  readonly agents: readonly Program[]
  stop(): Promise<void>
}

const HOSTS = ['host-1', 'host-2', 'host-3']
const USUAL_PORT = 8001
const TOKEN_VARIABLES = /^(HF_|HUGGING_FACE_|HUGGINGFACE_)/
const OUR_VARIABLES = /^(SHOAL_|ENHANCED_MODEL_)/

export async function startMesh(options: MeshOptions): Promise<DemoMesh> {
  const { clock, folder, signal, onEnd } = options
  const started: Program[] = []
  const stop = async () => {
    // Together: each says good-bye to the others, and the slowest sets the time.
    await Promise.all(started.map((program) => program.stop()))
  }
  const start = async (name: string, kind: 'agent' | 'coordinator', own: Record<string, string>) => {
    const env = { ...baseEnvironment(options), ...own }
    const program = await launch({ clock, name, kind, folder: join(folder, name), env, signal, onEnd })
    started.push(program)
    return program
  }
  try {
    const coordinator = await start('coordinator', 'coordinator', {
      SHOAL_HTTP_LISTEN: '127.0.0.1:0',
      SHOAL_STORAGE_PATH: join(folder, 'coordinator', 'data'),
    })
    const secret = randomBytes(32).toString('hex')
    const agents: Program[] = []
    for (const name of HOSTS) {
      const port = agents.length === 0 && options.usualPort && (await isFree(USUAL_PORT)) ? USUAL_PORT : 0
      const agent = await start(name, 'agent', {
        SHOAL_STORAGE_PATH: join(folder, name, 'data'),
        SHOAL_HTTP_LISTEN: `127.0.0.1:${port}`,
        SHOAL_P2P_LISTEN: '/ip4/127.0.0.1/tcp/0',
        SHOAL_UPSTREAM: options.upstream,
        SHOAL_PEERS: agents.flatMap(({ p2p }) => p2p).join(','),
        SHOAL_MDNS: 'false',
        SHOAL_MESH_SECRET: secret,
      })
      agents.push(agent)
    }
    return { coordinator, agents, stop }
  } catch (error) {
    await stop()
    throw error
  }
}

/** This process's environment without what would change the programs: settings of ours, and tokens unless wanted. */
function baseEnvironment({ folder, withToken }: MeshOptions): Record<string, string> {
  const kept = Object.entries(process.env).filter(
    (pair): pair is [string, string] =>
      pair[1] !== undefined && !OUR_VARIABLES.test(pair[0]) && (withToken || !TOKEN_VARIABLES.test(pair[0])),
  )
  const noProxy = [process.env.NO_PROXY ?? process.env.no_proxy ?? '', '127.0.0.1', 'localhost']
    .filter(Boolean)
    .join(',')
  return {
    ...Object.fromEntries(kept),
    ...(withToken ? {} : { HF_HOME: join(folder, 'no-token') }),
    NO_PROXY: noProxy,
    no_proxy: noProxy,
  }
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer()
    server.once('error', () => resolve(false))
    server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)))
  })
}
