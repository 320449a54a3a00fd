// What `shoal pull` says at the end: what came from where, beside what was planned, and how close to the shortest possible time. Pure.
import type { PullShape } from '../http/node-shapes.ts'
import { count, formatBytes, formatDuration } from './format.ts'
import { plannedSources, plannedTime } from './plan.ts'
import { sourcesText } from './pull-progress.ts'

/** Less than this much of the time is not worth a word. */
const WORTH_TELLING = 0.01
/** A shorter pull was over before anything could be measured. */
const LEAST_MEASURED_MS = 1_000

const WORDS = {
  origin: 'waiting for the origin',
  peers: 'slow peers',
  stall: 'stalls (nothing was on its way)',
  verification: 'verification',
  disk: 'the disk',
} as const

/** Several lines, about a pull that is complete. */
export function pullReport(pull: PullShape): string {
  const took = (pull.endedAt ?? pull.startedAt) - pull.startedAt
  const at =
    pull.commit === null || pull.commit === pull.revision ? '' : ` (commit ${pull.commit.slice(0, 7)})`
  const name = `${pull.repo}@${pull.revision}${at}`
  if (pull.files === 0) return `${name}: no file matches, so there was nothing to fetch.`
  const size = `${count(pull.files, 'file')}, ${formatBytes(pull.totalBytes)}`
  const fetchedBytes = pull.originBytes + pull.peerBytes
  if (fetchedBytes === 0) return `${name}: ${size}, all here already.`
  const rate = took > 0 ? ` (${formatBytes((fetchedBytes / took) * 1000)}/s)` : ''
  const lines = [
    `${name}: ${size}, all here after ${formatDuration(took)}${rate}`,
    `from ${sourcesText(pull)}`,
  ]
  if (pull.planned !== null)
    lines.push(`planned: ${plannedSources(pull.planned)}; time ${plannedTime(pull.planned)}`)
  if (pull.efficiency !== null && pull.efficiency.actualMs >= LEAST_MEASURED_MS)
    lines.push(efficiencyText(pull.efficiency))
  return lines.join('\n')
}

function efficiencyText(efficiency: NonNullable<PullShape['efficiency']>): string {
  const { actualMs, boundMs, lostMs } = efficiency
  const head = `efficiency ${Math.floor(efficiency.efficiency * 100)}%: ${formatDuration(boundMs)} was possible, ${formatDuration(actualMs)} was needed`
  const causes = Object.entries(WORDS)
    .map(([cause, words]) => ({ words, ms: lostMs[cause as keyof typeof WORDS] }))
    .filter(({ ms }) => ms > WORTH_TELLING * actualMs)
    .toSorted((a, b) => b.ms - a.ms)
    .map(({ words, ms }) => `${formatDuration(ms)} ${words}`)
  return causes.length === 0 ? head : `${head}; the rest: ${causes.join(', ')}`
}
