// `shoal pull`: asks the agent to fetch, shows how it goes, and cancels it on Ctrl-C. The agent does the work: if this command
// is killed, the pull goes on.
import { isAbort, messageOf } from '@shoal/protocol/errors.ts'
import { sleep } from '@shoal/protocol/time.ts'
import { type Command, Option } from 'commander'
import type { PullShape } from '../http/node-shapes.ts'
import type { AgentClient } from './client.ts'
import {
  agentClient,
  collect,
  type PlaceOptions,
  type RepoWord,
  repoWithRevision,
  type Setup,
  withPlace,
} from './command.ts'
import type { Edge } from './edge.ts'
import { formatBytes } from './format.ts'
import { CommandFailure } from './output.ts'
import { pullDisplay } from './pull-progress.ts'
import { pullReport } from './pull-report.ts'

const FIRST_LOOK_MS = 50
const LOOK_EVERY_MS = 300
const EXIT_SIGINT = 130
const EXIT_SIGTERM = 143

interface PullOptions extends PlaceOptions {
  readonly include?: readonly string[]
  readonly exclude?: readonly string[]
  readonly priority: 'pull' | 'preheat'
}

export function pullCommand(program: Command, { edge, output }: Setup): void {
  withPlace(program.command('pull'))
    .description('fetch a model to this host, from the other hosts where they have it')
    .argument(
      '<repo[@rev]>',
      'org/name, datasets/org/name or spaces/org/name, with a branch, tag or commit',
      repoWithRevision,
    )
    .option('--include <glob>', 'only files that match (repeatable; * also crosses /)', collect)
    .option('--exclude <glob>', 'no files that match (repeatable)', collect)
    .addOption(
      new Option('--priority <class>', 'a preheat lets pulls go before it')
        .choices(['pull', 'preheat'])
        .default('pull'),
    )
    .action(async (wish: RepoWord, options: PullOptions) => {
      const client = await agentClient(edge, options)
      const interrupt = listenForInterrupt(edge)
      const display = pullDisplay(edge, output)
      try {
        const started = await client.startPull({
          ...wish,
          include: options.include ?? [],
          exclude: options.exclude ?? [],
          priority: options.priority,
          plan: true,
        })
        const pull = await follow(client, edge, started, (now) => display.update(now), interrupt.signal)
        display.close()
        if (interrupt.signal.aborted && pull.state !== 'complete') throw cancelled(pull, interrupt.exitCode())
        if (pull.state === 'failed')
          throw new CommandFailure(
            pull.error?.code ?? 'internal',
            `${pull.repo}@${pull.revision} could not be fetched: ${pull.error?.message ?? 'the agent does not say why'}`,
            { pull },
          )
        if (pull.state === 'cancelled')
          throw new CommandFailure('aborted', `the pull of ${pull.repo} was cancelled by somebody else`, {
            pull,
          })
        output.result(pull, () => pullReport(pull))
      } finally {
        display.close()
        interrupt.ignore()
      }
    })
}

/** Looks at the pull until it has ended. When `signal` fires, cancels it and gives what was left. */
async function follow(
  client: AgentClient,
  edge: Edge,
  started: PullShape,
  onLook: (pull: PullShape) => void,
  signal: AbortSignal,
): Promise<PullShape> {
  let pull = started
  let delayMs = FIRST_LOOK_MS
  while (pull.endedAt === null) {
    onLook(pull)
    try {
      await sleep(edge.clock, delayMs, signal)
    } catch (error) {
      if (!isAbort(error)) throw error
      return await cancel(client, pull)
    }
    delayMs = Math.min(delayMs * 2, LOOK_EVERY_MS)
    pull = await client.pull(pull.id)
  }
  return pull
}

async function cancel(client: AgentClient, pull: PullShape): Promise<PullShape> {
  try {
    return await client.cancelPull(pull.id)
  } catch (error) {
    // It ended while we asked.
    if (error instanceof CommandFailure && error.code === 'conflict') return await client.pull(pull.id)
    throw new CommandFailure(
      'aborted',
      `the pull of ${pull.repo} may still be running, for the agent could not be told to cancel it: ${messageOf(error)}`,
      { pull },
      EXIT_SIGINT,
    )
  }
}

function cancelled(pull: PullShape, exitCode: number): CommandFailure {
  const kept = `${formatBytes(pull.doneBytes)} of ${formatBytes(pull.totalBytes)}`
  return new CommandFailure(
    'aborted',
    `cancelled; ${kept} are here and stay, and the next pull goes on from them`,
    { pull },
    exitCode,
  )
}

interface Interrupt {
  readonly signal: AbortSignal
  exitCode(): number
  ignore(): void
}

/** The first Ctrl-C cancels, the second ends the program at once. */
function listenForInterrupt(edge: Edge): Interrupt {
  const controller = new AbortController()
  let exitCode = EXIT_SIGINT
  const ignore = edge.onInterrupt((signal) => {
    exitCode = signal === 'SIGINT' ? EXIT_SIGINT : EXIT_SIGTERM
    if (controller.signal.aborted) edge.exit(exitCode)
    controller.abort()
  })
  return { signal: controller.signal, exitCode: () => exitCode, ignore }
}
