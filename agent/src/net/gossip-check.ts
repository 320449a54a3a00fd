// Whether a gossip message is to be believed, passed on, or held against whoever sent it. Pure: told what came and what
// time it is. Remembers per author and topic the last sequence number, for a bounded number of authors.
import { asShoalError } from '@shoal/protocol/errors.ts'
import {
  CLOCK_TOLERANCE_MS,
  decodeMessage,
  GOSSIP_HAVE_TOPIC,
  GOSSIP_HEALTH_TOPIC,
  GOSSIP_MAX_LIFETIME_MS,
  GOSSIP_ORIGIN_TOPIC,
  type GossipHave,
  type GossipHealth,
  type GossipOrigin,
  gossipHaveSchema,
  gossipHealthSchema,
  gossipOriginSchema,
  LIMITS,
} from '@shoal/protocol/messages.ts'

export const MAX_AUTHORS = 1024
/** Messages overtake each other on their ways by less than this. What is older than another by more is a replay. */
export const REORDER_MS = 60_000

export type GossipContent =
  | { readonly topic: typeof GOSSIP_HAVE_TOPIC; readonly have: GossipHave }
  | { readonly topic: typeof GOSSIP_HEALTH_TOPIC; readonly health: GossipHealth }
  | { readonly topic: typeof GOSSIP_ORIGIN_TOPIC; readonly origin: GossipOrigin }

/**
 * `accept`: new and well formed. `ignore`: nobody's fault, not delivered, not passed on. `reject`: whoever forwarded it
 * should have known better, and loses score.
 */
export type Verdict =
  | { readonly verdict: 'accept'; readonly content: GossipContent }
  | { readonly verdict: 'ignore' | 'reject'; readonly reason: string }

/** What an author may say: so many messages at once, and so many a second in the long run. The rest is not heard. */
export const BURST_MESSAGES = 256
export const MESSAGES_PER_SECOND = 32

const TOPICS = 3

interface Newest {
  readonly sequence: number
  readonly seenAt: number
  /** Messages it may send now. */
  readonly allowance: number
}

export class GossipCheck {
  readonly #newest = new Map<string, Newest>()
  readonly #maxAuthors: number

  constructor(maxAuthors = MAX_AUTHORS) {
    this.#maxAuthors = maxAuthors
  }

  /** Authors remembered, at most `maxAuthors` for each topic. */
  get size(): number {
    return this.#newest.size
  }

  /**
   * @param author the peer whose signature the message carries
   * @param now milliseconds that only grow
   * @param wallTime Unix time in milliseconds
   */
  check(topic: string, author: string, data: Uint8Array, now: number, wallTime: number): Verdict {
    if (data.byteLength > LIMITS.gossip) return { verdict: 'reject', reason: 'too long' }
    let content: GossipContent
    let envelope: Pick<GossipHave, 'sequence' | 'at' | 'expires'>
    try {
      if (topic === GOSSIP_HAVE_TOPIC) {
        const have = decodeMessage(gossipHaveSchema, data, LIMITS.gossip)
        content = { topic, have }
        envelope = have
      } else if (topic === GOSSIP_HEALTH_TOPIC) {
        const health = decodeMessage(gossipHealthSchema, data, LIMITS.gossip)
        content = { topic, health }
        envelope = health
      } else if (topic === GOSSIP_ORIGIN_TOPIC) {
        const origin = decodeMessage(gossipOriginSchema, data, LIMITS.gossipOrigin)
        content = { topic, origin }
        envelope = origin
      } else return { verdict: 'ignore', reason: 'unknown topic' }
    } catch (error) {
      return { verdict: 'reject', reason: asShoalError(error)?.message ?? 'cannot be read' }
    }
    const lifetimeMs = envelope.expires - envelope.at
    if (lifetimeMs <= 0 || lifetimeMs > GOSSIP_MAX_LIFETIME_MS)
      return { verdict: 'reject', reason: `a lifetime of ${lifetimeMs} ms` }
    // It may be our own clock: then everybody would seem to lie. So it is not held against the forwarder.
    if (Math.abs(wallTime - envelope.at) > CLOCK_TOLERANCE_MS)
      return { verdict: 'ignore', reason: 'stamped too far from our clock' }
    return this.#checkSequence(`${topic} ${author}`, envelope.sequence, now, content)
  }

  #checkSequence(key: string, sequence: number, now: number, content: GossipContent): Verdict {
    const newest = this.#newest.get(key)
    if (newest !== undefined && sequence <= newest.sequence) {
      const late = now - newest.seenAt > REORDER_MS
      return { verdict: late ? 'reject' : 'ignore', reason: 'not newer than the last one of this author' }
    }
    const earned = newest === undefined ? 0 : ((now - newest.seenAt) / 1_000) * MESSAGES_PER_SECOND
    const allowance = Math.min(BURST_MESSAGES, (newest?.allowance ?? BURST_MESSAGES) + earned)
    if (allowance < 1) return { verdict: 'ignore', reason: 'too many messages of this author' }
    this.#newest.delete(key)
    this.#newest.set(key, { sequence, seenAt: now, allowance: allowance - 1 })
    if (this.#newest.size > this.#maxAuthors * TOPICS) {
      const quietest = this.#newest.keys().next()
      if (!quietest.done) this.#newest.delete(quietest.value)
    }
    return { verdict: 'accept', content }
  }
}

/** Splits an announcement into ones that fit a message: at most 64 blobs, and runs of chunks within the size limit. */
export function splitAnnouncement(blobs: GossipHave['blobs']): GossipHave['blobs'][] {
  const parts: GossipHave['blobs'][] = []
  let current: GossipHave['blobs'] = []
  let room = ANNOUNCEMENT_BYTES
  const flush = () => {
    if (current.length > 0) parts.push(current)
    current = []
    room = ANNOUNCEMENT_BYTES
  }
  for (const { blob, geometry, state, gained } of blobs) {
    for (let from = 0; from === 0 || from < gained.length; from += RUNS_PER_ENTRY) {
      const runs = gained.slice(from, from + RUNS_PER_ENTRY)
      const size = ENTRY_BYTES + runs.length * RUN_BYTES
      if (size > room || current.length === MAX_BLOBS) flush()
      current.push({ blob, geometry, state, gained: runs })
      room -= size
    }
  }
  flush()
  return parts
}

const MAX_BLOBS = 64
const RUNS_PER_ENTRY = 512
/** Upper bounds of the encoded sizes: an entry without runs (71 + 64 of text and keys), a run of two 32-bit numbers. */
const ENTRY_BYTES = 200
const RUN_BYTES = 11
const ANNOUNCEMENT_BYTES = LIMITS.gossip - 64
