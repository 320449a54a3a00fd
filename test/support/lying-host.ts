// Real mesh hosts that hold a file of the local Hub, or say so: each answers requests for chunks as the test tells it to, and counts
// what it was asked. Their mesh is that of the agent processes.
import { type HostIdentity, newIdentity } from '@shoal/agent/net/identity.ts'
import type { ChunkReply, MeshHandlers } from '@shoal/agent/net/mesh.ts'
import { MeshSecret } from '@shoal/agent/net/mesh-secret.ts'
import type { ChunkPlace } from '@shoal/agent/vouchers.ts'
import { parseGeometry } from '@shoal/protocol/chunks.ts'
import { type BlobId, type PeerId, parseBlobId } from '@shoal/protocol/ids.ts'
import { MESH_SECRET } from './agent-process.ts'
import { readAll, seededContent } from './local-hub/content.ts'
import { addressOf, type TestHosts } from './mesh-host.ts'
import { blobDigestOf, flipped, vouchersOf } from './transfer-world.ts'

export interface HeldFile {
  readonly blob: BlobId
  readonly bytes: Uint8Array
}

/** The file that the local Hub makes of the same seed. */
export async function seededFile(seed: string, sizeBytes: number): Promise<HeldFile> {
  const bytes = await readAll(seededContent(seed, sizeBytes))
  return { blob: parseBlobId(`sha256:${blobDigestOf(bytes)}`), bytes }
}

export interface ChunkCall {
  readonly place: ChunkPlace
  /** What the chunk is. */
  readonly right: Uint8Array
  readonly self: HostIdentity
  readonly signal: AbortSignal
}

export type HostManner = (call: ChunkCall) => Promise<ChunkReply> | ChunkReply

export interface MeshHolder {
  readonly peer: PeerId
  readonly identity: HostIdentity
  readonly address: string
  /** Chunks asked of it. */
  readonly asked: number[]
}

/** A host that says that it holds all of `files`. */
export async function meshHolder(
  hosts: TestHosts,
  files: readonly HeldFile[],
  manner: HostManner,
): Promise<MeshHolder> {
  const identity = newIdentity()
  const asked: number[] = []
  const handlers: Partial<MeshHandlers> = {
    async have(_peer, { blob }) {
      const state = files.some((file) => file.blob === blob) ? 'complete' : 'none'
      return { state, wanting: false, claimed: [] }
    },
    async chunk(_peer, { blob, geometry: text, index }, signal) {
      const file = files.find((one) => one.blob === blob)
      if (file === undefined) return { status: 'lacks' }
      asked.push(index)
      const geometry = parseGeometry(text)
      const { start, end } = geometry.range(index)
      return manner({
        place: { blob, geometry, index },
        right: file.bytes.subarray(start, end),
        self: identity,
        signal,
      })
    },
  }
  const node = await hosts.start({ secret: async () => MeshSecret.parse(MESH_SECRET) }, handlers, identity)
  return { peer: node.self, identity, address: addressOf(node), asked }
}

export const honestHost: HostManner = ({ place, right, self }) => ({
  status: 'ok',
  bytes: right,
  voucher: vouchersOf(self).make(place, right),
})

/** Wrong bytes, vouched for by itself: only the digest of the whole tells. */
export const selfVouchedLie: HostManner = ({ place, right, self }) => {
  const bytes = flipped(right)
  return { status: 'ok', bytes, voucher: vouchersOf(self).make(place, bytes) }
}

/** Wrong bytes with the voucher that an honest host made for the right ones. */
export function borrowedVoucher(author: () => HostIdentity): HostManner {
  return ({ place, right }) => ({
    status: 'ok',
    bytes: flipped(right),
    voucher: vouchersOf(author()).make(place, right),
  })
}

export const shortBody: HostManner = ({ place, right, self }) => ({
  status: 'ok',
  bytes: right.subarray(0, right.byteLength - 1),
  voucher: vouchersOf(self).make(place, right),
})

export const silentHost: HostManner = ({ signal }) =>
  new Promise((_resolve, reject) =>
    signal.addEventListener('abort', () => reject(signal.reason), { once: true }),
  )

export const falseHave: HostManner = () => ({ status: 'lacks' })
