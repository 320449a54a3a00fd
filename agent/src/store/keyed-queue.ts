// Work on the same key one after the other, work on different keys side by side. Keeps nothing once the work is done.

export interface KeyedQueue<K> {
  run<T>(key: K, work: () => Promise<T>): Promise<T>
  /** Resolves when all work given so far has ended. */
  idle(): Promise<void>
}

export function createKeyedQueue<K>(): KeyedQueue<K> {
  const tails = new Map<K, Promise<unknown>>()
  return {
    run(key, work) {
      const before = tails.get(key)
      const result = before === undefined ? work() : before.then(work)
      const tail: Promise<unknown> = result
        .catch(() => {})
        .then(() => {
          if (tails.get(key) === tail) tails.delete(key)
        })
      tails.set(key, tail)
      return result
    },
    async idle() {
      while (tails.size > 0) await Promise.all(tails.values())
    },
  }
}
