// Shapes of this host's own API under /api/v1, as JSON: what node-api answers and the command line reads. Bytes and Unix
// milliseconds unless a name says otherwise. Shapes only.
import { z } from '@hono/zod-openapi'
import { LEAST_BYTES_PER_SECOND, MOST_BYTES_PER_SECOND } from '../limits-port.ts'
import { PRIORITIES } from '../plan/download-queue.ts'

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

const pool = z.object({ usedBytes: bytes, limitBytes: bytes })

const monthShape = z
  .object({
    month: z.string().describe('calendar month of this host, as in 2026-03'),
    usedBytes: bytes,
    capBytes: bytes.nullable().describe('null: no cap'),
    usedShare: z.number().min(0).describe('1: used up, peers go on; 0 without a cap'),
    endsAt: time,
  })
  .describe('bytes of files from the origin this month')
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
    memory: z
      .object({
        limitBytes: bytes,
        limitFrom: z.enum(['settings', 'container', 'host']),
        usedBytes: bytes.describe('of the process'),
        arriving: pool.describe('chunks on their way'),
        reading: pool.describe('files on their way from disk to clients'),
        isShort: z.boolean().describe('above gc_threshold: buffers are held back'),
      })
      .describe('what the agent is to stay below, and what its buffers use of it'),
    hub: z.object({ upstreams: z.array(z.string()), tokenPresent: z.boolean() }),
    mesh: z.object({
      peers: z.number(),
      site: z.string().nullable(),
      rack: z.string().nullable(),
      mdns: z.boolean(),
    }),
    downloads: z.object({ running: z.number(), blobs: z.number() }),
    originMonth: monthShape,
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
    priority: z
      .enum(['pull', 'preheat', 'repair'])
      .default('pull')
      .describe('pulls go before preheats, preheats before repairs, and clients that wait before all'),
    plan: z.boolean().default(false).describe('ask peers at the start what they hold, for `planned`'),
  })
  .openapi('PullRequest')

const rate = z.number().min(0).nullable().describe('bytes a second; null: no limit')
const milliseconds = z.number().min(0)
export const planShape = z
  .object({
    files: z.number(),
    filesHere: z.number().describe('complete on this host'),
    totalBytes: bytes,
    bytes: z
      .object({ disk: bytes, near: bytes, far: bytes, origin: bytes })
      .describe('where they would come from: this disk, peers of this site, other peers, the origin'),
    notAskedBytes: bytes.describe('of the origin: peers were not asked about these'),
    peersAsked: z.number(),
    timeMs: milliseconds.nullable().describe('null: not known'),
    timeUnknownBecause: z.string().nullable(),
    disk: z.object({
      neededBytes: bytes,
      freeBytes: bytes.describe('for this agent, beyond what is promised to files that arrive'),
      limitBytes: bytes.nullable(),
      missingBytes: bytes.describe('0: it fits'),
    }),
    evicted: z.array(z.string()).describe('blobs that would be removed to make room: none in this version'),
  })
  .openapi('Plan')
export type PlanShape = z.infer<typeof planShape>
/** Answer of GET /plan. */
export const pullPlanShape = planShape
  .extend({
    repo: z.string(),
    revision: z.string(),
    commit: z.string(),
    quota: z
      .array(z.object({ bucket: z.string(), remaining: z.number(), seenAt: time }))
      .describe('requests that the origin still allows, as it last said; empty: it has not said'),
  })
  .openapi('PullPlan')
export type PullPlanShape = z.infer<typeof pullPlanShape>

export const efficiencyShape = z
  .object({
    actualMs: milliseconds.describe('without pauses and waiting for a turn'),
    boundMs: milliseconds.describe('no shorter time was possible'),
    efficiency: z.number().min(0).max(1),
    lostMs: z
      .object({
        origin: milliseconds,
        peers: milliseconds,
        stall: milliseconds,
        verification: milliseconds,
        disk: milliseconds,
      })
      .describe('where the difference went'),
  })
  .openapi('Efficiency')

