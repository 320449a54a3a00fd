// The process edge of `shoal`: hands the real process to the command line and ends with its exit code. Decides nothing.
import { homedir } from 'node:os'
import { systemClock } from '@shoal/protocol/time.ts'
import { runCommandLine } from './program.ts'

process.exitCode = await runCommandLine({
  args: process.argv.slice(2),
  env: process.env,
  cwd: process.cwd(),
  home: homedir(),
  isRoot: process.getuid?.() === 0,
  stdin: process.stdin,
  stdout: process.stdout,
  stderr: process.stderr,
  clock: systemClock,
  exit: (code) => process.exit(code),
  restart(env) {
    const args = [process.execPath, ...process.execArgv, ...process.argv.slice(1)]
    process.execve?.(process.execPath, args, { ...process.env, ...env })
  },
  onInterrupt(handler) {
    process.on('SIGINT', handler)
    process.on('SIGTERM', handler)
    return () => {
      process.off('SIGINT', handler)
      process.off('SIGTERM', handler)
    }
  },
})
