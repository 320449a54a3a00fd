// The site's manners towards an origin: what it tells one host, that host tells the others, and what it hears it keeps to. Carries words
// between budgets and gossip; what they mean is decided in plan/origin-pace.ts, when to speak in plan/telling-times.ts.
import { messageOf } from '@shoal/protocol/errors.ts'
import { MAX_BUDGET_WORDS } from '@shoal/protocol/messages.ts'
import { createTasks, type Service, type Tasks } from '@shoal/protocol/service.ts'
import type { Clock } from '@shoal/protocol/time.ts'
import type { Log } from './log.ts'
import type { Mesh } from './net/mesh.ts'
import { tellDelayMs } from './plan/telling-times.ts'
import type { OriginBudgets } from './sources/origin-budgets.ts'

export interface SiteBudgetDeps {
  readonly mesh: Pick<Mesh, 'listen' | 'peers' | 'publishOrigin'>
  readonly budgets: OriginBudgets
  readonly clock: Clock
  readonly log: Log
  readonly onFailure: (name: string, error: unknown) => void
}

export class SiteBudget implements Service {
  readonly name = 'site budget'
  readonly #deps: SiteBudgetDeps
  #tasks: Tasks | undefined
  #stopListening: () => void = () => {}
  #cancelTell: () => void = () => {}
  #lastAt = Number.NEGATIVE_INFINITY
  #isUrgent = false

  constructor(deps: SiteBudgetDeps) {
    this.#deps = deps
  }

  async start(): Promise<void> {
    if (this.#tasks !== undefined) return
    const { mesh, budgets } = this.#deps
    this.#tasks = createTasks(this.#deps.onFailure)
    this.#stopListening = mesh.listen({
      // Whoever comes while the site holds back must hear of it before it asks.
      peerUp: () => {
        if (budgets.words(1).some(({ blockedMs }) => blockedMs !== undefined)) this.#urge()
      },
      peerDown: () => {},
      have: () => {},
      origin: (peer, word) => budgets.hear(peer, word.budgets),
    })
    budgets.onNews(() => this.#urge())
    this.#schedule()
  }

  async stop(): Promise<void> {
    this.#stopListening()
    this.#deps.budgets.onNews(() => {})
    this.#cancelTell()
    const tasks = this.#tasks
    this.#tasks = undefined
    await tasks?.stop()
  }

  #urge(): void {
    if (this.#isUrgent) return
    this.#isUrgent = true
    this.#schedule()
  }

  #schedule(): void {
    const { clock, mesh } = this.#deps
    this.#cancelTell()
    if (this.#tasks === undefined) return
    const delayMs = tellDelayMs(this.#isUrgent, this.#lastAt, mesh.peers().length, clock.now())
    this.#cancelTell = clock.after(delayMs, () => {
      this.#tasks?.run('tell what the origin told', () => this.#tell())
    })
  }

  async #tell(): Promise<void> {
    const { budgets, mesh, clock, log } = this.#deps
    this.#isUrgent = false
    this.#lastAt = clock.now()
    try {
      const words = budgets.words(MAX_BUDGET_WORDS)
      if (words.length > 0) await mesh.publishOrigin(words.map((word) => ({ ...word })))
    } catch (error) {
      log.debug({ reason: messageOf(error) }, 'not told what the origin told')
    } finally {
      this.#schedule()
    }
  }
}
