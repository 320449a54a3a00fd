// PURE. What can be said of a repo's refs and history when the Hub cannot be asked: what this host has seen, in the Hub's words.
import { isCommit, type Revision } from '@shoal/protocol/ids.ts'
import type { Manifest } from '@shoal/protocol/manifest.ts'
import type { Resolved } from '../catalog-port.ts'
import { headCommit } from './hub-tree.ts'

interface GitRef {
  readonly name: string
  readonly ref: string
  readonly targetCommit: string
}

/** Branch or tag cannot be told apart from a name alone: all plain names are given as branches. */
export function knownRefs(refs: ReadonlyMap<Revision, Resolved>, includePullRequests: boolean) {
  const branches: GitRef[] = []
  const converts: GitRef[] = []
  const pullRequests: GitRef[] = []
  for (const [revision, { commit }] of refs) {
    if (isCommit(revision) || revision === 'HEAD') continue
    const [, group, ...rest] = revision.split('/')
    const isRef = revision.startsWith('refs/')
    const name = isRef ? rest.join('/') : revision
    const ref = { name, ref: isRef ? revision : `refs/heads/${revision}`, targetCommit: commit }
    if (!isRef) branches.push(ref)
    else if (group === 'convert') converts.push(ref)
    else if (group === 'pr') pullRequests.push(ref)
  }
  return { branches, converts, tags: [], ...(includePullRequests ? { pullRequests } : {}) }
}

/** The one commit we can vouch for. */
export function knownCommits(manifest: Manifest) {
  const { id, date } = headCommit(manifest)
  return [{ id, authors: [], date, title: 'last commit known here; the Hub could not be asked', message: '' }]
}
