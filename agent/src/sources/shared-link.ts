// Port: links to files at a storage host that one host of a site got from the origin and the others may use; and the check that such a
// link can lead nowhere but to the file. The check is PURE. A link is a key to the file: it is told to hosts that may read it, never
// stored, logged or gossiped.
import { blobParts } from '@shoal/protocol/ids.ts'
import { redirectTarget } from './http-facts.ts'
import type { HubFile } from './hub.ts'

export type LinkTurn =
  /** Another host asked; not checked yet. */
  | { readonly state: 'told'; readonly link: string; readonly lifeMs: number }
  /** This host is to ask, and to say what came of it: exactly one of the two, once. */
  | { readonly state: 'yours'; told(link: string, lifeMs: number): void; failed(): void }

export interface SharedLinks {
  /**
   * @param useless a link that the storage host refused
   * @throws ShoalError `aborted`, nothing else
   */
  take(file: HubFile, upstream: string, useless: string | undefined, signal: AbortSignal): Promise<LinkTurn>
}

/** The Hub's own storage hosts. Others under `hf.co` hold what people name as they like. */
const HUB_STORAGE = /^(?:[a-z0-9.-]+\.cdn|cas-bridge\.xethub|cdn-lfs(?:-[a-z0-9-]+)?)\.hf\.co$/
const HUB = /^(?:huggingface\.co|hf\.co)$/

/**
 * A link from a peer, if it can lead to nothing but this file: at a storage host of the upstream, under a path that ends in the
 * content's digest; or the upstream's own place for this file of this commit. undefined otherwise.
 * @param isKnownHost the upstream itself has led this host there before
 */
export function checkedLink(
  text: string,
  file: HubFile,
  upstream: string,
  isKnownHost: (host: string) => boolean,
): URL | undefined {
  const base = new URL(upstream)
  let link: URL
  try {
    link = redirectTarget(base, text, 0)
  } catch {
    return undefined
  }
  const names = link.pathname.split('/')
  if (link.origin === base.origin) {
    const [, api, cache] = names
    const end = `/${file.commit}/${file.entry.path.split('/').map(encodeURIComponent).join('/')}`
    return api === 'api' && cache === 'resolve-cache' && link.pathname.endsWith(end) ? link : undefined
  }
  const isStorage =
    isKnownHost(link.host) ||
    link.hostname === base.hostname ||
    (HUB.test(base.hostname) && HUB_STORAGE.test(link.hostname))
  const last = names.at(-1) ?? ''
  const { xetHash, blob } = file.entry
  const isContent = last === blobParts(blob).hex || (xetHash !== undefined && last === xetHash)
  return isStorage && isContent ? link : undefined
}
