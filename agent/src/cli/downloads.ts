// `shoal downloads`: what is being fetched, in which order, and the operator's hand on it: pause, resume, cancel, first, last, move.
import type { Command } from 'commander'
import type { DownloadsShape, PullShape } from '../http/node-shapes.ts'
import type { AgentClient } from './client.ts'
import { agentClient, type PlaceOptions, type Setup, wholeNumberWord, withPlace } from './command.ts'
import { EXIT_WRONG_USE } from './edge.ts'
import { count, formatBytes, formatDuration, percent, table } from './format.ts'
import { CommandFailure } from './output.ts'
import { etaMs, sourcesText } from './pull-progress.ts'

const SHORT_ID = 8
const LEAST_ID = 4

const WHICH =
  'ids as the list shows them (the first letters are enough), or repositories: org/name, org/name@rev'

interface SomeOptions extends PlaceOptions {
  readonly all?: boolean
}

export function downloadsCommand(program: Command, setup: Setup): void {
  const { edge, output } = setup
  const downloads = withPlace(program.command('downloads'))
    .description('list pulls in the order in which they go, and the files that are arriving; or change that')
    .action(async (options: PlaceOptions) => {
      const answer = await (await agentClient(edge, options)).downloads()
      output.result(answer, () => downloadsText(answer))
    })

  const some = (name: string, description: string, done: string, act: Act) => {
    withPlace(downloads.command(name))
      .description(description)
      .argument('[download...]', WHICH)
      .option('--all', 'all that have not ended')
      .action(async (words: readonly string[], options: SomeOptions) => {
        const client = await agentClient(edge, options)
        const chosen = await choose(client, words, options.all === true, act.fits)
        const pulls: PullShape[] = []
        for (const { id } of chosen) pulls.push(await act.on(client, id))
        output.result({ pulls }, () =>
          pulls.length === 0
            ? 'There is nothing to do.'
            : pulls.map((pull) => `${done} ${nameOf(pull)}`).join('\n'),
        )
      })
  }
  some('pause', 'fetch nothing more for pulls until they are resumed; what has arrived is kept', 'Paused', {
    fits: ({ state }) => state !== 'paused',
    on: (client, id) => client.pausePull(id),
  })
  some('resume', 'let paused pulls go on', 'Resumed', {
    fits: ({ state }) => state === 'paused',
    on: (client, id) => client.resumePull(id),
  })
  some('cancel', 'end pulls; what has arrived is kept', 'Cancelled', {
    fits: () => true,
    on: (client, id) => client.cancelPull(id),
  })

  const move = async (words: readonly string[], to: 'first' | 'last' | number, options: PlaceOptions) => {
    const client = await agentClient(edge, options)
    const chosen = await choose(client, words, false)
    const answer = await client.orderPulls(
      chosen.map(({ id }) => id),
      to,
    )
    output.result(answer, () => downloadsText(answer))
  }
  for (const [name, description] of [
    ['first', 'put pulls before all others of their class, in the order named'],
    ['last', 'put pulls after all others of their class, in the order named'],
  ] as const) {
    withPlace(downloads.command(name))
      .description(description)
      .argument('<download...>', WHICH)
      .action((words: readonly string[], options: PlaceOptions) => move(words, name, options))
  }
  withPlace(downloads.command('move'))
    .description('put pulls at a place of the list, counted from 1, within their class')
    .argument('<download...>', WHICH)
    .requiredOption('--to <place>', 'where the first of them is to be', wholeNumberWord(1, 1_000_000))
    .action((words: readonly string[], options: PlaceOptions & { readonly to: number }) =>
      move(words, options.to, options),
    )
}

interface Act {
  /** Of all pulls that have not ended, those that `--all` means. */
  readonly fits: (pull: PullShape) => boolean
  readonly on: (client: AgentClient, id: string) => Promise<PullShape>
}

/** The pulls that are meant, each once, in the order named. @throws CommandFailure `not-found` | `conflict` | `bad-request` */
async function choose(
  client: AgentClient,
  words: readonly string[],
  all: boolean,
  fits: Act['fits'] = () => true,
): Promise<readonly PullShape[]> {
  if (all === words.length > 0) {
    const message = all ? 'name downloads or say --all, not both' : 'name downloads, or say --all'
    throw new CommandFailure('bad-request', message, {}, EXIT_WRONG_USE)
  }
  const { pulls } = await client.downloads()
  const alive = pulls.filter(({ endedAt }) => endedAt === null)
  if (all) return alive.filter(fits)
  return [...new Set(words.flatMap((word) => chosenBy(word, alive)))]
}

