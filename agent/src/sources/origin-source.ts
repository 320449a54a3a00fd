// The origin as a source of one file's chunks: one ranged GET a chunk, straight into the caller's buffer; a cut or stalled
// body goes on from where it stopped, mirrors take over. Moves bytes and knows nothing of proof.
import type { ByteRange } from '@shoal/protocol/chunks.ts'
import { asShoalError, ShoalError } from '@shoal/protocol/errors.ts'
import { type Clock, type Random, sleep, throwIfAborted } from '@shoal/protocol/time.ts'
import type { OriginWatch } from '../host-limits.ts'
import { bothPaces, type Pace, UNLIMITED } from '../limits-port.ts'
import { retryDelayMs } from '../plan/origin-pace.ts'
import { MIN_BYTES_PER_SECOND, RATE_WINDOW_MS, RateFloor } from '../plan/rate-floor.ts'
import type { HubFile } from './hub.ts'
import { planBody } from './origin-answer.ts'
import { OriginLink } from './origin-link.ts'
import type { SharedLinks } from './shared-link.ts'
import type { ChunkSource, FetchOptions } from './source.ts'
import { isAbsent, isOriginFailure, mayRetry, type RetryRule, type Upstream } from './upstreams.ts'

/** A try that brought this much does not count as one: a slow line gets there in the end, a dripping one does not. */
const PROGRESS_BYTES = 128 * 1024

export interface TransferRule extends RetryRule {
  readonly rateFloor: { readonly bytesPerSecond: number; readonly windowMs: number } | undefined
  /** Transfers of this host that run now: they share the floor. */
  readonly running: { count: number }
}

export interface OriginSourceDeps {
  readonly upstreams: readonly Upstream[]
  readonly rule: TransferRule
  readonly clock: Clock
  readonly random: Random
  readonly watch: Pick<OriginWatch, 'closed' | 'onBytes'> | undefined
  /** Limit on what all origins send us. */
  readonly pace: Pace | undefined
  /** Links that other hosts of the site found; none without it. */
  readonly links?: SharedLinks | undefined
}

/** @param token read anew for every request to the Hub */
export function createOriginSource(
  file: HubFile,
  token: () => string | undefined,
  deps: OriginSourceDeps,
): ChunkSource {
  const places: readonly Place[] = deps.upstreams.map((upstream) => ({
    upstream,
    link: new OriginLink(file, upstream, deps.clock, deps.links),
  }))
  let preferred = 0
  return {
    id: 'origin',
    kind: 'origin',
    async fetch(request, options) {
      if (request.geometry.sizeBytes !== file.entry.sizeBytes || request.blob !== file.entry.blob)
        throw new Error(`the chunk is not of ${file.entry.path}`)
      const transfer = new Transfer(
        request.geometry.range(request.index),
        file.entry.sizeBytes,
        request.into,
        options,
      )
      const given = new Set<Place>()
      for (let tries = 0, failures = 0, turn = preferred; ; turn++) {
        const index = turn % places.length
        const place = places[index]
        if (place === undefined) throw new Error('no origin is configured')
        if (given.has(place)) continue
        const before = transfer.filled
        try {
          throwIfAborted(options.signal)
          await attempt(place, transfer, token, options, deps)
          preferred = index
          return {}
        } catch (error) {
          throwIfAborted(options.signal)
          const known = asShoalError(error)
          if (known === undefined) throw error
          if (!isAbsent(known) && !isOriginFailure(known)) throw known
          if (isSettled(known)) {
            given.add(place)
            // Bytes that came before the origin changed under us must not be joined with another one's.
            if (given.size === places.length || (known.code === 'origin-changed' && transfer.filled > 0))
              throw known
            continue
          }
          // What a nonsensical answer brought is not built upon.
          if (known.code === 'origin-bad-answer') transfer.rewind(before)
          if (transfer.filled - before >= PROGRESS_BYTES) tries = 0
          // Another origin is asked at once; when all have failed, the round is tried again after a pause.
          if (++failures % (places.length - given.size) !== 0) continue
          if (!mayRetry(known, ++tries, deps.rule)) throw known
          options.onTrouble?.(known)
          if (known.code !== 'origin-rate-limited')
            await sleep(
              deps.clock,
              retryDelayMs(tries, deps.rule.backoff, deps.random.next()),
              options.signal,
            )
        }
      }
    },
  }
}

interface Place {
  readonly upstream: Upstream
  readonly link: OriginLink
}

/** Trying this origin again would end the same way. */
function isSettled(error: ShoalError): boolean {
  return isAbsent(error) || error.code === 'origin-changed' || error.code === 'origin-refused'
}

