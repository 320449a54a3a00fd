// What `npm start` runs: a local mesh that moves real bytes and proves it. Joins the demo's parts; the process edge.
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { messageOf } from '@shoal/protocol/errors.ts'
import { systemClock } from '@shoal/protocol/time.ts'
import { parseOptions, USAGE } from './options.ts'
import { runDemo } from './run.ts'

process.exitCode = await main()

async function main(): Promise<number> {
  let options: ReturnType<typeof parseOptions>
  try {
    options = parseOptions(process.argv.slice(2))
  } catch (error) {
    console.error(`${messageOf(error)}\n\n${USAGE}`)
    return 2
  }
  if (options === 'help') {
    console.log(USAGE)
    return 0
  }
  const interrupt = new AbortController()
  const onSignal = () => interrupt.abort()
  for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(name, onSignal)
  const folder = await mkdtemp(join(tmpdir(), 'shoal-demo-'))
  try {
    const good = await runDemo({ ...options, folder, clock: systemClock, signal: interrupt.signal })
    return good ? 0 : 1
  } catch (error) {
    if (interrupt.signal.aborted) return 130
    console.error(`\nThe demo failed: ${messageOf(error)}`)
    return 1
  } finally {
    await rm(folder, { recursive: true, force: true, maxRetries: 3 })
  }
}
