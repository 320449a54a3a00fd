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
  readonly perDownload?: number
  readonly background?: boolean
}

export function limitsCommand(program: Command, { edge, output }: Setup): void {
  withPlace(program.command('limits'))
    .description('show the bandwidth limits, or change those that are named until the agent ends')
    .option('--up <rate>', 'to all peers together, as in 20MB or 100mbit; 0: give peers nothing', upWord)
    .option('--up-per-peer <rate>', 'to one peer', limitWord)
    .option('--down <rate>', 'from peers and the origin together', limitWord)
    .option('--origin <rate>', 'from the origin', limitWord)
    .option('--per-download <rate>', 'of one file that is downloaded', limitWord)
    .option('--background <on|off>', 'take and give only what other traffic leaves', switchWord)
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
      if (options.perDownload !== undefined) change.perDownloadBytesPerSecond = orNone(options.perDownload)
      if (options.background !== undefined) change.background = options.background
      const limits =
        Object.keys(change).length === 0 ? await client.limits() : await client.changeLimits(change)
      output.result(limits, () => limitsText(limits))
    })
}

function limitsText(limits: LimitsShape): string {
  const { inForce, hours, load, background, month } = limits
  const up = limits.givesToPeers ? forceText(inForce.up) : 'nothing: peers are told that this host has none'
  return fields([
    ['Up', up],
    ['Up per peer', rateText(limits.upPerPeerBytesPerSecond)],
    ['Down', forceText(inForce.down)],
    ['Origin', forceText(inForce.origin)],
    ['Per download', rateText(limits.perDownloadBytesPerSecond)],
    ...(hours === null ? [] : [['Hours', hoursText(hours)] as const]),
    ['Background', background.enabled ? `on${queueText(background.queueMs)}` : 'off'],
    ...(load === null ? [] : [['Load', loadText(load)] as const]),
    ['This month', monthText(month)],
  ])
}

const BECAUSE: Readonly<Record<LimitsShape['inForce']['up']['because'], string>> = {
  none: '',
  set: '',
  hours: ', because of the hour',
  load: ', because this host is busy',
  background: ', because of background mode',
}

function forceText({ bytesPerSecond, because }: LimitsShape['inForce']['up']): string {
  return `${rateText(bytesPerSecond)}${BECAUSE[because]}`
}

function hoursText({ now, bytesPerSecond, next }: NonNullable<LimitsShape['hours']>): string {
  const part = now === 'business' ? 'business hours' : 'off hours'
  const then = next === null ? '' : `; from ${minuteText(next.at)} ${rateText(next.bytesPerSecond)}`
  return `${part}, ${rateText(bytesPerSecond)}${then}`
}

function loadText({ foreignLoad, reduces }: NonNullable<LimitsShape['load']>): string {
  const measured =
    foreignLoad === null
      ? 'not measured yet'
      : `other programs keep ${Math.round(foreignLoad * 100)} % of the processors busy`
  return reduces ? measured : `${measured}; nothing is reduced for it`
}

function queueText(queueMs: number | null): string {
  return queueMs === null ? '' : `, packets wait ${Math.round(queueMs)} ms before the link`
}

/** What came from the origin this month, and what of the cap is left. */
export function monthText({ usedBytes, capBytes, usedShare, endsAt }: LimitsShape['month']): string {
  const used = `${formatBytes(usedBytes)} from the origin`
  if (capBytes === null) return used
  const of = `${used} of ${formatBytes(capBytes)} (${Math.floor(usedShare * 100)} %)`
  return usedShare < 1 ? of : `${of}: used up, again from ${minuteText(endsAt)}; peers go on`
}

/** Local time to the minute. */
function minuteText(ms: number): string {
  const two = (number: number) => `${number}`.padStart(2, '0')
  const at = new Date(ms)
  const day = `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}`
  return `${day} ${two(at.getHours())}:${two(at.getMinutes())}`
}

function rateText(bytesPerSecond: number | null): string {
  if (bytesPerSecond === null) return 'unlimited'
  return `${formatBytes(bytesPerSecond)}/s (${Number((bytesPerSecond / 125_000).toFixed(1))} Mbit/s)`
}

function switchWord(text: string): boolean {
  if (/^(?:on|true|yes)$/i.test(text)) return true
  if (/^(?:off|false|no)$/i.test(text)) return false
  throw new InvalidArgumentError('expected on or off.')
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
