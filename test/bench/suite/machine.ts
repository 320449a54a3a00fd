// What was measured, and on what: processors, memory, kernel, versions of the programs, the commit. For the head of the results.
import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { availableParallelism, cpus, loadavg, release, totalmem, type } from 'node:os'
import { REPOSITORY } from '../../support/command-line.ts'
import { firstLine } from './processes.ts'

const PROGRAMS: readonly (readonly [name: string, command: string, args: readonly string[]])[] = [
  ['nginx', 'nginx', ['-v']],
  ['curl', 'curl', ['--version']],
  ['openssl', 'openssl', ['version']],
  ['aria2', 'aria2c', ['--version']],
  ['syncthing', 'syncthing', ['--version']],
  ['libtorrent', '/usr/bin/python3', ['-c', 'import libtorrent; print(libtorrent.version)']],
]

/** One sentence; the same on the same machine. */
export function machine(): string {
  const model = cpus()[0]?.model ?? 'unknown processor'
  const gigabytes = Math.round(totalmem() / 2 ** 30)
  return `${availableParallelism()} cores (${model}), ${gigabytes} GiB of memory, ${type()} ${release()}, Node.js ${process.versions.node}`
}

/** Versions of the rivals' programs, a missing one said to be missing. */
export async function versions(): Promise<readonly string[]> {
  const programs = await Promise.all(
    PROGRAMS.map(async ([name, command, args]) => {
      const line = await firstLine(command, args)
      const version = /\d+(?:\.\w+)+/.exec(line ?? '')?.[0] ?? line
      return `${name} ${version ?? 'missing'}`
    }),
  )
  return [...programs, ...npmRivals()]
}

function npmRivals(): readonly string[] {
  const path = new URL('../rivals/package.json', import.meta.url)
  try {
    const { dependencies } = JSON.parse(readFileSync(path, 'utf8')) as {
      dependencies: Record<string, string>
    }
    return ['webtorrent', 'helia'].map((name) => `${name} ${dependencies[name]}`)
  } catch {
    return []
  }
}

/** The commit, and whether files differ from it. */
export function commit(): string {
  try {
    const git = (...args: string[]) => execFileSync('git', args, { cwd: REPOSITORY, encoding: 'utf8' }).trim()
    const changed = git('status', '--porcelain', '--', 'agent', 'protocol', 'package-lock.json') !== ''
    return `${git('rev-parse', '--short=10', 'HEAD')}${changed ? ' with changes' : ''}`
  } catch {
    return 'unknown'
  }
}

/** What else the machine did lately: mean count of running processes over a minute. */
export function load(): string {
  return (loadavg()[0] ?? 0).toFixed(1)
}
