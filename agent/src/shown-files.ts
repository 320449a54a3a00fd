// Shows complete files in the Hub view, each once: under its commit, and under the name it was asked by. Remembers what is shown,
// because every read of a complete file comes by here. Moves no bytes.
import { isCommit, repoKey } from '@shoal/protocol/ids.ts'
import type { WantedFile } from './downloads-port.ts'
import type { HubView } from './store/view.ts'

const MAX_REMEMBERED = 100_000

export class ShownFiles {
  readonly #view: Pick<HubView, 'link' | 'setRef'>
  readonly #shown = new Set<string>()

  constructor(view: Pick<HubView, 'link' | 'setRef'>) {
    this.#view = view
  }

  /** @throws ShoalError `store-*` */
  async show({ manifest, entry, revision }: WantedFile): Promise<void> {
    const { repo, commit } = manifest
    const file = `${repoKey(repo)}\n${commit}\n${entry.path}`
    if (!this.#shown.has(file)) {
      await this.#view.link(repo, commit, entry)
      this.#remember(file)
    }
    if (revision === undefined || isCommit(revision)) return
    const ref = `${repoKey(repo)}\n${revision}\n${commit}\n`
    if (this.#shown.has(ref)) return
    await this.#view.setRef(repo, revision, commit)
    this.#remember(ref)
  }

  /** A repo was removed: what is shown of it must be made anew. */
  forget(): void {
    this.#shown.clear()
  }

  #remember(key: string): void {
    if (this.#shown.size >= MAX_REMEMBERED) this.#shown.clear()
    this.#shown.add(key)
  }
}
