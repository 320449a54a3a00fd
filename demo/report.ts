// What the demo concludes: one row a host, the amplification of the origin, the verdict. Pure.
import { formatBytes, table } from '@shoal/agent/cli/format.ts'
import type { PullShape } from '@shoal/agent/http/node-shapes.ts'

export interface HostResult {
  readonly host: string
  readonly pulls: readonly PullShape[]
  readonly filesRead: number
  /** What went wrong, in words; files that a client read wrongly among it. */
  readonly problems: readonly string[]
}

export interface Outcome {
  readonly hosts: readonly HostResult[]
  /** All repos once. */
  readonly modelBytes: number
  readonly originBytes: number
  /** Who counted `originBytes`. */
  readonly countedBy: 'the Hub' | 'the agents'
}

export interface Verdict {
  readonly good: boolean
  readonly text: string
}

/** Bytes the origin may send beyond one copy: small files and checks. */
const MAX_AMPLIFICATION = 1.02

export function hostTable(hosts: readonly HostResult[]): string {
  return table(
    [
      { title: 'host' },
      { title: 'from origin', right: true },
      { title: 'from peers', right: true },
      { title: 'from disk', right: true },
      { title: 'seconds', right: true },
      { title: 'MB/s', right: true },
      { title: 'read by a stock client' },
    ],
    hosts.map(({ host, pulls, filesRead, problems }) => {
      const seconds = elapsedSeconds(pulls)
      const moved = sum(pulls, 'originBytes') + sum(pulls, 'peerBytes')
      return [
        host,
        formatBytes(sum(pulls, 'originBytes')),
        formatBytes(sum(pulls, 'peerBytes')),
        formatBytes(sum(pulls, 'diskBytes')),
        seconds.toFixed(1),
        seconds === 0 ? '-' : (moved / 1e6 / seconds).toFixed(0),
        problems.length === 0 ? `${filesRead} files, all hashes equal` : 'WRONG',
      ]
    }),
  )
}

export function amplificationOf({ originBytes, modelBytes }: Outcome): number {
  return modelBytes === 0 ? 0 : originBytes / modelBytes
}

export function verdictOf(outcome: Outcome): Verdict {
  const problems = outcome.hosts.flatMap(({ host, problems, pulls }) => [
    ...pulls
      .filter((pull) => pull.state !== 'complete')
      .map(
        (pull) =>
          `${host}: ${pull.repo} is ${pull.state}${pull.error === null ? '' : `: ${pull.error.message}`}`,
      ),
    ...problems.map((problem) => `${host}: ${problem}`),
  ])
  const amplification = amplificationOf(outcome)
  if (amplification > MAX_AMPLIFICATION)
    problems.push(
      `the origin sent ${amplification.toFixed(3)} times the models, more than ${MAX_AMPLIFICATION}`,
    )
  if (problems.length > 0)
    return { good: false, text: `FAILED\n${problems.map((one) => `  ${one}`).join('\n')}` }
  const hosts = outcome.hosts.length
  return {
    good: true,
    text: `GOOD: ${hosts} hosts hold everything, every hash is right, and the origin sent each byte once`,
  }
}

export function amplificationText(outcome: Outcome): string {
  const { originBytes, modelBytes, countedBy, hosts } = outcome
  return `amplification ${amplificationOf(outcome).toFixed(3)}: the origin sent ${formatBytes(originBytes)} (counted by ${countedBy}) for models of ${formatBytes(modelBytes)} on ${hosts.length} hosts`
}

function sum(pulls: readonly PullShape[], field: 'originBytes' | 'peerBytes' | 'diskBytes'): number {
  return pulls.reduce((total, pull) => total + pull[field], 0)
}

/** From the first start to the last end: pulls of one host run at the same time. */
function elapsedSeconds(pulls: readonly PullShape[]): number {
  const ends = pulls.map((pull) => pull.endedAt ?? pull.startedAt)
  const elapsedMs = Math.max(...ends) - Math.min(...pulls.map(({ startedAt }) => startedAt))
  return Number.isFinite(elapsedMs) ? Math.max(0, elapsedMs) / 1000 : 0
}
