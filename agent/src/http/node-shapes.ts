// Shapes of this host's own API under /api/v1, as JSON: what node-api answers and the command line reads. Bytes and Unix
// milliseconds unless a name says otherwise. Shapes only.
import { z } from '@hono/zod-openapi'

export const errorBody = z
  .object({
    error: z.object({ code: z.string(), message: z.string(), details: z.record(z.string(), z.unknown()) }),
  })
  .openapi('Error')

const bytes = z.number().min(0)
const time = z.number().min(0)
const counts = {
  originBytes: bytes.describe('received from the origin'),
  peerBytes: bytes.describe('received from peers'),
  diskBytes: bytes.describe('found on this disk'),
}

export const statusShape = z
  .object({
    version: z.string(),
    peerId: z.string(),
    pid: z.number(),
    http: z.string().describe('base URL'),
    p2p: z.array(z.string()).describe('multiaddrs that peers can dial'),
    startedAt: time,
    ready: z.boolean(),
    notReadyBecause: z.array(z.string()),
    storage: z.object({
      path: z.string(),
      hubCache: z.string().describe('a valid HF_HUB_CACHE'),
      usedBytes: bytes,
      limitBytes: bytes.nullable(),
      freeBytes: bytes,
      blobs: z.number(),
    }),
    hub: z.object({ upstreams: z.array(z.string()), tokenPresent: z.boolean() }),
    mesh: z.object({
      peers: z.number(),
      site: z.string().nullable(),
      rack: z.string().nullable(),
      mdns: z.boolean(),
    }),
    downloads: z.object({ running: z.number(), blobs: z.number() }),
    totals: z
      .object({ ...counts, sentToPeersBytes: bytes, sentToClientsBytes: bytes })
      .describe('since this agent started'),
  })
  .openapi('Status')
export type StatusShape = z.infer<typeof statusShape>

export const peerShape = z
  .object({
    peer: z.string(),
    addresses: z.array(z.string()),
    direction: z.enum(['inbound', 'outbound']),
    connectedSince: time,
    roundTripMs: z.number().nullable(),
    bytesReceived: bytes,
    bytesSent: bytes,
    health: z
      .object({
        at: time,
        uploadLoad: z.number(),
        cpuLoad: z.number(),
        diskFreeBytes: bytes,
        memoryFreeBytes: bytes,
        blobsHeld: z.number(),
        version: z.string(),
        site: z.string().nullable(),
        rack: z.string().nullable(),
      })
      .nullable(),
  })
  .openapi('Peer')
export const peersShape = z.object({ peers: z.array(peerShape) }).openapi('Peers')
export type PeersShape = z.infer<typeof peersShape>

const modelFields = {
  repo: z.string().describe('as a person types it: org/name, datasets/org/name, spaces/org/name'),
  kind: z.enum(['model', 'dataset', 'space']),
  access: z.enum(['public', 'gated', 'private']),
  revisions: z.array(z.object({ revision: z.string(), commit: z.string() })),
  files: z.number(),
  completeFiles: z.number(),
  sizeBytes: bytes,
  heldBytes: bytes,
}
export const modelShape = z.object(modelFields).openapi('Model')
export const modelsShape = z.object({ models: z.array(modelShape) }).openapi('Models')
export type ModelsShape = z.infer<typeof modelsShape>
export const modelDetailsShape = z
  .object({
    ...modelFields,
    commits: z.array(
      z.object({
        commit: z.string(),
        files: z.array(
          z.object({
            path: z.string(),
            sizeBytes: bytes,
            heldBytes: bytes,
            complete: z.boolean(),
            blob: z.string(),
          }),
        ),
      }),
    ),
  })
  .openapi('ModelDetails')
export type ModelDetailsShape = z.infer<typeof modelDetailsShape>
export const removedShape = z.object({ freedBytes: bytes, blobs: z.number() }).openapi('Removed')

/** Body of POST /downloads. */
export const pullRequestShape = z
  .strictObject({
    repo: z.string().max(300).describe('org/name, datasets/org/name or spaces/org/name, without a revision'),
    revision: z.string().max(255).default('main'),
    include: z
      .array(z.string().min(1).max(512))
      .max(64)
      .default([])
      .describe('glob patterns; empty: all files'),
    exclude: z.array(z.string().min(1).max(512)).max(64).default([]),
  })
  .openapi('PullRequest')

export const pullShape = z
  .object({
    id: z.string(),
    repo: z.string(),
    revision: z.string(),
    commit: z.string().nullable(),
    state: z.enum(['resolving', 'running', 'complete', 'failed', 'cancelled']),
    files: z.number(),
    filesDone: z.number(),
    totalBytes: bytes,
    doneBytes: bytes,
    ...counts,
    bytesPerSecond: bytes,
    startedAt: time,
    endedAt: time.nullable(),
    error: z.object({ code: z.string(), message: z.string() }).nullable(),
  })
  .openapi('Pull')
export type PullShape = z.infer<typeof pullShape>

export const blobProgressShape = z
  .object({
    blob: z.string(),
    repo: z.string(),
    path: z.string(),
    sizeBytes: bytes,
    heldBytes: bytes,
    ...counts,
    state: z.enum(['running', 'verifying', 'complete', 'failed', 'cancelled']),
    peers: z.number().describe('peers that hold some of it'),
    error: z.string().nullable(),
  })
  .openapi('BlobProgress')

export const downloadsShape = z
  .object({ pulls: z.array(pullShape), blobs: z.array(blobProgressShape).describe('files arriving now') })
  .openapi('Downloads')
export type DownloadsShape = z.infer<typeof downloadsShape>

/** Body of POST /verify. */
export const verifyRequestShape = z
  .strictObject({ repo: z.string().max(300).optional().describe('without it: everything kept here') })
  .openapi('VerifyRequest')
/** One line (NDJSON) for each file of POST /verify, in order; the last line is `{"done":true,…}`. */
export const verifyLineShape = z
  .object({
    repo: z.string(),
    path: z.string(),
    ok: z.boolean(),
    badChunks: z.array(z.number()),
    bytes: bytes,
  })
  .openapi('VerifyLine')
export type VerifyLineShape = z.infer<typeof verifyLineShape>
export const verifyDoneShape = z
  .object({ done: z.literal(true), files: z.number(), bad: z.number(), error: z.string().nullable() })
  .openapi('VerifyDone')
export type VerifyDoneShape = z.infer<typeof verifyDoneShape>

/** Body of POST /mesh/reload: none. Reads the mesh secret and the peers that `shoal join` wrote again and reconnects. */
export const reloadedShape = z.object({ peerId: z.string(), p2p: z.array(z.string()) }).openapi('Reloaded')
