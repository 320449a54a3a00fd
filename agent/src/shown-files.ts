// Shows complete files in the Hub view, each once: under its commit, and under the name it was asked by. Remembers what is shown,
// because every read of a complete file comes by here. Moves no bytes.
import { type Commit, isCommit, repoKey } from '@shoal/protocol/ids.ts'
import type { WantedFile } from './downloads-port.ts'
import type { HubView } from './store/view.ts'

const MAX_REMEMBERED = 100_000

export class ShownFiles {
  readonly #view: Pick<HubView, 'link' | 'setRef'>
  readonly #files = new Set<string>()
  /** The commit that each name was last shown to mean. */
  readonly #refs = new Map<string, Commit>()
  /** What is being shown just now: whoever wants the same waits for it. */
  readonly #running = new Map<string, Promise<void>>()

  constructor(view: Pick<HubView, 'link' | 'setRef'>) {
    this.#view = view
  }

  /** @throws ShoalError `store-*` */
  async show({ manifest, entry, revision }: WantedFile): Promise<void> {
    const { repo, commit } = manifest
    const file = `${repoKey(repo)}\n${commit}\n${entry.path}`
    if (!this.#files.has(file)) {
      await this.#once(file, async () => {
        await this.#view.link(repo, commit, entry)
        this.#makeRoom()
        this.#files.add(file)
      })
    }
    if (revision === undefined || isCommit(revision)) return
    const ref = `${repoKey(repo)}\n${revision}`
    if (this.#refs.get(ref) === commit) return
    await this.#once(`${ref}\n${commit}\n`, async () => {
      await this.#view.setRef(repo, revision, commit)
      this.#makeRoom()
      this.#refs.set(ref, commit)
    })
  }

  /** A repo was removed: what is shown of it must be made anew. */
  forget(): void {
    this.#files.clear()
    this.#refs.clear()
  }

  #once(key: string, work: () => Promise<void>): Promise<void> {
    let running = this.#running.get(key)
    if (running === undefined) {
      running = work().finally(() => this.#running.delete(key))
      this.#running.set(key, running)
    }
    return running
  }

  #makeRoom(): void {
    if (this.#files.size + this.#refs.size >= MAX_REMEMBERED) this.forget()
  }
}