/** Bodies of PUT and PATCH /limits, and the answer. */
const limitNumber = z.number().min(LEAST_BYTES_PER_SECOND).max(MOST_BYTES_PER_SECOND).nullable()
export const limitsChangeShape = z
  .strictObject({
    upBytesPerSecond: z
      .union([z.literal(0), limitNumber])
      .describe('to all peers; 0: give peers nothing; null: no limit'),
    upPerPeerBytesPerSecond: limitNumber.describe('to one peer'),
    downBytesPerSecond: limitNumber.describe('from peers and the origin'),
    originBytesPerSecond: limitNumber.describe('from the origin'),
    perDownloadBytesPerSecond: limitNumber.describe('of one file that is downloaded'),
    background: z.boolean().describe('take and give only what other traffic leaves of the links'),
  })
  .partial()
  .openapi('LimitsChange')
export type LimitsChangeShape = z.infer<typeof limitsChangeShape>
const inForceShape = z
  .object({ bytesPerSecond: rate, because: z.enum(['set', 'hours', 'load', 'background', 'none']) })
  .describe('the lowest of what was set and what the hour, the load and background mode ask for')
export const limitsShape = z
  .object({
    upBytesPerSecond: rate,
    upPerPeerBytesPerSecond: rate,
    downBytesPerSecond: rate,
    originBytesPerSecond: rate,
    perDownloadBytesPerSecond: rate,
    givesToPeers: z.boolean(),
    inForce: z.object({ up: inForceShape, down: inForceShape, origin: inForceShape }),
    hours: z
      .object({
        now: z.enum(['business', 'off']),
        bytesPerSecond: rate,
        next: z.object({ at: time, bytesPerSecond: rate }).nullable().describe('null: it stays'),
      })
      .nullable()
      .describe('null: no hours are set'),
    load: z
      .object({
        foreignLoad: z
          .number()
          .nullable()
          .describe('work of other programs for each processor; null: not measured yet'),
        reduces: z.boolean(),
      })
      .nullable()
      .describe('null: load is not looked at'),
    background: z.object({
      enabled: z.boolean(),
      queueMs: z
        .number()
        .nullable()
        .describe('how long packets wait before the link; null: not measured now'),
    }),
    month: monthShape,
  })
  .openapi('Limits')
export type LimitsShape = z.infer<typeof limitsShape>

/** Body of POST /downloads/order. */
export const orderShape = z
  .strictObject({
    ids: z.array(z.string().min(1).max(128)).min(1).max(1_000).describe('in the order they are to have'),
    to: z
      .union([z.enum(['first', 'last']), z.int().min(1).max(1_000_000)])
      .describe('first, last, or a place of the list, from 1; a class always goes before the next'),
  })
  .openapi('Order')

const priority = z.enum(PRIORITIES)
export const pullShape = z
  .object({
    id: z.string(),
    repo: z.string(),
    revision: z.string(),
    commit: z.string().nullable(),
    state: z.enum(['resolving', 'queued', 'running', 'paused', 'complete', 'failed', 'cancelled']),
    priority,
    place: z.number().nullable().describe('among the pulls that have not ended, from 1'),
    peers: z.number().describe('peers that hold some of what is arriving now'),
    files: z.number(),
    filesDone: z.number(),
    totalBytes: bytes,
    doneBytes: bytes,
    ...counts,
    bytesPerSecond: bytes,
    startedAt: time,
    endedAt: time.nullable(),
    planned: planShape.nullable().describe('what it was going to do, when that was asked for'),
    efficiency: efficiencyShape.nullable(),
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
    bytesPerSecond: bytes,
    priority: priority.nullable().describe('the highest of those that want it; null: nobody does just now'),
    state: z.enum(['running', 'verifying', 'paused', 'complete', 'failed', 'cancelled']),
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
