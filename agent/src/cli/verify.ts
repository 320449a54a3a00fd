// `shoal verify`: has the agent hash what lies on its disk again, and says what is bad.
import type { Command } from 'commander'
import type { VerifyLineShape } from '../http/node-shapes.ts'
import { agentClient, type PlaceOptions, repoOnly, type Setup, withPlace } from './command.ts'
import { EXIT_FAILED } from './edge.ts'
import { count, formatBytes, formatDuration } from './format.ts'
import { CommandFailure } from './output.ts'

/** A file with more bad chunks than this is simply bad. */
const MAX_CHUNKS_NAMED = 10
const REMARK_EVERY_MS = 2_000

export function verifyCommand(program: Command, { edge, output, exitWith }: Setup): void {
  withPlace(program.command('verify'))
    .description('hash what is kept here again, from disk; exit code 1 if anything is bad')
    .argument('[repo]', 'org/name, datasets/org/name or spaces/org/name (default: everything)', repoOnly)
    .action(async (repo: string | undefined, options: PlaceOptions) => {
      output.failOnClosedPipe()
      const client = await agentClient(edge, options)
      const startedAt = edge.clock.now()
      const bad: VerifyLineShape[] = []
      let bytes = 0
      let files = 0
      let remarkedAt = startedAt
      const onFile = (line: VerifyLineShape) => {
        files += 1
        bytes += line.bytes
        if (!line.ok) {
          bad.push(line)
          output.line(badText(line))
        }
        if (edge.clock.now() - remarkedAt < REMARK_EVERY_MS) return
        remarkedAt = edge.clock.now()
        output.note(`${count(files, 'file')}, ${formatBytes(bytes)} checked so far`)
      }
      const done = await client.verify(repo, onFile, new AbortController().signal)
      if (done.error !== null)
        throw new CommandFailure('store-failed', `the check could not be finished: ${done.error}`, {
          files: done.files,
          bad: done.bad,
        })
      const result = { files: done.files, bad: done.bad, bytes, badFiles: bad }
      const took = formatDuration(edge.clock.now() - startedAt)
      output.result(result, () => {
        const checked = `${count(done.files, 'file')}, ${formatBytes(bytes)} checked in ${took}`
        if (done.files === 0) return 'There is nothing to check.'
        return done.bad === 0 ? `${checked}: all good.` : `${checked}: ${done.bad} bad.`
      })
      if (done.bad > 0) exitWith(EXIT_FAILED)
    })
}

function badText({ repo, path, badChunks }: VerifyLineShape): string {
  const named = badChunks.slice(0, MAX_CHUNKS_NAMED).join(', ')
  const more = badChunks.length > MAX_CHUNKS_NAMED ? ', …' : ''
  const where = badChunks.length === 0 ? '' : `: ${count(badChunks.length, 'bad chunk')} (${named}${more})`
  return `BAD  ${repo}  ${path}${where}`
}
