// Telling everyone and being told: what hosts hold, how they are, what the origin told them. Adapter around gossipsub; what to believe is
// decided in gossip-check.ts. Everything heard here is a hint.
import { type GossipSub, type Message, TopicValidatorResult } from '@libp2p/gossipsub'
import { messageOf } from '@shoal/protocol/errors.ts'
import { type PeerId, parsePeerId } from '@shoal/protocol/ids.ts'
import {
  encodeMessage,
  GOSSIP_HAVE_TOPIC,
  GOSSIP_HEALTH_TOPIC,
  GOSSIP_MAX_LIFETIME_MS,
  GOSSIP_ORIGIN_TOPIC,
  type GossipHave,
  type GossipHealth,
  type GossipOrigin,
  LIMITS,
} from '@shoal/protocol/messages.ts'
import type { Clock } from '@shoal/protocol/time.ts'
import { GossipCheck, splitAnnouncement, type Verdict } from './gossip-check.ts'
import type { HealthFigures } from './mesh.ts'
import { Newcomers } from './newcomers.ts'
import { GOSSIP_TOPICS } from './node.ts'

const MAX_HEALTH_REPORTS = 1024
/** Of what is published without a lifetime of its own. */
const LIFETIME_MS = 10 * 60_000

const RESULTS = {
  accept: TopicValidatorResult.Accept,
  ignore: TopicValidatorResult.Ignore,
  reject: TopicValidatorResult.Reject,
} as const satisfies Record<Verdict['verdict'], TopicValidatorResult>

export type GossipName = 'have' | 'health' | 'origin' | 'other'

const NAMES = new Map<string, GossipName>([
  [GOSSIP_HAVE_TOPIC, 'have'],
  [GOSSIP_HEALTH_TOPIC, 'health'],
  [GOSSIP_ORIGIN_TOPIC, 'origin'],
])

/** A topic in metrics. */
export function gossipName(topic: string): GossipName {
  return NAMES.get(topic) ?? 'other'
}

export interface GossipDeps {
  readonly pubsub: GossipSub
  readonly clock: Clock
  readonly isBanned: (peer: string) => boolean
  /** True when gossip can be sent to a peer, from us to it. */
  readonly hasGossipStream: (peer: string) => boolean
  readonly onHave: (author: PeerId, announcement: GossipHave) => void
  readonly onOrigin: (author: PeerId, word: GossipOrigin) => void
  readonly onRejected: (author: string, topic: string, reason: string) => void
  /** For metrics: every message that came, by topic. */
  readonly onVerdict: (topic: string, verdict: Verdict['verdict']) => void
  readonly onPublishFailure: (topic: string, reason: string) => void
}

export class Gossip {
  readonly #deps: GossipDeps
  readonly #check = new GossipCheck()
  /** Those heard last at the end. `endsAt` on our clock, counted from when it came: the author's may differ. */
  readonly #health = new Map<string, { readonly report: GossipHealth; readonly endsAt: number }>()
  #ownLabels: Pick<GossipHealth, 'site' | 'rack'> = {}
  readonly #newcomers: Newcomers
  #lastSequence = 0

  constructor(deps: GossipDeps) {
    this.#deps = deps
    this.#newcomers = new Newcomers(deps.clock)
  }

  /** Call when the node has started. */
  start(): void {
    for (const topic of GOSSIP_TOPICS) {
      this.#deps.pubsub.topicValidators.set(topic, (_forwarder, message) => this.#validate(message))
      this.#deps.pubsub.subscribe(topic)
    }
  }

  stop(): void {
    this.#newcomers.clear()
    for (const topic of GOSSIP_TOPICS) {
      this.#deps.pubsub.unsubscribe(topic)
      this.#deps.pubsub.topicValidators.delete(topic)
    }
  }

  connected(peer: PeerId): void {
    this.#newcomers.arrived(peer)
  }

  disconnected(peer: PeerId): void {
    this.#newcomers.left(peer)
  }

  /** The last health report of a host, if one was heard and has not expired. */
  health(peer: string): GossipHealth | undefined {
    const heard = this.#health.get(peer)
    return heard === undefined || heard.endsAt <= this.#deps.clock.now() ? undefined : heard.report
  }

