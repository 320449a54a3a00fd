// Small random worlds with everything going wrong in them, drawn from one seed: what links, starts, sites and stocks hosts have, who leaves,
// dies, pauses, lies, is cut off, and when the origin fails. Makes and disturbs them; what must hold at the end is random-worlds.test.ts.
import assert from 'node:assert/strict'
import { type Decision, DownloadPlan, type PlanSettings } from '@shoal/agent/plan/download-plan.ts'
import type { SourceScores } from '@shoal/agent/plan/source-score.ts'
import { ChunkMap } from '@shoal/protocol/chunks.ts'
import { type Random, seededRandom } from '@shoal/protocol/time.ts'
import type { Request, SimHost } from './host.ts'
import { World } from './world.ts'

export const CHUNK_BYTES = 4 * 1024 * 1024
/** Bytes a second of links. */
const RATES: readonly [number, ...number[]] = [2e6, 20e6, 100e6]
const QUICK_RATES: readonly [number, ...number[]] = [20e6, 100e6]
/** Faults happen in these first milliseconds, and most are over a while later. */
const TROUBLE_MS = 15_000
const LONGEST_FAULT_MS = 30_000

export interface RandomWorld {
  readonly world: World
  /** What went wrong, in words; empty for a calm one. */
  readonly faults: readonly string[]
  /** When all is as well again as it will be. */
  readonly calmAtMs: number
  /** The origin never comes back. */
  readonly originIsLost: boolean
  readonly sites: number
  /** Hosts with a link that is much slower than others have. */
  readonly slowHosts: number
}

/** A plan that is checked whenever it decides. */
class CheckedPlan extends DownloadPlan {
  readonly #self: string

  constructor(settings: PlanSettings, scores: SourceScores) {
    super(settings, scores)
    this.#self = settings.self
  }

  override next(now: number, room?: number): Decision {
    const decision = super.next(now, room)
    const { wakeAt, start } = decision
    assert.ok(wakeAt === undefined || wakeAt > now, `${this.#self}: wakeAt ${wakeAt} is not after ${now}`)
    for (const { source } of start) assert.notEqual(source, this.#self, 'a host asks itself')
    return decision
  }
}

export function randomWorld(seed: number): RandomWorld {
  const random = seededRandom(seed)
  const dice = new Dice(random)
  const chunks = dice.between(1, 24)
  const world = new World({
    seed,
    chunks,
    chunkBytes: CHUNK_BYTES,
    originBytesPerSecond: dice.oneOf(RATES),
    originDelayMs: dice.between(1, 100),
    delayMs: dice.oneOf<readonly [number, number]>([
      [0.1, 1],
      [1, 20],
      [20, 80],
    ]),
    gossipDelayMs: [50, 1_000],
    originFetchers: dice.oneOf([1, 2, 4]),
    originDepth: dice.oneOf([1, 4, 8]),
    totalDepth: dice.oneOf([4, 16]),
    connections: 64,
    makePlan: (settings, scores) => new CheckedPlan(settings, scores),
  })
  const sites = dice.chance(0.2) ? 2 : 1
  const count = dice.between(2, 7)
  let slowHosts = 0
  const rates = dice.chance(0.3) ? QUICK_RATES : RATES
  for (let at = 0; at < count; at++) {
    const stock = dice.share()
    const [upBytesPerSecond, downBytesPerSecond] = [dice.oneOf(rates), dice.oneOf(rates)]
    if (Math.min(upBytesPerSecond, downBytesPerSecond) === RATES[0]) slowHosts++
    world.addHost({
      upBytesPerSecond,
      downBytesPerSecond,
      startAt: dice.chance(0.85) ? dice.share() * 1_000 : dice.share() * 20_000,
      site: dice.between(0, sites - 1),
      ...(at > 0 && stock < 0.3 ? { held: someChunks(chunks, stock < 0.05 ? 1 : 0.4, dice) } : {}),
    })
  }
  world.connect()
  const trouble = new Trouble(world, dice)
  if (dice.chance(0.8)) trouble.draw()
  const { faults, calmAtMs, originIsLost } = trouble
  return { world, faults, calmAtMs, originIsLost, sites, slowHosts }
}

function someChunks(chunks: number, share: number, dice: Dice): ChunkMap {
  const map = new ChunkMap(chunks)
  for (let index = 0; index < chunks; index++) if (dice.chance(share)) map.add(index)
  return map
}

class Dice {
  readonly #random: Random

  constructor(random: Random) {
    this.#random = random
  }

  share(): number {
    return this.#random.next()
  }

  chance(share: number): boolean {
    return this.#random.next() < share
  }

