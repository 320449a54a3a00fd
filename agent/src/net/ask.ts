// One small question, one answer, one stream: how manifests, chunk maps and addresses are asked for. Owns deadlines and
// limits of such streams; what is asked and answered is given as a schema and a function.
import type { Stream } from '@libp2p/interface'
import { hasCode, isAbort, ShoalError } from '@shoal/protocol/errors.ts'
import type { PeerId } from '@shoal/protocol/ids.ts'
import { decodeMessage, encodeMessage } from '@shoal/protocol/messages.ts'
import { abortError, type Clock, type Deadline, deadline } from '@shoal/protocol/time.ts'
import type { z } from 'zod'
import { ExactStream } from './exact-stream.ts'
import { frameOf, LENGTH_BYTES, readFrame, streamError } from './framing.ts'
import { Line } from './line.ts'

/** Neither side waits longer than this without a byte moving. */
export const ASK_NO_PROGRESS_MS = 10_000
const WRITE_PIECE_BYTES = 256 * 1024
/** Streams of one such protocol that one peer may have open here, over all its connections. */
export const MAX_ASKS_PER_PEER = 8
/** Questions of one kind to one peer under way: fewer than it takes, for it may see our last stream end late. */
const MAX_ASKING_PER_PEER = MAX_ASKS_PER_PEER / 2
const MAX_WAITING_PER_PEER = 256

/** A kind of question: its protocol id, and shape and largest size of both messages. */
export interface Question<Ask extends object, Answer extends object> {
  readonly protocol: string
  readonly ask: z.ZodType<Ask>
  readonly askLimitBytes: number
  readonly answer: z.ZodType<Answer>
  readonly answerLimitBytes: number
}

export interface AskerDeps {
  readonly clock: Clock
  readonly openStream: (peer: PeerId, protocol: string, signal: AbortSignal) => Promise<Stream>
}

/** Asks peers, so many questions of a kind at once as each of them takes; the others wait in line. */
export class Asker {
  readonly #deps: AskerDeps
  readonly #lines = new Map<string, Line>()

  constructor(deps: AskerDeps) {
    this.#deps = deps
  }

  /**
   * Asks `peer` on a stream of its own.
   * @throws ShoalError `peer-timeout` | `peer-unreachable` | `peer-busy` when too many questions wait already |
   *   `bad-message` | `aborted`
   */
  async ask<Ask extends object, Answer extends object>(
    question: Question<Ask, Answer>,
    peer: PeerId,
    message: Ask,
    signal: AbortSignal,
  ): Promise<Answer> {
    const key = `${question.protocol} ${peer}`
    const line = this.#lines.get(key) ?? new Line(MAX_ASKING_PER_PEER, MAX_WAITING_PER_PEER)
    this.#lines.set(key, line)
    try {
      await line.enter(signal)
      try {
        return await this.#askNow(question, peer, message, signal)
      } finally {
        line.leave()
      }
    } finally {
      if (line.empty) this.#lines.delete(key)
    }
  }

  async #askNow<Ask extends object, Answer extends object>(
    question: Question<Ask, Answer>,
    peer: PeerId,
    message: Ask,
    signal: AbortSignal,
  ): Promise<Answer> {
    const { clock, openStream } = this.#deps
    using limit = noProgress(clock, peer, signal)
    let stream: Stream | undefined
    try {
      stream = await openStream(peer, question.protocol, limit.signal)
      const bytes = new ExactStream(stream, question.answerLimitBytes + LENGTH_BYTES)
      await bytes.write(frameOf(encodeMessage(message, question.askLimitBytes)), limit.signal)
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
}

export interface AnswererDeps<Ask, Answer> {
  readonly clock: Clock
  readonly answer: (peer: PeerId, ask: Ask, signal: AbortSignal) => Promise<Answer>
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
      const bytes = new ExactStream(stream, this.#question.askLimitBytes + LENGTH_BYTES)
      const encoded = await readFrame(bytes, this.#question.askLimitBytes, limit.signal)
      const message = decodeMessage(this.#question.ask, encoded, this.#question.askLimitBytes)
      const answer = await this.#answer(peer, message, limit.signal)
      limit.extend()
      await writePieces(bytes, frameOf(answer), limit)
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

  async #answer(peer: PeerId, message: Ask, signal: AbortSignal): Promise<Uint8Array> {
    try {
      const answer = await untilAborted(this.#deps.answer(peer, message, signal), signal)
      return encodeMessage(answer, this.#question.answerLimitBytes)
    } catch (error) {
      if (signal.aborted) throw abortError(signal)
      if (!isAbort(error)) this.#deps.onFailure(error)
      throw new ShoalError('peer-unreachable', 'no answer could be made', { peer })
    }
  }
}

/** A handler that does not heed its signal must not keep the stream, nor the mesh from stopping. */
async function untilAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  let onAbort = () => {}
  const aborted = new Promise<never>((_resolve, reject) => {
    onAbort = () => reject(abortError(signal))
    if (signal.aborted) onAbort()
    else signal.addEventListener('abort', onAbort, { once: true })
  })
  try {
    return await Promise.race([work, aborted])
  } finally {
    signal.removeEventListener('abort', onAbort)
  }
}

async function writePieces(bytes: ExactStream, frame: Uint8Array, limit: Deadline): Promise<void> {
  for (let sent = 0; sent < frame.byteLength; sent += WRITE_PIECE_BYTES) {
    await bytes.write(frame.subarray(sent, sent + WRITE_PIECE_BYTES), limit.signal)
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
