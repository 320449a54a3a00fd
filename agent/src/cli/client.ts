// The agent's own API as typed calls: every answer is checked against its shape. Owns the sentences for no agent, a silent one
// and something else that answers. Knows no command.
import type { IncomingMessage } from 'node:http'
import { createInterface } from 'node:readline'
import { asShoalError, messageOf, ShoalError } from '@shoal/protocol/errors.ts'
import { type Clock, deadline } from '@shoal/protocol/time.ts'
import type { z } from 'zod'
import {
  type DownloadsShape,
  downloadsShape,
  errorBody,
  type LimitsChangeShape,
  type LimitsShape,
  limitsShape,
  type ModelDetailsShape,
  type ModelsShape,
  modelDetailsShape,
  modelsShape,
  type PeersShape,
  type PullPlanShape,
  type PullShape,
  peersShape,
  pullPlanShape,
  pullShape,
  reloadedShape,
  removedShape,
  type StatusShape,
  statusShape,
  type VerifyDoneShape,
  type VerifyLineShape,
  verifyDoneShape,
  verifyLineShape,
} from '../http/node-shapes.ts'
import type { AgentPlace } from './find-agent.ts'
import { type Call, call, readText } from './http.ts'
import { CommandFailure } from './output.ts'

const ANSWER_MS = 15_000
/** Removing a model deletes files; a reload waits for connections to close. */
const SLOW_ANSWER_MS = 120_000

/** Which files of which repo. */
export interface FilesWish {
  readonly repo: string
  readonly revision: string
  readonly include: readonly string[]
  readonly exclude: readonly string[]
}

export interface PullWish extends FilesWish {
  readonly priority: 'pull' | 'preheat' | 'repair'
  /** Tell afterwards what was planned. */
  readonly plan: boolean
}

export class AgentClient {
  readonly place: AgentPlace
  readonly #clock: Clock

  constructor(place: AgentPlace, clock: Clock) {
    this.place = place
    this.#clock = clock
  }

  status(): Promise<StatusShape> {
    return this.#ask('GET', 'status', statusShape)
  }

  peers(): Promise<PeersShape> {
    return this.#ask('GET', 'peers', peersShape)
  }

  models(): Promise<ModelsShape> {
    return this.#ask('GET', 'models', modelsShape)
  }

  /** @param repo as a person types it, without a revision */
  model(repo: string): Promise<ModelDetailsShape> {
    return this.#ask('GET', modelPath(repo), modelDetailsShape)
  }

  remove(repo: string): Promise<z.infer<typeof removedShape>> {
    return this.#ask('DELETE', modelPath(repo), removedShape, undefined, SLOW_ANSWER_MS)
  }

  downloads(): Promise<DownloadsShape> {
    return this.#ask('GET', 'downloads', downloadsShape)
  }

  startPull(wish: PullWish): Promise<PullShape> {
    return this.#ask('POST', 'downloads', pullShape, wish)
  }

  pull(id: string): Promise<PullShape> {
    return this.#ask('GET', `downloads/${encodeURIComponent(id)}`, pullShape)
  }

  cancelPull(id: string): Promise<PullShape> {
    return this.#ask('POST', `downloads/${encodeURIComponent(id)}/cancel`, pullShape)
  }

  pausePull(id: string): Promise<PullShape> {
    return this.#ask('POST', `downloads/${encodeURIComponent(id)}/pause`, pullShape)
  }

  resumePull(id: string): Promise<PullShape> {
    return this.#ask('POST', `downloads/${encodeURIComponent(id)}/resume`, pullShape)
  }

  orderPulls(ids: readonly string[], to: 'first' | 'last' | number): Promise<DownloadsShape> {
    return this.#ask('POST', 'downloads/order', downloadsShape, { ids, to })
  }

  plan(wish: FilesWish): Promise<PullPlanShape> {
    const query = new URLSearchParams({ repo: wish.repo, revision: wish.revision })
    for (const glob of wish.include) query.append('include', glob)
    for (const glob of wish.exclude) query.append('exclude', glob)
    return this.#ask('GET', `plan?${query}`, pullPlanShape, undefined, SLOW_ANSWER_MS)
  }

  limits(): Promise<LimitsShape> {
    return this.#ask('GET', 'limits', limitsShape)
  }

  changeLimits(change: LimitsChangeShape): Promise<LimitsShape> {
    return this.#ask('PATCH', 'limits', limitsShape, change)
  }