  /** A whole number of these, both included. */
  between(least: number, most: number): number {
    return least + Math.floor(this.#random.next() * (most - least + 1))
  }

  oneOf<T>(values: readonly [T, ...T[]]): T {
    return values[Math.floor(this.#random.next() * values.length)] ?? values[0]
  }
}

/** Draws faults and sets them in the world's calendar. The first host stays well, so that somebody lives. */
class Trouble {
  readonly faults: string[] = []
  calmAtMs = 0
  originIsLost = false
  readonly #world: World
  readonly #dice: Dice
  /** Pairs of hosts, and hosts and the origin, that are cut from each other now. */
  readonly #cuts = new Set<(a: SimHost, b: SimHost | undefined) => boolean>()

  constructor(world: World, dice: Dice) {
    this.#world = world
    this.#dice = dice
    world.isCut = (a, b) => {
      for (const cut of this.#cuts) if (cut(a, b) || (b !== undefined && cut(b, a))) return true
      return false
    }
  }

  draw(): void {
    for (const host of this.#world.hosts.slice(1)) this.#drawFor(host)
    if (this.#dice.chance(0.15)) this.#partition()
    if (this.#dice.chance(0.1)) this.#cutOneOff()
    if (this.#dice.chance(0.25)) this.#failOrigin()
  }

  #drawFor(host: SimHost): void {
    const turn = this.#dice.share()
    if (turn < 0.08) this.#at(`${host.name} leaves`, () => this.#world.leave(host))
    else if (turn < 0.16) this.#at(`${host.name} dies`, () => this.#world.die(host))
    else if (turn < 0.24)
      this.#forAWhile(
        `${host.name} stands still`,
        () => this.#world.pause(host),
        () => this.#world.resume(host),
      )
    else if (turn < 0.32)
      this.#forAWhile(
        `${host.name} leaves and starts again`,
        () => this.#world.leave(host),
        () => {
          this.#world.restart(host)
          this.#world.meet()
        },
      )
    else if (turn < 0.4)
      this.#at(`${host.name} lies`, () => {
        host.behaviour = 'liar'
      })
  }

  #partition(): void {
    const side = this.#world.hosts.map(() => this.#dice.chance(0.5))
    const cut = (a: SimHost, b: SimHost | undefined) => b !== undefined && side[a.number] !== side[b.number]
    this.#cutForAWhile(`${side.map(Number).join('')} are two islands`, cut)
  }

  #cutOneOff(): void {
    const victim = this.#dice.oneOf([...this.#world.hosts.slice(0, 1), ...this.#world.hosts] as [SimHost])
    this.#cutForAWhile(`${victim.name} cannot reach the origin`, (a, b) => b === undefined && a === victim)
  }

  #cutForAWhile(name: string, cut: (a: SimHost, b: SimHost | undefined) => boolean): void {
    const stalled: Request[] = []
    this.#forAWhile(
      name,
      () => {
        this.#cuts.add(cut)
        for (const host of this.#world.hosts)
          for (const request of host.requests.values())
            if (request.flow !== undefined && this.#world.isCut(host, request.from)) {
              this.#world.network.stall(request.flow, true, this.#world.now)
              stalled.push(request)
            }
      },
      () => {
        this.#cuts.delete(cut)
        for (const { flow } of stalled)
          if (flow !== undefined) this.#world.network.stall(flow, false, this.#world.now)
        this.#world.meet()
      },
    )
  }

  #failOrigin(): void {
    const code = this.#dice.oneOf(['origin-unreachable', 'origin-rate-limited', 'origin-bad-answer'] as const)
    const begin = () => this.#world.failOrigin(code)
    if (this.#dice.chance(0.3)) {
      this.originIsLost = true
      this.#at(`the origin is gone for good (${code})`, begin)
      return
    }
    this.#forAWhile(`the origin fails (${code})`, begin, () => this.#world.failOrigin(undefined))
  }

  #at(name: string, run: () => void): number {
    const at = this.#dice.share() * TROUBLE_MS
    this.faults.push(`${Math.round(at)} ms: ${name}`)
    this.calmAtMs = Math.max(this.calmAtMs, at)
    this.#world.events.at(at, run)
    return at
  }

  #forAWhile(name: string, begin: () => void, end: () => void): void {
    const lastsMs = 500 + this.#dice.share() * LONGEST_FAULT_MS
    const endAt = this.#at(`${name} for ${Math.round(lastsMs)} ms`, begin) + lastsMs
    this.calmAtMs = Math.max(this.calmAtMs, endAt)
    this.#world.events.at(endAt, end)
  }
}