/** What is filled of one chunk. */
class Transfer {
  readonly sizeBytes: number
  readonly #range: ByteRange
  readonly #into: Uint8Array
  readonly #onProgress: FetchOptions['onProgress']
  #told = 0
  filled = 0

  constructor(range: ByteRange, sizeBytes: number, into: Uint8Array, options: FetchOptions) {
    if (into.byteLength !== range.end - range.start)
      throw new Error('the buffer has not the length of the chunk')
    this.sizeBytes = sizeBytes
    this.#range = range
    this.#into = into
    this.#onProgress = options.onProgress
  }

  /** Bytes of the file still wanted. */
  get missing(): ByteRange {
    return { start: this.#range.start + this.filled, end: this.#range.end }
  }

  get done(): boolean {
    return this.filled === this.#into.byteLength
  }

  /** Takes what fits and gives how much that was. */
  take(piece: Uint8Array): number {
    const room = this.#into.byteLength - this.filled
    const part = piece.byteLength > room ? piece.subarray(0, room) : piece
    this.#into.set(part, this.filled)
    this.filled += part.byteLength
    if (this.filled > this.#told) {
      this.#told = this.filled
      this.#onProgress(this.filled)
    }
    return part.byteLength
  }

  /** Forgets what came after the first `filled` bytes. */
  rewind(filled: number): void {
    this.filled = filled
    if (filled === this.#told) return
    this.#told = filled
    this.#onProgress(filled)
  }
}

async function attempt(
  place: Place,
  transfer: Transfer,
  token: () => string | undefined,
  { signal, pace: own }: Pick<FetchOptions, 'signal' | 'pace'>,
  deps: OriginSourceDeps,
): Promise<void> {
  const { clock, rule } = deps
  const pace = bothPaces(deps.pace, own) ?? UNLIMITED
  if (transfer.done) return
  throwIfClosed(deps)
  const wanted = transfer.missing
  const whole = wanted.start === 0 && wanted.end === transfer.sizeBytes
  const answer = await place.link.open(whole ? undefined : wanted, token, signal)
  const { host } = answer.url
  let plan: ReturnType<typeof planBody>
  try {
    plan = planBody(
      { status: answer.status, host, header: answer.header },
      wanted,
      transfer.sizeBytes,
      !whole,
    )
  } catch (error) {
    answer.discard()
    throw error
  }
  const floorRate = rule.rateFloor?.bytesPerSecond ?? MIN_BYTES_PER_SECOND
  const floor = new RateFloor(
    () => floorRate / Math.max(1, rule.running.count),
    clock.now(),
    rule.rateFloor?.windowMs ?? RATE_WINDOW_MS,
  )
  let skip = plan.skipBytes
  rule.running.count++
  try {
    for await (const piece of answer.body) {
      throwIfAborted(signal)
      throwIfClosed(deps)
      deps.watch?.onBytes(piece.byteLength)
      const skipped = Math.min(skip, piece.byteLength)
      skip -= skipped
      const rest = piece.byteLength - skipped
      const taken = await takeAtPace(transfer, skipped === 0 ? piece : piece.subarray(skipped), pace, signal)
      if (transfer.done && plan.open) return
      if (taken < rest)
        throw new ShoalError('origin-bad-answer', `${host} sent more than was asked for`, { host })
      if (!floor.moved(piece.byteLength, clock.now()) && !transfer.done)
        throw new ShoalError('origin-unreachable', `${host} is too slow`, { host, reason: 'too-slow' })
    }
  } finally {
    rule.running.count--
  }
  if (!transfer.done)
    throw new ShoalError('origin-unreachable', `${host} ended its answer early`, { host, reason: 'cut' })
}

function throwIfClosed({ watch }: OriginSourceDeps): void {
  const closed = watch?.closed()
  if (closed !== undefined) throw closed
}

/** Takes in what fits, as fast as the limit allows: what is not taken yet holds the origin back. @returns how much that was */
async function takeAtPace(
  transfer: Transfer,
  bytes: Uint8Array,
  pace: Pace,
  signal: AbortSignal,
): Promise<number> {
  let taken = 0
  while (taken < bytes.byteLength) {
    const part = transfer.take(bytes.subarray(taken, taken + Math.min(pace.pieceBytes, bytes.byteLength)))
    if (part === 0) break
    taken += part
    const wait = pace.pass(part, signal)
    if (wait !== undefined) await wait
    throwIfAborted(signal)
  }
  return taken
}
