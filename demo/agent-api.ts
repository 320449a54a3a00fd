// The part of an agent's own API that the demo uses: start pulls and follow them to their end.
import {
  downloadsShape,
  errorBody,
  type PullShape,
  peersShape,
  pullShape,
} from '@shoal/agent/http/node-shapes.ts'
import { ShoalError } from '@shoal/protocol/errors.ts'
import { type Clock, deadline, sleep } from '@shoal/protocol/time.ts'

const POLL_MS = 200
const MESH_TIMEOUT_MS = 30_000
const MESH_POLL_MS = 100

/** Resolves when the agent is connected to so many others. @throws Error when that takes 30 s */
export async function untilConnected(
  clock: Clock,
  http: string,
  peers: number,
  signal: AbortSignal,
): Promise<void> {
  const late = () =>
    new ShoalError('peer-unreachable', `${http} found fewer than ${peers} other hosts in 30 s`)
  using limit = deadline(clock, MESH_TIMEOUT_MS, late, signal)
  for (;;) {
    const answer = await fetch(`${http}/api/v1/peers`, { signal: limit.signal })
    if (peersShape.parse(await jsonOf(answer)).peers.length >= peers) return
    await sleep(clock, MESH_POLL_MS, limit.signal)
  }
}

/** Asks the agent at `http` for a whole repo. @throws Error with the agent's own message */
export async function startPull(http: string, repo: string, signal: AbortSignal): Promise<PullShape> {
  const answer = await fetch(`${http}/api/v1/downloads`, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify({ repo }),
    signal,
  })
  return pullShape.parse(await jsonOf(answer))
}

/** Follows pulls until all have ended, well or not; `onProgress` sees each state. */
export async function followPulls(
  clock: Clock,
  http: string,
  ids: readonly string[],
  onProgress: (pulls: readonly PullShape[]) => void,
  signal: AbortSignal,
): Promise<readonly PullShape[]> {
  for (;;) {
    const answer = await fetch(`${http}/api/v1/downloads`, { signal })
    const { pulls } = downloadsShape.parse(await jsonOf(answer))
    const ours = pulls.filter((pull) => ids.includes(pull.id))
    onProgress(ours)
    if (ours.length === ids.length && ours.every(({ endedAt }) => endedAt !== null)) return ours
    await sleep(clock, POLL_MS, signal)
  }
}

async function jsonOf(answer: Response): Promise<unknown> {
  const json: unknown = await answer.json()
  if (answer.ok) return json
  const problem = errorBody.safeParse(json)
  throw new Error(problem.success ? problem.data.error.message : `the agent answered ${answer.status}`)
}
