// PURE. The Hub's routes as text: how repos, revisions and paths are spelled in its URLs (hub-protocol note 1.1, 1.2).
// Takes checked names only; every part is percent-encoded here and nowhere else.
import { type Commit, type FilePath, kindPlural, type Repo, type Revision } from '@shoal/protocol/ids.ts'

function apiRepo(repo: Repo): string {
  return `/api/${kindPlural(repo.kind)}/${repo.id}`
}

function fileRepo(repo: Repo): string {
  return repo.kind === 'model' ? `/${repo.id}` : `/${kindPlural(repo.kind)}/${repo.id}`
}

function encodedPath(path: FilePath): string {
  return path
    .split('/')
    .map((part) => encodeURIComponent(part))
    .join('/')
}

export const hubRoutes = {
  /** Repo info; `HEAD` stands for the default branch. */
  revision: (repo: Repo, revision: Revision): string =>
    revision === 'HEAD' ? apiRepo(repo) : `${apiRepo(repo)}/revision/${encodeURIComponent(revision)}`,
  tree: (repo: Repo, commit: Commit): string => `${apiRepo(repo)}/tree/${commit}?recursive=true&expand=false`,
  authCheck: (repo: Repo): string => `${apiRepo(repo)}/auth-check`,
  resolve: (repo: Repo, commit: Commit, path: FilePath): string =>
    `${fileRepo(repo)}/resolve/${commit}/${encodedPath(path)}`,
  raw: (repo: Repo, commit: Commit, path: FilePath): string =>
    `${fileRepo(repo)}/raw/${commit}/${encodedPath(path)}`,
} as const
