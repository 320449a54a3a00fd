// Telling one peer what this host has stored: one long-lived stream a peer, one tell on it at a time, each answered. A stream a
// tell would cost ten times as much. Owns size and turn of the messages; what is told to whom, and merging, is the caller's.
import type { Stream } from '@libp2p/interface'
import { hasCode, ShoalError } from '@shoal/protocol/errors.ts'
import type { PeerId } from '@shoal/protocol/ids.ts'
import {
  decodeMessage,
  encodeMessage,
  LIMITS,
  TELL_PROTOCOL,
  type Tell,
  tellAnswerSchema,
} from '@shoal/protocol/messages.ts'
import { type Clock, deadline } from '@shoal/protocol/time.ts'
import { ExactStream } from './exact-stream.ts'
import { frameOf, LENGTH_BYTES, readFrame, streamError } from './framing.ts'
import { PipePool } from './pipe-pool.ts'

/** A tell that is not answered for so long is given up. */
export const TELL_TIMEOUT_MS = 10_000
const MAX_BLOBS = 16
const MAX_RUNS = 512
const MAX_CLAIMED = 256
/** Upper bounds of the encoded sizes: an entry without chunks, a run of two 32-bit numbers, one 32-bit number. */
const ENTRY_BYTES = 220
const RUN_BYTES = 11
const INDEX_BYTES = 5
const MESSAGE_BYTES = LIMITS.tell - 64

export interface TellClientDeps {
  readonly clock: Clock
  /** Opens a stream on a live connection. @throws ShoalError `peer-unreachable` */
  readonly openStream: (peer: PeerId, protocol: string, signal: AbortSignal) => Promise<Stream>
  readonly timeoutMs?: number | undefined
}

export class TellClient {
  readonly #deps: TellClientDeps
  readonly #timeoutMs: number
  readonly #pools = new Map<PeerId, PipePool>()
  readonly #telling = new Set<PeerId>()

  constructor(deps: TellClientDeps) {
    this.#deps = deps
    this.#timeoutMs = deps.timeoutMs ?? TELL_TIMEOUT_MS
  }

  /**
   * Tells `peer`, in as many messages as needed, one after the other. A peer may hear the same twice when a stream breaks.
   * @returns false when none of the blobs is of interest to it (any more)
   * @throws ShoalError `peer-busy` while another tell to this peer is under way | `peer-unreachable` | `peer-timeout` |
   *   `bad-message` | `aborted`
   */
  async tell(peer: PeerId, blobs: Tell['blobs'], signal: AbortSignal, line?: number): Promise<boolean> {
    if (this.#telling.has(peer))
      throw new ShoalError('peer-busy', `${peer} has not answered what it was told before`, { peer })
    this.#telling.add(peer)
    try {
      const answers: boolean[] = []
      for (const part of splitTell(blobs))
        answers.push(await this.#tellOne(peer, { blobs: part, line }, signal))
      return answers.length === 0 || answers.includes(true)
    } finally {
      this.#telling.delete(peer)
    }
  }

  /** The peer is gone: what it is being told fails, its stream is dropped. */
  close(peer: PeerId): void {
    const pool = this.#pools.get(peer)
    this.#pools.delete(peer)
    pool?.close(new ShoalError('peer-unreachable', `the connection with ${peer} is closed`, { peer }))
  }

  closeAll(): void {
    for (const peer of [...this.#pools.keys()]) this.close(peer)
  }

  async #tellOne(peer: PeerId, message: Tell, signal: AbortSignal): Promise<boolean> {
    const frame = frameOf(encodeMessage(message, LIMITS.tell))
    const first = await this.#attempt(peer, frame, signal, false)
    if (first !== 'stale') return first
    const second = await this.#attempt(peer, frame, signal, true)
    if (second !== 'stale') return second
    throw new ShoalError('peer-unreachable', `${peer} closes every stream before it answers`, { peer })
  }

  /** `stale`: the kept stream died before it was answered on, as when the peer had just closed it for idling. */
  async #attempt(
    peer: PeerId,
    frame: Uint8Array,
    signal: AbortSignal,
    fresh: boolean,
  ): Promise<boolean | 'stale'> {
    const { clock } = this.#deps
    using limit = deadline(
      clock,
      this.#timeoutMs,
      () => new ShoalError('peer-timeout', `${peer} did not answer for ${this.#timeoutMs} ms`, { peer }),
      signal,
    )
    const lease = await this.#pool(peer)
      .lease(limit.signal, fresh)
      .catch((error: unknown) => {
        throw streamError(error, peer, limit.signal)
      })
    try {
      await lease.bytes.write(frame, limit.signal)
      const encoded = await readFrame(lease.bytes, LIMITS.tellAnswer, limit.signal)
      const { ok } = decodeMessage(tellAnswerSchema, encoded, LIMITS.tellAnswer)
      lease.giveBack()
      return ok
    } catch (error) {
      const failure = streamError(error, peer, limit.signal)
      lease.discard(failure)
      if (lease.reused && hasCode(failure, 'peer-unreachable')) return 'stale'
      throw failure
    }
  }

  #pool(peer: PeerId): PipePool {
    const known = this.#pools.get(peer)
    if (known !== undefined) return known
    for (const [other, pool] of this.#pools) if (pool.unused) this.#pools.delete(other)
    const open = async (signal: AbortSignal) =>
      new ExactStream(
        await this.#deps.openStream(peer, TELL_PROTOCOL, signal),
        LENGTH_BYTES + LIMITS.tellAnswer,
      )
    const pool = new PipePool(open, this.#deps.clock)
    this.#pools.set(peer, pool)
    return pool
  }
}

/** Splits what is to be told into messages that fit. Claims go with the first part of their blob. Pure. */
export function splitTell(blobs: Tell['blobs']): Tell['blobs'][] {
  const parts: Tell['blobs'][] = []
  let current: Tell['blobs'] = []
  let room = 0
  for (const entry of blobs) {
    for (let from = 0; from === 0 || from < entry.gained.length; from += MAX_RUNS) {
      const gained = entry.gained.slice(from, from + MAX_RUNS)
      const claimed = from === 0 ? entry.claimed?.slice(0, MAX_CLAIMED) : undefined
      const size = ENTRY_BYTES + gained.length * RUN_BYTES + (claimed?.length ?? 0) * INDEX_BYTES
      if (size > room || current.length === MAX_BLOBS) {
        current = []
        parts.push(current)
        room = MESSAGE_BYTES
      }
      current.push({ ...entry, gained, claimed })
      room -= size
    }
  }
  return parts
}
