// The one way from a name to a manifest in http/: resolved for the caller, and only if the caller may read it. Decided on
// (caller, repo, revision), never on a digest, and before anything about a file is said, even that it does not exist.
import type { Repo, Revision } from '@shoal/protocol/ids.ts'
import type { Manifest } from '@shoal/protocol/manifest.ts'
import type { Catalog } from '../catalog-port.ts'
import type { HubCall } from './answer.ts'

/** @throws ShoalError as Catalog `manifest` and `checkAccess` */
export async function readableManifest(
  call: Pick<HubCall, 'caller' | 'signal'>,
  repo: Repo,
  revision: Revision,
  catalog: Pick<Catalog, 'manifest' | 'checkAccess'>,
): Promise<Manifest> {
  const manifest = await catalog.manifest(repo, revision, call.caller, call.signal)
  await catalog.checkAccess(manifest, call.caller, call.signal)
  return manifest
}