  /** This host, and the others that are connected or whose health report has not expired, whichever are more. */
  hostsKnown(): number {
    const now = this.#deps.clock.now()
    for (const [peer, { endsAt }] of this.#health) if (endsAt <= now) this.#health.delete(peer)
    return 1 + Math.max(this.#health.size, this.#deps.pubsub.getSubscribers(GOSSIP_HEALTH_TOPIC).length)
  }

  /** The labels say that the host is of our site, or, without sites, of our rack. Labels are words: nothing hangs on them. */
  isNear(peer: string): boolean {
    const { site, rack } = this.#ownLabels
    const other = this.health(peer)
    if (other === undefined) return false
    return site === undefined ? rack !== undefined && rack === other.rack : site === other.site
  }

  /** Announces in as many messages as needed. Never throws for lack of peers. */
  async announce(blobs: GossipHave['blobs']): Promise<void> {
    for (const part of splitAnnouncement(blobs)) await this.#publish(GOSSIP_HAVE_TOPIC, { blobs: part })
  }

  async publishHealth(health: HealthFigures, lifetimeMs: number): Promise<void> {
    this.#ownLabels = { site: health.site, rack: health.rack }
    await this.#publish(GOSSIP_HEALTH_TOPIC, health, LIMITS.gossip, lifetimeMs)
  }

  async publishOrigin(budgets: GossipOrigin['budgets']): Promise<void> {
    await this.#publish(GOSSIP_ORIGIN_TOPIC, { budgets }, LIMITS.gossipOrigin)
  }

  async #publish(
    topic: string,
    content: object,
    limitBytes: number = LIMITS.gossip,
    lifetimeMs = LIFETIME_MS,
  ): Promise<void> {
    const { pubsub, hasGossipStream } = this.#deps
    const listening = () => pubsub.getSubscribers(topic).map(String)
    await this.#newcomers.wait((peer) => hasGossipStream(peer) && listening().includes(peer))
    const data = encodeMessage({ ...this.#envelope(lifetimeMs), ...content }, limitBytes)
    try {
      await pubsub.publish(topic, data)
    } catch (error) {
      // Gossip is a hint: who missed it asks. A failure here must not end anybody's work.
      this.#deps.onPublishFailure(topic, messageOf(error))
    }
  }

  /** Sequence numbers follow the wall clock, so that they also grow over restarts. */
  #envelope(lifetimeMs: number): Pick<GossipHave, 'sequence' | 'at' | 'expires'> {
    const at = Math.max(0, Math.floor(this.#deps.clock.wallTime()))
    this.#lastSequence = Math.max(this.#lastSequence + 1, at)
    return {
      sequence: this.#lastSequence,
      at,
      expires: at + Math.ceil(Math.min(lifetimeMs, GOSSIP_MAX_LIFETIME_MS)),
    }
  }

  /** Never throws: gossipsub takes a throw for "ignore", and the sender would keep its score. */
  #validate(message: Message): TopicValidatorResult {
    const verdict = this.#judge(message)
    this.#deps.onVerdict(message.topic, verdict)
    return RESULTS[verdict]
  }

  #judge(message: Message): Verdict['verdict'] {
    if (message.type !== 'signed') return 'reject'
    const author = message.from.toString()
    if (this.#deps.isBanned(author)) return 'ignore'
    try {
      const { clock } = this.#deps
      const verdict = this.#check.check(message.topic, author, message.data, clock.now(), clock.wallTime())
      if (verdict.verdict === 'accept') this.#deliver(parsePeerId(author), verdict.content)
      else if (verdict.verdict === 'reject') this.#deps.onRejected(author, message.topic, verdict.reason)
      return verdict.verdict
    } catch (error) {
      this.#deps.onRejected(author, message.topic, messageOf(error))
      return 'reject'
    }
  }

  #deliver(author: PeerId, content: Extract<Verdict, { verdict: 'accept' }>['content']): void {
    if (content.topic === GOSSIP_HAVE_TOPIC) {
      this.#deps.onHave(author, content.have)
      return
    }
    if (content.topic === GOSSIP_ORIGIN_TOPIC) {
      this.#deps.onOrigin(author, content.origin)
      return
    }
    const { health } = content
    const endsAt = this.#deps.clock.now() + health.expires - health.at
    this.#health.delete(author)
    this.#health.set(author, { report: health, endsAt })
    if (this.#health.size <= MAX_HEALTH_REPORTS) return
    const oldest = this.#health.keys().next()
    if (!oldest.done) this.#health.delete(oldest.value)
  }
}
