// One small question, one answer, one stream: how manifests, chunk maps and addresses are asked for. Owns deadlines and
// limits of such streams; what is asked and answered is given as a schema and a function.
import type { Stream } from '@libp2p/interface'
import type { ByteStream } from '@libp2p/utils'
import { hasCode, isAbort, ShoalError } from '@shoal/protocol/errors.ts'
import type { PeerId } from '@shoal/protocol/ids.ts'
import { decodeMessage, encodeMessage } from '@shoal/protocol/messages.ts'
import { abortError, type Clock, type Deadline, deadline } from '@shoal/protocol/time.ts'
import type { z } from 'zod'
import { exactReader, frameOf, LENGTH_BYTES, readFrame, streamError } from './framing.ts'

/** Neither side waits longer than this without a byte moving. */
export const ASK_NO_PROGRESS_MS = 10_000
const WRITE_PIECE_BYTES = 256 * 1024
/** Streams of one such protocol that one peer may have open here, over all its connections. */
export const MAX_ASKS_PER_PEER = 8

/** A kind of question: its protocol id, and shape and largest size of both messages. */
export interface Question<Ask extends object, Answer extends object> {
  readonly protocol: string
  readonly ask: z.ZodType<Ask>
  readonly askLimitBytes: number
  readonly answer: z.ZodType<Answer>
  readonly answerLimitBytes: number
}

/**
 * Asks `peer` on a stream of its own.
 * @throws ShoalError `peer-timeout` | `peer-unreachable` | `bad-message` | `aborted`
 */
export async function ask<Ask extends object, Answer extends object>(
  question: Question<Ask, Answer>,
  peer: PeerId,
  message: Ask,
  openStream: (peer: PeerId, protocol: string, signal: AbortSignal) => Promise<Stream>,
  clock: Clock,
  signal: AbortSignal,
): Promise<Answer> {
  using limit = noProgress(clock, peer, signal)
  let stream: Stream | undefined
  try {
    stream = await openStream(peer, question.protocol, limit.signal)
    const bytes = exactReader(stream, question.answerLimitBytes + LENGTH_BYTES)
    await bytes.write(frameOf(encodeMessage(message, question.askLimitBytes)), { signal: limit.signal })
    const encoded = await readFrame(bytes, question.answerLimitBytes, limit.signal, () => limit.extend())
    const answer = decodeMessage(question.answer, encoded, question.answerLimitBytes)
    await stream.close({ signal: limit.signal })
    return answer
  } catch (error) {
    const failure = streamError(error, peer, limit.signal)
    stream?.abort(failure)
    throw failure
  }
}

export interface AnswererDeps<Ask, Answer> {
  readonly clock: Clock
  readonly answer: (peer: PeerId, ask: Ask) => Promise<Answer>
  readonly onBadMessage: (peer: PeerId, reason: string) => void
  readonly onFailure: (error: unknown) => void
}

/** Answers one kind of question. */
export class Answerer<Ask extends object, Answer extends object> {
  readonly #question: Question<Ask, Answer>
  readonly #deps: AnswererDeps<Ask, Answer>
  readonly #open = new Map<PeerId, number>()

  constructor(question: Question<Ask, Answer>, deps: AnswererDeps<Ask, Answer>) {
    this.#question = question
    this.#deps = deps
  }

  /** Answers the one question on `stream`. Never rejects. */
  async serve(stream: Stream, peer: PeerId, signal: AbortSignal): Promise<void> {
    const open = this.#open.get(peer) ?? 0
    if (open >= MAX_ASKS_PER_PEER) {
      stream.abort(new ShoalError('peer-busy', 'too many questions at once'))
      return
    }
    this.#open.set(peer, open + 1)
    using limit = noProgress(this.#deps.clock, peer, signal)
    try {
      const bytes = exactReader(stream, this.#question.askLimitBytes + LENGTH_BYTES)
      const encoded = await readFrame(bytes, this.#question.askLimitBytes, limit.signal)
      const message = decodeMessage(this.#question.ask, encoded, this.#question.askLimitBytes)
      const answer = await this.#answer(peer, message, limit.signal)
      limit.extend()
      await writePieces(bytes, frameOf(encodeMessage(answer, this.#question.answerLimitBytes)), limit)
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

  async #answer(peer: PeerId, message: Ask, signal: AbortSignal): Promise<Answer> {
    try {
      return await this.#deps.answer(peer, message)
    } catch (error) {
      if (signal.aborted) throw abortError(signal)
      if (!isAbort(error)) this.#deps.onFailure(error)
      throw new ShoalError('peer-unreachable', 'no answer could be made', { peer })
    }
  }
}

async function writePieces(bytes: ByteStream<Stream>, frame: Uint8Array, limit: Deadline): Promise<void> {
  for (let sent = 0; sent < frame.byteLength; sent += WRITE_PIECE_BYTES) {
    await bytes.write(frame.subarray(sent, sent + WRITE_PIECE_BYTES), { signal: limit.signal })
    limit.extend()
  }
}

function noProgress(clock: Clock, peer: PeerId, parent: AbortSignal): Deadline {
  return deadline(
    clock,
    ASK_NO_PROGRESS_MS,
    () => new ShoalError('peer-timeout', `no byte moved with ${peer} for ${ASK_NO_PROGRESS_MS} ms`, { peer }),
    parent,
  )
}
