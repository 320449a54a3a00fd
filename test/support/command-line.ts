// Runs `shoal` inside the test's own process, with pipes for the terminal and a temporary home; and as a real process where
// signals and closed pipes matter.
import { spawn } from 'node:child_process'
import { join } from 'node:path'
import { PassThrough, Readable } from 'node:stream'
import { text } from 'node:stream/consumers'
import { runCommandLine } from '@shoal/agent/cli/program.ts'
import { systemClock } from '@shoal/protocol/time.ts'

export const REPOSITORY = join(import.meta.dirname, '../..')
export const SHOAL = join(REPOSITORY, 'agent/bin/shoal.js')
export const SHOAL_COORDINATOR = join(REPOSITORY, 'coordinator/bin/shoal-coordinator.js')

export interface Ran {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

export interface Surroundings {
  /** Working directory and home. */
  readonly folder: string
  readonly env?: Readonly<Record<string, string>>
  readonly stdin?: string
  /** stderr says that it is a terminal. In this process only. */
  readonly terminal?: boolean
}

/** Runs one command to its end in this process. */
export async function shoal(
  args: readonly string[],
  { folder, env = {}, stdin = '', terminal = false }: Surroundings,
): Promise<Ran> {
  const stdout = new PassThrough()
  const stderr = Object.assign(new PassThrough(), { isTTY: terminal, columns: 200 })
  const texts = Promise.all([text(stdout), text(stderr)])
  let ended: number | undefined
  const code = await runCommandLine({
    args,
    env,
    cwd: folder,
    home: folder,
    isRoot: false,
    stdin: Readable.from([Buffer.from(stdin)]),
    stdout,
    stderr,
    clock: systemClock,
    exit: (given) => {
      ended ??= given
    },
    onInterrupt: () => () => {},
  })
  stdout.end()
  stderr.end()
  const [out, err] = await texts
  return { code: ended ?? code, stdout: out, stderr: err }
}

/** A real process on this Node.js. Its environment is PATH, HOME and `env` only. */
export function spawnProgram(
  program: string,
  args: readonly string[],
  { folder, env = {} }: Surroundings,
  node = process.execPath,
) {
  const child = spawn(node, [program, ...args], {
    cwd: folder,
    env: { PATH: process.env.PATH ?? '', HOME: folder, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const ended = new Promise<number | NodeJS.Signals>((resolve, reject) => {
    child.once('error', reject)
    child.once('close', (code, signal) => resolve(code ?? signal ?? -1))
  })
  return { child, ended }
}
