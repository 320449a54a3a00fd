// The help texts of both programs, command by command, as a person with 80 columns sees them. Runs the real command lines in
// this process; starts nothing and reads no settings.
import { PassThrough, Readable } from 'node:stream'
import { text } from 'node:stream/consumers'
import { runCommandLine as runShoal } from '@shoal/agent/cli/program.ts'
import { runCommandLine as runCoordinator } from '@shoal/coordinator/cli/program.ts'
import { systemClock } from '@shoal/protocol/time.ts'

export const PROGRAMS = ['shoal', 'shoal-coordinator'] as const
export type Program = (typeof PROGRAMS)[number]

export interface CommandHelp {
  readonly program: Program
  /** Words after the program; none for the program itself. */
  readonly path: readonly string[]
  readonly help: string
}

/** Every command of both programs, the programs first, in the order their help lists them. */
export async function allCommandHelp(): Promise<readonly CommandHelp[]> {
  const found: CommandHelp[] = []
  for (const program of PROGRAMS) await collect(program, [], found)
  return found
}

/** Long and short flags that a command's help names. */
export function flagsIn(help: string): ReadonlySet<string> {
  const lines = help.split('\n').filter((line) => /^ {2}-/.test(line))
  return new Set(lines.flatMap((line) => line.slice(0, 30).match(/(?<![\w-])--?[A-Za-z][\w-]*/g) ?? []))
}

async function collect(program: Program, path: readonly string[], found: CommandHelp[]): Promise<void> {
  const help = await helpOf(program, path)
  found.push({ program, path, help })
  for (const name of commandsIn(help)) await collect(program, [...path, name], found)
}

/** Names in the lists of commands, whatever their headings say; `help` is commander's own. */
function commandsIn(help: string): readonly string[] {
  const names: string[] = []
  let inList = false
  for (const line of help.split('\n')) {
    const heading = /^(\S.*):$/.exec(line)?.[1]
    if (heading !== undefined) inList = !/^(?:Arguments|Options|Settings)\b/.test(heading)
    const name = /^ {2}([a-z][a-z-]*)(?: |$)/.exec(line)?.[1]
    if (inList && name !== undefined && name !== 'help') names.push(name)
  }
  return names
}

async function helpOf(program: Program, path: readonly string[]): Promise<string> {
  const args = [...path, '--help']
  const [code, help] = await (program === 'shoal' ? shoalSays(args) : coordinatorSays(args))
  if (code !== 0) throw new Error(`\`${program} ${args.join(' ')}\` ended with ${code}`)
  return help
}

async function shoalSays(args: readonly string[]): Promise<readonly [number, string]> {
  const stdout = new PassThrough()
  const said = text(stdout)
  const code = await runShoal({
    args,
    env: {},
    cwd: '/',
    home: '/',
    isRoot: false,
    stdin: Readable.from([]),
    stdout,
    stderr: new PassThrough(),
    clock: systemClock,
    exit: () => {},
    onInterrupt: () => () => {},
  })
  stdout.end()
  return [code, await said]
}

async function coordinatorSays(args: readonly string[]): Promise<readonly [number, string]> {
  const parts: string[] = []
  const code = await runCoordinator({
    args,
    env: {},
    cwd: '/',
    out: (part) => void parts.push(part),
    err: () => {},
  })
  return [code, parts.join('')]
}
