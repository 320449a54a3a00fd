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

/**
 * The host that owns chunk `index`: highest weight, ties by name. undefined when nobody wants the blob.
 * The order of `hosts` does not matter.
 */
export function ownerOf(index: number, hosts: readonly ShareSeed[]): string | undefined {
  let owner: string | undefined
  let best = -1
  for (const { host, seed } of hosts) {
    const weight = shareWeight(seed, index)
    if (weight > best || (weight === best && owner !== undefined && host < owner)) {
      best = weight
      owner = host
    }
  }
  return owner
}

function fnv1a(text: string): number {
  let hash = 0x811c9dc5
  for (let index = 0; index < text.length; index++) {
    hash = Math.imul(hash ^ text.charCodeAt(index), 0x01000193)
  }
  return hash >>> 0
}
