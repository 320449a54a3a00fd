// What the commands share: the options that say which agent is meant, the way from a failed check of a word to exit code 2,
// and the one place that reads them back. Knows no command.
import { messageOf } from '@shoal/protocol/errors.ts'
import { parseRepoSpec, repoLabel } from '@shoal/protocol/ids.ts'
import { type Command, InvalidArgumentError } from 'commander'
import type { Surroundings } from '../config.ts'
import type { AgentSettingKey } from '../config-keys.ts'
import { AgentClient } from './client.ts'
import type { Edge } from './edge.ts'
import { findAgent } from './find-agent.ts'
import type { Output } from './output.ts'

/** What a command is made of besides its own words. */
export interface Setup {
  readonly edge: Edge
  readonly output: Output
  /** The exit code, when a command is done and it is not 0. */
  readonly exitWith: (code: number) => void
}

export interface PlaceOptions {
  readonly config?: string
  readonly storage?: string
}

/** `--json`, for every command. */
export function withJson(command: Command): Command {
  return command.option('--json', 'print the result, or the error, as JSON')
}

/** `--json`, `--config` and `--storage`: for every command that speaks to an agent or reads settings. */
export function withPlace(command: Command): Command {
  return withJson(command)
    .option(
      '--config <file>',
      'settings file (default: $SHOAL_CONFIG_PATH, ./shoal.json, /etc/shoal/config.json)',
    )
    .option('--storage <dir>', 'storage path of the agent that is meant (default: as in the settings)')
}

/** What settings are read from, for a command with these options. */
export function surroundings(
  edge: Edge,
  options: PlaceOptions,
  flags: Readonly<Partial<Record<AgentSettingKey, unknown>>> = {},
): Surroundings {
  return {
    env: edge.env,
    cwd: edge.cwd,
    home: edge.home,
    isRoot: edge.isRoot,
    configPath: options.config,
    flags: { 'storage.models_directory': options.storage, ...flags },
  }
}

/** @throws ShoalError `bad-config` */
export async function agentClient(edge: Edge, options: PlaceOptions): Promise<AgentClient> {
  return new AgentClient(await findAgent(surroundings(edge, options)), edge.clock)
}

export interface RepoWord {
  /** As a person types it, without the revision. */
  readonly repo: string
  readonly revision: string
}

/** An argument `REPO[@REV]`. */
export function repoWithRevision(text: string): RepoWord {
  return checked(() => {
    const { repo, revision } = parseRepoSpec(text)
    return { repo: repoLabel(repo), revision }
  })
}

/** An argument `REPO`. */
export function repoOnly(text: string): string {
  const { repo } = repoWithRevision(text)
  if (text.includes('@'))
    throw new InvalidArgumentError(`this command is about the whole repository: write ${repo}`)
  return repo
}

/** An option that may be given several times. */
export function collect(value: string, previous: readonly string[] | undefined): readonly string[] {
  return [...(previous ?? []), value]
}

/** A whole number in a range, as an option's value. */
export function wholeNumberWord(min: number, max: number): (text: string) => number {
  return (text) => {
    const number = /^\d{1,15}$/.test(text) ? Number(text) : Number.NaN
    if (number >= min && number <= max) return number
    throw new InvalidArgumentError(`expected a whole number from ${min} to ${max}.`)
  }
}

function checked<T>(parse: () => T): T {
  try {
    return parse()
  } catch (error) {
    throw new InvalidArgumentError(messageOf(error))
  }
}
