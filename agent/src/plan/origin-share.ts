// PURE. Who may ask the origin for a chunk: among the hosts that want the blob now, rendezvous hashing gives every chunk
// one owner, without a coordinator and without messages (Thaler & Ravishankar 1998, "highest random weight").
// When a host joins or leaves, only the chunks it gains or held change owner.

/** A host's part in the hash for one blob: computed once, used for every chunk. */
export interface ShareSeed {
  readonly host: string
  readonly seed: number
}

/** @param blob blob id; @param host peer id. Same inputs give the same seed on every host. */
export function shareSeed(blob: string, host: string): ShareSeed {
  return { host, seed: fnv1a(`${blob}\n${host}`) }
}

/** Weight of a host for a chunk: uniform in 32 bits. */
export function shareWeight(seed: number, index: number): number {
  let mixed = (seed ^ Math.imul(index + 1, 0x9e3779b1)) >>> 0
  mixed = Math.imul(mixed ^ (mixed >>> 16), 0x85ebca6b)
  mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2ae35)
  return (mixed ^ (mixed >>> 16)) >>> 0
}

/** The host that owns chunk `index`: highest weight, ties by name; undefined when nobody wants the blob. Order does not matter. */
export function ownerOf(index: number, hosts: Iterable<ShareSeed>): string | undefined {
  let owner: string | undefined
  let best = -1
  for (const { host, seed } of hosts) {
    const weight = shareWeight(seed, index)
    if (weight < best || (weight === best && host > (owner ?? ''))) continue
    best = weight
    owner = host
  }
  return owner
}

/** Mark of an heir not worked out yet. */
const UNKNOWN = -2

/** The owner of every chunk among hosts that come and go, kept up to date at the cost of one pass a change. */
export class OwnerTable {
  readonly #chunkCount: number
  readonly #slots: (ShareSeed | undefined)[] = []
  readonly #slotOf = new Map<string, number>()
  readonly #owner: Int32Array
  readonly #weight: Uint32Array
  /** Slot of the next in order; worked out when asked for. */
  readonly #heir: Int32Array
  #lists: Map<number, number[]> | undefined

  constructor(chunkCount: number) {
    this.#chunkCount = chunkCount
    this.#owner = new Int32Array(chunkCount).fill(-1)
    this.#weight = new Uint32Array(chunkCount)
    this.#heir = new Int32Array(chunkCount).fill(UNKNOWN)
  }

  has(host: string): boolean {
    return this.#slotOf.has(host)
  }

  hosts(): Iterable<string> {
    return this.#slotOf.keys()
  }

  add(seed: ShareSeed): void {
    if (this.has(seed.host)) return
    const free = this.#slots.indexOf(undefined)
    const slot = free === -1 ? this.#slots.length : free
    this.#slots[slot] = seed
    this.#slotOf.set(seed.host, slot)
    for (let index = 0; index < this.#chunkCount; index++) this.#offer(index, slot, seed)
    this.#changed()
  }

  remove(host: string): void {
    const gone = this.#slotOf.get(host)
    if (gone === undefined) return
    this.#slots[gone] = undefined
    this.#slotOf.delete(host)
    for (let index = 0; index < this.#chunkCount; index++) {
      if (this.#owner[index] !== gone) continue
      this.#owner[index] = -1
      for (const [slot, seed] of this.#slots.entries()) if (seed !== undefined) this.#offer(index, slot, seed)
    }
    this.#changed()
  }

  owner(index: number): string | undefined {
    return this.#slots[this.#owner[index] ?? -1]?.host
  }

  /** Who would own the chunk without its owner. */
  heir(index: number): string | undefined {
    let slot = this.#heir[index] ?? UNKNOWN
    if (slot === UNKNOWN) {
      const owner = this.owner(index)
      const others = this.#slots.filter(
        (seed): seed is ShareSeed => seed !== undefined && seed.host !== owner,
      )
      slot = this.#slotOf.get(ownerOf(index, others) ?? '') ?? -1
      this.#heir[index] = slot
    }
    return this.#slots[slot]?.host
  }

  /** Who would own the chunk if only hosts that `lacks` says yes to were asked. */
  ownerAmong(index: number, lacks: (host: string) => boolean): string | undefined {
    return ownerOf(
      index,
      this.#slots.filter((seed): seed is ShareSeed => seed !== undefined && lacks(seed.host)),
    )
  }

  /** A host's chunks, lowest first. Another array after every change of hosts. */
  chunksOf(host: string): readonly number[] {
    const slot = this.#slotOf.get(host)
    if (slot === undefined) return []
    this.#lists ??= this.#sorted()
    return this.#lists.get(slot) ?? []
  }

  #offer(index: number, slot: number, { host, seed }: ShareSeed): void {
    const weight = shareWeight(seed, index)
    const best = this.#weight[index] ?? 0
    const owner = this.owner(index)
    if (owner !== undefined && (weight < best || (weight === best && host > owner))) return
    this.#owner[index] = slot
    this.#weight[index] = weight
  }

  #changed(): void {
    this.#lists = undefined
    this.#heir.fill(UNKNOWN)
  }

  #sorted(): Map<number, number[]> {
    const lists = new Map<number, number[]>()
    for (let index = 0; index < this.#chunkCount; index++) {
      const slot = this.#owner[index] ?? -1
      const list = lists.get(slot)
      if (list === undefined) lists.set(slot, [index])
      else list.push(index)
    }
    return lists
  }
}

function fnv1a(text: string): number {
  let hash = 0x811c9dc5
  for (let index = 0; index < text.length; index++) {
    hash = Math.imul(hash ^ text.charCodeAt(index), 0x01000193)
  }
  return hash >>> 0
}
