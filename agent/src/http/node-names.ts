// PURE. Repositories as this host's own API names them: as a person types them, without a revision.
import { ShoalError } from '@shoal/protocol/errors.ts'
import { parseRepoSpec, type Repo, repoLabel } from '@shoal/protocol/ids.ts'

/** @throws ShoalError `bad-request` */
export function parseRepo(text: string): Repo {
  if (text.includes('@'))
    throw new ShoalError('bad-request', 'the repository is named without a revision here')
  return parseRepoSpec(text).repo
}

/** @param encoded the rest of a path; slashes may be encoded or not. @throws ShoalError `bad-request` */
export function repoInPath(encoded: string): Repo {
  let text: string
  try {
    text = decodeURIComponent(encoded)
  } catch (cause) {
    throw new ShoalError('bad-request', 'bad percent-encoding in the path', {}, cause)
  }
  return parseRepo(text)
}

export function notKept(repo: Repo): ShoalError {
  return new ShoalError('not-found', `nothing of ${repoLabel(repo)} is kept here`)
}