function chosenBy(word: string, alive: readonly PullShape[]): readonly PullShape[] {
  const [repo, revision] = word.split('@')
  const byName = alive.filter((pull) => pull.repo === repo && (revision ?? pull.revision) === pull.revision)
  if (byName.length > 0) return byName
  const byId = alive.filter(({ id }) => id === word || (word.length >= LEAST_ID && id.startsWith(word)))
  const [only, second] = byId
  if (only === undefined)
    throw new CommandFailure(
      'not-found',
      `no download that has not ended is called ${word}; see: shoal downloads`,
    )
  if (second !== undefined && only.id !== word)
    throw new CommandFailure('conflict', `${word} may be ${byId.map(nameOf).join(' or ')}: write more of it`)
  return [only]
}

function nameOf(pull: PullShape): string {
  return `${pull.repo}@${pull.revision} (${pull.id.slice(0, SHORT_ID)})`
}

function downloadsText({ pulls, blobs }: DownloadsShape): string {
  if (pulls.length === 0 && blobs.length === 0) return 'Nothing is being fetched.'
  const parts: string[] = []
  if (pulls.length > 0) parts.push(pullsTable(pulls))
  if (blobs.length > 0) parts.push(blobsTable(blobs))
  const waiting = pulls.filter(({ state }) => state === 'queued' || state === 'paused').length
  if (waiting > 0)
    parts.push(
      `${count(waiting, 'pull')} not running: queued ones go on by themselves, paused ones with: shoal downloads resume`,
    )
  return parts.join('\n\n')
}

function pullsTable(pulls: DownloadsShape['pulls']): string {
  const rows = pulls.map((pull) => {
    const eta = pull.state === 'running' ? etaMs(pull) : undefined
    return [
      pull.id.slice(0, SHORT_ID),
      `${pull.repo}@${pull.revision}`,
      pull.error === null ? pull.state : `${pull.state}: ${pull.error.message} (${pull.error.code})`,
      pull.priority,
      percent(pull.doneBytes, pull.totalBytes),
      formatBytes(pull.totalBytes),
      `${formatBytes(pull.bytesPerSecond)}/s`,
      eta === undefined ? '' : formatDuration(eta),
      String(pull.peers),
      sourcesText(pull),
    ]
  })
  const columns = [
    { title: 'ID' },
    { title: 'PULL' },
    { title: 'STATE' },
    { title: 'PRIORITY' },
    { title: 'DONE', right: true },
    { title: 'SIZE', right: true },
    { title: 'RATE', right: true },
    { title: 'LEFT', right: true },
    { title: 'PEERS', right: true },
    { title: 'FROM' },
  ]
  return table(columns, rows)
}

function blobsTable(blobs: DownloadsShape['blobs']): string {
  const rows = blobs.map((blob) => {
    const progress = {
      doneBytes: blob.heldBytes,
      totalBytes: blob.sizeBytes,
      bytesPerSecond: blob.bytesPerSecond,
    }
    const eta = blob.state === 'running' ? etaMs(progress) : undefined
    return [
      blob.repo,
      blob.path,
      blob.error === null ? blob.state : `${blob.state}: ${blob.error}`,
      blob.priority ?? '',
      percent(blob.heldBytes, blob.sizeBytes),
      formatBytes(blob.sizeBytes),
      `${formatBytes(blob.state === 'paused' ? 0 : blob.bytesPerSecond)}/s`,
      eta === undefined ? '' : formatDuration(eta),
      String(blob.peers),
      sourcesText(blob),
    ]
  })
  const columns = [
    { title: 'REPO' },
    { title: 'FILE' },
    { title: 'STATE' },
    { title: 'PRIORITY' },
    { title: 'DONE', right: true },
    { title: 'SIZE', right: true },
    { title: 'RATE', right: true },
    { title: 'LEFT', right: true },
    { title: 'PEERS', right: true },
    { title: 'FROM' },
  ]
  return table(columns, rows)
}
