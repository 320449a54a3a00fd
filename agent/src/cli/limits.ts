// `shoal limits`: shows the bandwidth limits of the agent, or changes those that are named.
import { type Command, InvalidArgumentError } from 'commander'
import type { LimitsChangeShape, LimitsShape } from '../http/node-shapes.ts'
import { LEAST_BYTES_PER_SECOND, MOST_BYTES_PER_SECOND } from '../limits-port.ts'
import { agentClient, type PlaceOptions, type Setup, withPlace } from './command.ts'
import { fields, formatBytes } from './format.ts'
import { rateWord } from './rate.ts'

interface LimitsOptions extends PlaceOptions {
  readonly up?: number
  readonly upPerPeer?: number
  readonly down?: number
  readonly origin?: number
}

export function limitsCommand(program: Command, { edge, output }: Setup): void {
  withPlace(program.command('limits'))
    .description('show the bandwidth limits, or change those that are named until the agent ends')
    .option('--up <rate>', 'to all peers together, as in 20MB or 100mbit; 0: give peers nothing', upWord)
    .option('--up-per-peer <rate>', 'to one peer', limitWord)
    .option('--down <rate>', 'from peers and the origin together', limitWord)
    .option('--origin <rate>', 'from the origin', limitWord)
    .addHelpText(
      'after',
      '\n"unlimited" lifts a limit. Limits for every start are in the settings (bandwidth_management).',
    )
    .action(async (options: LimitsOptions) => {
      const client = await agentClient(edge, options)
      const change: LimitsChangeShape = {}
      if (options.up !== undefined) change.upBytesPerSecond = orNone(options.up)
      if (options.upPerPeer !== undefined) change.upPerPeerBytesPerSecond = orNone(options.upPerPeer)
      if (options.down !== undefined) change.downBytesPerSecond = orNone(options.down)
      if (options.origin !== undefined) change.originBytesPerSecond = orNone(options.origin)
      const limits =
        Object.keys(change).length === 0 ? await client.limits() : await client.changeLimits(change)
      output.result(limits, () => limitsText(limits))
    })
}

function limitsText(limits: LimitsShape): string {
  const up = limits.givesToPeers
    ? rateText(limits.upBytesPerSecond)
    : 'nothing: peers are told that this host has none'
  return fields([
    ['Up', up],
    ['Up per peer', rateText(limits.upPerPeerBytesPerSecond)],
    ['Down', rateText(limits.downBytesPerSecond)],
    ['Origin', rateText(limits.originBytesPerSecond)],
  ])
}

function rateText(bytesPerSecond: number | null): string {
  if (bytesPerSecond === null) return 'unlimited'
  return `${formatBytes(bytesPerSecond)}/s (${Number((bytesPerSecond / 125_000).toFixed(1))} Mbit/s)`
}

function orNone(rate: number): number | null {
  return Number.isFinite(rate) ? rate : null
}

function limitWord(text: string): number {
  const rate = rateWord(text)
  if (Number.isFinite(rate) && (rate < LEAST_BYTES_PER_SECOND || rate > MOST_BYTES_PER_SECOND))
    throw new InvalidArgumentError('a limit is at least 1mbit (125kB) a second. "unlimited" lifts it.')
  return rate
}

function upWord(text: string): number {
  return rateWord(text) === 0 ? 0 : limitWord(text)
}