  reloadMesh(): Promise<z.infer<typeof reloadedShape>> {
    return this.#ask('POST', 'mesh/reload', reloadedShape, undefined, SLOW_ANSWER_MS)
  }

  /** Calls `onFile` for every file as it is checked, however long that takes; resolves with the verdict. */
  async verify(
    repo: string | undefined,
    onFile: (line: VerifyLineShape) => void,
    signal: AbortSignal,
  ): Promise<VerifyDoneShape> {
    const answer = await this.#open({
      method: 'POST',
      url: this.#url('verify'),
      body: repo === undefined ? {} : { repo },
      signal,
    })
    const ended = (cause?: unknown) =>
      new ShoalError(
        'not-running',
        `the agent at ${this.place.url} ended before everything was checked`,
        {},
        cause,
      )
    // readline does not pass on what breaks its input.
    let broken: unknown
    answer.once('error', (error) => {
      broken = error
    })
    try {
      for await (const text of createInterface({ input: answer, crlfDelay: Number.POSITIVE_INFINITY })) {
        if (text.trim() === '') continue
        const json = parseJson(text)
        const done = verifyDoneShape.safeParse(json)
        if (done.success) return done.data
        onFile(this.#checked(verifyLineShape, json))
      }
    } catch (error) {
      if (asShoalError(error) !== undefined || signal.aborted) throw error
      throw ended(error)
    }
    throw ended(broken)
  }

  async #ask<Shape extends z.ZodType>(
    method: Call['method'],
    path: string,
    shape: Shape,
    body?: unknown,
    timeoutMs = ANSWER_MS,
  ): Promise<z.infer<Shape>> {
    const seconds = Math.round(timeoutMs / 1000)
    using limit = deadline(
      this.#clock,
      timeoutMs,
      () =>
        new ShoalError('not-running', `the agent at ${this.place.url} did not answer within ${seconds} s`),
    )
    const answer = await this.#open({ method, url: this.#url(path), body, signal: limit.signal })
    return this.#checked(shape, parseJson(await this.#read(answer, limit.signal)))
  }

  #url(path: string): URL {
    return new URL(`${this.place.url}/api/v1/${path}`)
  }

  /** Resolves with a good answer only. */
  async #open(request: Call): Promise<IncomingMessage> {
    const answer = await call(request).catch((error: unknown) => {
      throw this.#unreachable(error)
    })
    const status = answer.statusCode ?? 0
    if (status >= 200 && status < 300) return answer
    const parsed = errorBody.safeParse(parseJson(await this.#read(answer, request.signal)))
    if (!parsed.success) throw this.#stranger(`status ${status}`)
    const { code, message, details } = parsed.data.error
    throw new CommandFailure(code, message, details)
  }

  async #read(answer: IncomingMessage, signal: AbortSignal): Promise<string> {
    return readText(answer).catch((error: unknown) => {
      throw this.#unreachable(signal.aborted ? signal.reason : error)
    })
  }

  #checked<Shape extends z.ZodType>(shape: Shape, json: unknown): z.infer<Shape> {
    const parsed = shape.safeParse(json)
    if (parsed.success) return parsed.data
    const where = parsed.error.issues[0]?.path.map(String).join('.')
    throw this.#stranger(where === undefined || where === '' ? 'another kind of answer' : `an odd "${where}"`)
  }

  #stranger(what: string): ShoalError {
    return new ShoalError(
      'not-running',
      `what answers at ${this.place.url} (${this.place.from}) is no agent of this version of shoal: it sent ${what}`,
    )
  }

  #unreachable(error: unknown): Error {
    if (error instanceof ShoalError) return error
    const code = (error as NodeJS.ErrnoException | undefined)?.code
    if (code === 'ECONNREFUSED' || code === 'ENOTFOUND' || code === 'EHOSTUNREACH')
      return new ShoalError(
        'not-running',
        `no agent answers at ${this.place.url} (${this.place.from}). Start one with: shoal agent`,
        { url: this.place.url, nobodyThere: true },
        error,
      )
    return new ShoalError(
      'not-running',
      `the agent at ${this.place.url} could not be asked: ${messageOf(error)}`,
      { url: this.place.url },
      error,
    )
  }
}

function modelPath(repo: string): string {
  return `models/${repo.split('/').map(encodeURIComponent).join('/')}`
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
