// Who wants a blob that is arriving, and how much of it: readers, pulls and the like, and those that are paused. Counts only.
import { highest, type Priority } from './plan/download-queue.ts'

export type BlobUse =
  /** A client reads it, perhaps all of it. */
  | { readonly kind: 'read'; whole: boolean }
  /** Every chunk is wanted on this host. */
  | { readonly kind: 'fetch'; readonly priority: Priority }
  /** What has arrived is to stay within reach; nothing more is wanted. */
  | { readonly kind: 'hold' }

export class BlobUses {
  readonly #uses = new Set<BlobUse>()

  get count(): number {
    return this.#uses.size
  }

  /** Of the highest of them; undefined: nobody wants a byte just now. */
  get priority(): Priority | undefined {
    const priorities: Priority[] = []
    for (const use of this.#uses) {
      if (use.kind === 'read') priorities.push('reader')
      if (use.kind === 'fetch') priorities.push(use.priority)
    }
    return highest(priorities)
  }

  /** Some want to keep it, and none of them wants all of it now. */
  get isPaused(): boolean {
    let held = false
    for (const use of this.#uses) {
      if (use.kind === 'fetch' || (use.kind === 'read' && use.whole)) return false
      held ||= use.kind === 'hold'
    }
    return held
  }

  add(use: BlobUse): void {
    this.#uses.add(use)
  }

  /** False when it was not there (any more). */
  delete(use: BlobUse): boolean {
    return this.#uses.delete(use)
  }
}
