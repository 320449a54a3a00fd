// Hearing what peers tell: messages of a stream one after the other, no faster than a host has need of. Who tells more waits: its
// stream is read no further, so nothing piles up. What a tell means, and whether it is wanted, is the handler's.
import type { Stream } from '@libp2p/interface'
import { hasCode, ShoalError } from '@shoal/protocol/errors.ts'
import type { PeerId } from '@shoal/protocol/ids.ts'
import { decodeMessage, encodeMessage, LIMITS, tellSchema } from '@shoal/protocol/messages.ts'
import { type Clock, type Deadline, deadline, sleep } from '@shoal/protocol/time.ts'
import { BoundedMap } from '../bounded-map.ts'
import { ExactStream } from './exact-stream.ts'
import { frameOf, LENGTH_BYTES, readFrame, streamError } from './framing.ts'
import type { MeshHandlers } from './mesh.ts'

/** One, and another while we have not seen yet that the first has died. */
export const MAX_TELL_STREAMS_PER_PEER = 2
/** What one peer may tell, over all its streams: so much at once, and so much a second in the long run. */
export const BURST_TELLS = 100
export const TELLS_PER_SECOND = 50
/** A stream that says nothing for so long is closed; tellers close theirs sooner. */
const IDLE_MS = 30_000
const MAX_PEERS_REMEMBERED = 1024

const ANSWERS = {
  wanted: frameOf(encodeMessage({ ok: true }, LIMITS.tellAnswer)),
  unwanted: frameOf(encodeMessage({ ok: false }, LIMITS.tellAnswer)),
} as const

export interface TellServerDeps {
  readonly clock: Clock
  readonly told: MeshHandlers['told']
  readonly onBadMessage: (peer: PeerId, reason: string) => void
  /** The handler failed: not the peer's fault. */
  readonly onFailure: (error: unknown) => void
}

/** `tells` it might take at the time `at`; below zero while some wait. */
interface Allowance {
  readonly tells: number
  readonly at: number
}

export class TellServer {
  readonly #deps: TellServerDeps
  readonly #open = new Map<PeerId, number>()
  readonly #allowances = new BoundedMap<PeerId, Allowance>(MAX_PEERS_REMEMBERED)

  constructor(deps: TellServerDeps) {
    this.#deps = deps
  }

  /** Hears all that is told on `stream`, until it ends. Never rejects. */
  async serve(stream: Stream, peer: PeerId, signal: AbortSignal): Promise<void> {
    const open = this.#open.get(peer) ?? 0
    if (open >= MAX_TELL_STREAMS_PER_PEER) {
      stream.abort(new ShoalError('peer-busy', 'too many streams to tell on'))
      return
    }
    this.#open.set(peer, open + 1)
    using limit = deadline(
      this.#deps.clock,
      IDLE_MS,
      () => new ShoalError('aborted', 'nothing was told any more'),
      signal,
    )
    try {
      await this.#hearAll(stream, peer, limit)
      await stream.close({ signal: limit.signal })
    } catch (error) {
      const failure = streamError(error, peer, limit.signal)
      if (hasCode(failure, 'bad-message')) this.#deps.onBadMessage(peer, failure.message)
      stream.abort(failure)
    } finally {
      const left = (this.#open.get(peer) ?? 1) - 1
      if (left > 0) this.#open.set(peer, left)
      else this.#open.delete(peer)
    }
  }

  async #hearAll(stream: Stream, peer: PeerId, limit: Deadline): Promise<void> {
    // A teller waits for its answer: more than one message unread is none of ours.
    const bytes = new ExactStream(stream, LENGTH_BYTES + LIMITS.tell)
    for (;;) {
      let encoded: Uint8Array
      try {
        encoded = await readFrame(bytes, LIMITS.tell, limit.signal)
      } catch (error) {
        const ended = stream.remoteWriteStatus !== 'writable' && stream.status === 'open'
        if (ended && !limit.signal.aborted && !hasCode(error, 'bad-message')) return
        throw error
      }
      // Before it is decoded, which is what costs.
      await this.#turn(peer, limit.signal)
      const message = decodeMessage(tellSchema, encoded, LIMITS.tell)
      await bytes.write(this.#told(peer, message) ? ANSWERS.wanted : ANSWERS.unwanted, limit.signal)
      limit.extend()
    }
  }

  /** Resolves when the peer's allowance covers another tell. */
  async #turn(peer: PeerId, signal: AbortSignal): Promise<void> {
    const { clock } = this.#deps
    const now = clock.now()
    const last = this.#allowances.get(peer) ?? { tells: BURST_TELLS, at: now }
    const earned = ((now - last.at) / 1_000) * TELLS_PER_SECOND
    const tells = Math.min(BURST_TELLS, last.tells + earned) - 1
    this.#allowances.set(peer, { tells, at: now })
    if (tells < 0) await sleep(clock, (-tells / TELLS_PER_SECOND) * 1_000, signal)
  }

  #told(peer: PeerId, message: Parameters<MeshHandlers['told']>[1]): boolean {
    try {
      return this.#deps.told(peer, message)
    } catch (error) {
      this.#deps.onFailure(error)
      throw new ShoalError('peer-unreachable', 'no answer could be made', { peer })
    }
  }
}
