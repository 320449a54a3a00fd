// How often a download plan decides in a second, for a blob of 35,000 chunks and 20 peers, news between the decisions included; and
// beside it how often one plain loop looks at 35,000 chunks. Run: node test/bench/decisions/plan-calls.ts [rounds]
import { SourceScores } from '@shoal/agent/plan/source-score.ts'
import { ChunkMap } from '@shoal/protocol/chunks.ts'
import { seededRandom, systemClock } from '@shoal/protocol/time.ts'
import { BYTES, newPlan } from '../../support/plan-facts.ts'
import { compareInRounds } from './rounds.ts'

const CHUNKS = 35_000
const PEERS = 20
const HELD_PART = 0.02
/** Well below the chunks that there are: a plan that has them all decides in no time. */
const CALLS = 20_000

const VARIANTS: Record<string, () => () => unknown> = {
  'decisions of the plan': deciding,
  'one look at every chunk': () => {
    const states = new Uint8Array(CHUNKS).fill(1)
    return () => {
      let sum = 0
      for (let index = 0; index < CHUNKS; index++) sum += states[index] ?? 0
      return sum
    }
  },
}

const variant = process.env.VARIANT
if (variant === undefined) await compareInRounds(import.meta.filename, Object.keys(VARIANTS), 'a second')
else {
  const once = VARIANTS[variant]?.()
  if (once === undefined) throw new Error(`no such variant: ${variant}`)
  const from = systemClock.now()
  for (let call = 0; call < CALLS; call++) once()
  process.send?.((CALLS * 1000) / (systemClock.now() - from))
  process.disconnect?.()
}

/** Time passes by a millisecond a decision; one chunk arrives and one peer gains one between two. */
function deciding(): () => unknown {
  const random = seededRandom(11)
  const scores = new SourceScores()
  const plan = newPlan(CHUNKS, {}, scores)
  const peers = Array.from({ length: PEERS }, (_, at) => `peer-${at}`)
  for (const peer of peers) {
    const holds = new ChunkMap(CHUNKS)
    for (let index = 0; index < CHUNKS; index++) if (random.next() < HELD_PART) holds.add(index)
    plan.peerState(peer, { holds, wanting: true, claimed: [] }, 0)
  }
  const flights: number[] = []
  let now = 0
  return () => {
    now++
    for (const { id } of plan.next(now).start) flights.push(id)
    const [done] = flights.splice(Math.floor(random.next() * flights.length), 1)
    if (done !== undefined) plan.stored(done, BYTES, now)
    const peer = peers[Math.floor(random.next() * peers.length)] ?? ''
    plan.peerGained(peer, [Math.floor(random.next() * CHUNKS)], now)
  }
}
