// Records that teach the read rights what they hold: which repos a blob belongs to and who may read them, now and from now on.
import type { Repo } from '@shoal/protocol/ids.ts'
import type { ReadRights } from './read-rights.ts'
import type { Records } from './store/records.ts'

/** Records that teach the read rights what they hold, now and from now on. */
export async function learningRecords(records: Records, rights: ReadRights): Promise<Records> {
  const known = new Map<string, Repo>()
  for await (const manifest of records.manifests()) {
    rights.learn(manifest)
    known.set(`${manifest.repo.kind}\n${manifest.repo.id}`, manifest.repo)
  }
  for (const repo of known.values()) {
    const access = await records.access(repo)
    if (access !== undefined) rights.setAccess(repo, access)
  }
  return {
    name: records.name,
    start: () => records.start(),
    stop: () => records.stop(),
    manifest: (repo, commit) => records.manifest(repo, commit),
    manifests: () => records.manifests(),
    putRef: (repo, revision, record) => records.putRef(repo, revision, record),
    refs: (repo) => records.refs(repo),
    access: (repo) => records.access(repo),
    putManifest: async (manifest) => {
      rights.learn(manifest)
      await records.putManifest(manifest)
    },
    putAccess: async (repo, access) => {
      rights.setAccess(repo, access)
      await records.putAccess(repo, access)
    },
    forget: async (repo) => {
      rights.forget(repo)
      await records.forget(repo)
    },
  }
}
