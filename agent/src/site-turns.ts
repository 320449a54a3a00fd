// Asking the origin once for all hosts of a site: asks the keeper of a subject for the turn, and keeps turns for others. Waits a little,
// never for long: whoever hears nothing asks the origin itself. What is found is a hint of a peer; whoever uses it checks it.
import { createHash } from 'node:crypto'
import { hasCode, isAbort, messageOf, ShoalError } from '@shoal/protocol/errors.ts'
import { type PeerId, parsePeerId } from '@shoal/protocol/ids.ts'
import type { TurnAnswer, TurnAsk } from '@shoal/protocol/messages.ts'
import { type Clock, type Deadline, deadline, sleep } from '@shoal/protocol/time.ts'
import { BoundedMap } from './bounded-map.ts'
import type { Log } from './log.ts'
import type { Mesh } from './net/mesh.ts'
import { keepersOf, TurnTable } from './plan/turn-table.ts'

/** A keeper that does not answer for so long is passed over. */
const KEEPER_MS = 2_500
/** And so long this host does not ask it again. The same for one that only ever says: wait. */
const PASSED_OVER_MS = 60_000
/** A keeper lets others wait for so long before it says that they should ask again. */
const WAIT_MS = 400
const KEEPERS_TRIED = 2
/** Waits at one keeper at once. */
const MAX_WAITING = 1_024
const MAX_PASSED_OVER = 256

export interface SiteTurnsDeps {
  readonly mesh: Pick<Mesh, 'self' | 'peers' | 'askTurn' | 'listen' | 'isConnected'>
  readonly site: string | undefined
  readonly clock: Clock
  readonly log: Log
}

export type Turn =
  /** Another host found it. `from` is the peer that says so; undefined when that was this host. */
  | {
      readonly state: 'told'
      readonly value: string
      readonly lifeMs: number
      readonly from: PeerId | undefined
    }
  /** Ask the origin, then say what came of it: exactly one of the two, once. */
  | { readonly state: 'yours'; told(value: string, lifeMs: number): void; failed(): void }

/** What a turn is about: `key` finds the keeper, `kind` and `key` name the subject. */
export interface TurnSubject {
  readonly kind: string
  readonly key: string
  /** Longest wait for what another host finds. */
  readonly patienceMs: number
}

const ALONE: Turn = { state: 'yours', told: () => {}, failed: () => {} }

export class SiteTurns {
  readonly #deps: SiteTurnsDeps
  readonly #table = new TurnTable()
  readonly #waiting = new Map<string, Set<() => void>>()
  readonly #passedOver = new BoundedMap<string, number>(MAX_PASSED_OVER)
  #waits = 0

