// The process edge of `shoal-coordinator`: hands the real process to the command line and ends with its exit code.
import { runCommandLine } from './program.ts'

process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error
  process.exit(0)
})
process.stderr.on('error', () => {})
process.exit(
  await runCommandLine({
    args: process.argv.slice(2),
    env: process.env,
    cwd: process.cwd(),
    out: (text) => void process.stdout.write(text),
    err: (text) => void process.stderr.write(text),
  }),
)
