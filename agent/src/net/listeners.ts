// Who is told what happens in the mesh. A listener that throws is a bug of its own: it must not reach libp2p, nor the others.
import type { MeshListener } from './mesh.ts'

export class Listeners {
  readonly #listeners = new Set<MeshListener>()
  readonly #onFailure: (name: string, error: unknown) => void

  constructor(onFailure: (name: string, error: unknown) => void) {
    this.#onFailure = onFailure
  }

  /** @returns ends it */
  add(listener: MeshListener): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  tell(say: (listener: MeshListener) => void): void {
    for (const listener of this.#listeners) {
      try {
        say(listener)
      } catch (error) {
        this.#onFailure('mesh listener', error)
      }
    }
  }
}
