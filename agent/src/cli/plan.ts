// `shoal plan`: what a pull would do, without doing it.
import type { Command } from 'commander'
import type { PlanShape, PullPlanShape } from '../http/node-shapes.ts'
import {
  agentClient,
  collect,
  type PlaceOptions,
  type RepoWord,
  repoWithRevision,
  type Setup,
  withPlace,
} from './command.ts'
import { count, fields, formatBytes, formatDuration } from './format.ts'

interface PlanOptions extends PlaceOptions {
  readonly include?: readonly string[]
  readonly exclude?: readonly string[]
}

export function planCommand(program: Command, { edge, output }: Setup): void {
  withPlace(program.command('plan'))
    .description('show what a pull would do, fetching nothing: bytes by source, time, room on the disk')
    .argument(
      '<repo[@rev]>',
      'org/name, datasets/org/name or spaces/org/name, with a branch, tag or commit',
      repoWithRevision,
    )
    .option('--include <glob>', 'only files that match (repeatable; * also crosses /)', collect)
    .option('--exclude <glob>', 'no files that match (repeatable)', collect)
    .action(async (wish: RepoWord, options: PlanOptions) => {
      const client = await agentClient(edge, options)
      const plan = await client.plan({
        ...wish,
        include: options.include ?? [],
        exclude: options.exclude ?? [],
      })
      output.result(plan, () => planText(plan, edge.clock.wallTime()))
    })
}

/** `disk 1 GB, near peers 2 GB, far peers 0 B, origin 300 MB`. Pure. */
export function plannedSources({ bytes }: Pick<PlanShape, 'bytes'>): string {
  const { disk, near, far, origin } = bytes
  return `disk ${formatBytes(disk)}, near peers ${formatBytes(near)}, far peers ${formatBytes(far)}, origin ${formatBytes(origin)}`
}

/** Pure. */
export function plannedTime({ timeMs, timeUnknownBecause }: PlanShape): string {
  return timeMs === null
    ? `not known: ${timeUnknownBecause ?? 'no rates'}`
    : `about ${formatDuration(timeMs)}`
}

function planText(plan: PullPlanShape, now: number): string {
  const { disk, quota } = plan
  const commit = plan.commit === plan.revision ? '' : ` (commit ${plan.commit.slice(0, 7)})`
  const asked =
    plan.notAskedBytes === 0
      ? ''
      : `; peers were not asked about ${formatBytes(plan.notAskedBytes)} of the origin's`
  const limit = disk.limitBytes === null ? 'no limit' : `limit ${formatBytes(disk.limitBytes)}`
  const fit = disk.missingBytes === 0 ? 'fits' : `does NOT fit: ${formatBytes(disk.missingBytes)} too little`
  const left = quota.map(
    ({ bucket, remaining, seenAt }) => `${remaining} of ${bucket} (seen ${formatDuration(now - seenAt)} ago)`,
  )
  return fields([
    [
      'Pull',
      `${plan.repo}@${plan.revision}${commit}: ${count(plan.files, 'file')}, ${formatBytes(plan.totalBytes)}; ${plan.filesHere} complete here`,
    ],
    ['From', `${plannedSources(plan)} (${count(plan.peersAsked, 'peer')} asked${asked})`],
    ['Time', plannedTime(plan)],
    [
      'Disk',
      `${formatBytes(disk.neededBytes)} needed, ${formatBytes(disk.freeBytes)} free (${limit}): ${fit}`,
    ],
    [
      'Evicted',
      plan.evicted.length === 0 ? 'nothing: this version removes nothing by itself' : plan.evicted.join(' '),
    ],
    ['Requests left', left.length === 0 ? 'the Hub has not said' : left.join(', ')],
  ])
}
