// One peer as a source of chunks. Adapter between the Mesh port and the ChunkSource port; proves nothing.
import type { PeerId } from '@shoal/protocol/ids.ts'
import type { ReadGrant } from '@shoal/protocol/messages.ts'
import type { Mesh } from '../net/mesh.ts'
import type { ChunkSource } from './source.ts'

/** How long a holder may wait for a chunk that it is just fetching: less than a stall. */
const HOLDER_WAIT_MS = 1_000

/** @param grant made anew when needed: what lets the peer give us files that are not public */
export function peerSource(
  mesh: Pick<Mesh, 'fetchChunk'>,
  peer: PeerId,
  grant: () => ReadGrant | undefined,
): ChunkSource {
  return {
    id: peer,
    kind: 'peer',
    fetch: (request, options) =>
      mesh.fetchChunk(peer, request, { waitMs: HOLDER_WAIT_MS, grant: grant() }, options),
  }
}