  constructor(deps: SiteTurnsDeps) {
    this.#deps = deps
    deps.mesh.listen({
      peerUp: () => {},
      peerDown: (peer) => {
        for (const subject of this.#table.gone(peer)) this.#wake(subject)
      },
      have: () => {},
    })
  }

  /** Hosts of this site that are connected; one that has not said where it is counts as here. */
  neighbours(): readonly PeerId[] {
    const { mesh, site } = this.#deps
    return mesh
      .peers()
      .filter(({ health }) => health === undefined || health.site === site)
      .map(({ peer }) => peer)
  }

  /**
   * The turn to ask the origin, or what another host found.
   * @param useless a value that did not serve
   * @throws ShoalError `aborted`, nothing else: without an answer of a keeper it is this host's turn
   */
  async take(of: TurnSubject, useless: string | undefined, signal: AbortSignal): Promise<Turn> {
    const { mesh, clock, log } = this.#deps
    const neighbours = this.neighbours()
    if (neighbours.length === 0) return ALONE
    const subject = subjectOf(of)
    using patience = patient(
      clock,
      of.patienceMs,
      () => new ShoalError('aborted', 'waited long enough'),
      signal,
    )
    const hosts = [mesh.self, ...neighbours].filter(
      (host) => (this.#passedOver.get(host) ?? 0) <= clock.now(),
    )
    for (const keeper of keepersOf(of.key, hosts).slice(0, KEEPERS_TRIED)) {
      const say = (state: 'want' | 'told' | 'failed', more: Partial<TurnAsk> = {}) =>
        this.#say(keeper, { subject: Buffer.from(subject, 'hex'), state, ...more }, patience.signal)
      try {
        for (;;) {
          const askedAt = clock.now()
          const answer = await say('want', useless === undefined ? {} : { useless: digestOf(useless) })
          if (answer.turn === 'wait') {
            // A keeper that says so at once is not to be asked again at once.
            if (clock.now() - askedAt < WAIT_MS / 2) await sleep(clock, WAIT_MS, patience.signal)
            continue
          }
          if (answer.turn !== 'told') return this.#mine(keeper, subject)
          const { value = '', lifeMs = 0 } = answer
          return { state: 'told', value, lifeMs, from: finderOf(answer, mesh.self) }
        }
      } catch (error) {
        if (signal.aborted) throw error
        if (!isAbort(error))
          log.debug({ keeper, reason: messageOf(error) }, 'a keeper of turns did not answer')
        this.#passedOver.set(keeper, clock.now() + PASSED_OVER_MS)
        if (patience.signal.aborted) return ALONE
      }
    }
    return ALONE
  }

  /** Answers as the keeper. Waits, for a bounded time, while somebody else has the turn. */
  async answer(peer: PeerId, ask: TurnAsk, signal: AbortSignal): Promise<TurnAnswer> {
    const { clock } = this.#deps
    const subject = Buffer.from(ask.subject).toString('hex')
    if (ask.state === 'failed') this.#table.failed(subject, peer, clock.now())
    if (ask.state === 'told' && ask.value !== undefined)
      this.#table.told(
        subject,
        peer,
        { value: ask.value, digest: hex(digestOf(ask.value)), lifeMs: ask.lifeMs ?? 0 },
        clock.now(),
      )
    if (ask.state !== 'want') {
      this.#wake(subject)
      return { turn: 'noted' }
    }
    const useless = ask.useless === undefined ? undefined : hex(ask.useless)
    for (const end = clock.now() + WAIT_MS; ; ) {
      const now = clock.now()
      const verdict = this.#table.want(subject, peer, useless, now)
      if (verdict.turn !== 'wait') return verdict
      if (now >= end || this.#waits >= MAX_WAITING || signal.aborted) return { turn: 'wait' }
      await this.#changed(subject, Math.min(end, verdict.until) - now, signal)
    }
  }

  #mine(keeper: string, subject: string): Turn {
    const say = (ask: Partial<TurnAsk> & Pick<TurnAsk, 'state'>) => {
      this.#say(keeper, { subject: Buffer.from(subject, 'hex'), ...ask }, undefined).catch((error: unknown) =>
        this.#deps.log.debug({ keeper, reason: messageOf(error) }, 'a keeper of turns was not told'),
      )
    }
    return {
      state: 'yours',
      told: (value, lifeMs) => say({ state: 'told', value, lifeMs: Math.max(0, Math.floor(lifeMs)) }),
      failed: () => say({ state: 'failed' }),
    }
  }

  async #say(keeper: string, ask: TurnAsk, parent: AbortSignal | undefined): Promise<TurnAnswer> {
    const { mesh, clock } = this.#deps
    const late = () => new ShoalError('peer-timeout', `${keeper} did not answer about a turn`)
    using limit = patient(clock, KEEPER_MS, late, parent)
    const self = keeper === mesh.self
    return self
      ? this.answer(mesh.self, ask, limit.signal)
      : mesh.askTurn(parsePeerId(keeper), ask, limit.signal)
  }

  #changed(subject: string, forMs: number, signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const waiting = this.#waiting.get(subject) ?? new Set()
      this.#waiting.set(subject, waiting)
      this.#waits++
      const done = () => {
        cancel()
        signal.removeEventListener('abort', done)
        if (waiting.delete(done)) this.#waits--
        if (waiting.size === 0) this.#waiting.delete(subject)
        resolve()
      }
      const cancel = this.#deps.clock.after(Math.max(1, forMs), done)
      signal.addEventListener('abort', done, { once: true })
      waiting.add(done)
    })
  }

  #wake(subject: string): void {
    for (const done of [...(this.#waiting.get(subject) ?? [])]) done()
  }
}

/** A deadline in two parts: on a host that has no processor time the second begins late, and what has come is read before it ends. */
function patient(
  clock: Clock,
  timeoutMs: number,
  makeError: () => ShoalError,
  parent: AbortSignal | undefined,
): Deadline {
  const limit = deadline(clock, timeoutMs * 0.6, makeError, parent)
  const cancel = clock.after(timeoutMs * 0.4, () => limit.extend())
  return {
    signal: limit.signal,
    extend: () => limit.extend(),
    [Symbol.dispose]() {
      cancel()
      limit[Symbol.dispose]()
    },
  }
}

function subjectOf({ kind, key }: TurnSubject): string {
  return createHash('sha256').update(`shoal-turn-1\n${kind}\n${key}`).digest('hex').slice(0, 32)
}

function digestOf(value: string): Uint8Array {
  return Uint8Array.from(createHash('sha256').update(value).digest().subarray(0, 8))
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex')
}

function finderOf({ from }: TurnAnswer, self: PeerId): PeerId | undefined {
  if (from === undefined || from === self) return undefined
  try {
    return parsePeerId(from)
  } catch (error) {
    if (hasCode(error, 'bad-request')) return undefined
    throw error
  }
}
