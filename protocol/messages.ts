// What hosts say to each other: stream frames and gossip. Every message is CBOR with a strict schema and a size limit;
// the protocol id carries the version. Decoding is the only way in, and it throws `bad-message`.
import { decode as cborDecode, encode as cborEncode } from 'cborg'
import { z } from 'zod'
import { MAX_CHUNK_BYTES, MAX_CHUNKS } from './chunks.ts'
import { ShoalError } from './errors.ts'
import { type BlobId, parseBlobId } from './ids.ts'

export const CHUNK_PROTOCOL = '/shoal/chunk/1.0.0'
export const HAVE_PROTOCOL = '/shoal/have/1.0.0'
export const MANIFEST_PROTOCOL = '/shoal/manifest/1.0.0'
export const TELL_PROTOCOL = '/shoal/tell/1.0.0'
export const TURN_PROTOCOL = '/shoal/turn/1.0.0'
export const GOSSIP_HAVE_TOPIC = 'shoal/have/1'
export const GOSSIP_HEALTH_TOPIC = 'shoal/health/1'
export const GOSSIP_ORIGIN_TOPIC = 'shoal/origin/1'

/** Largest encoded form of each message, in bytes. A longer frame ends the stream before it is buffered. */
export const LIMITS = {
  chunkRequest: 1024,
  chunkHeader: 512,
  haveAsk: 512,
  haveAnswer: 384 * 1024,
  manifestAsk: 2048,
  manifestAnswer: 16 * 1024 * 1024,
  tell: 16 * 1024,
  tellAnswer: 16,
  turnAsk: 9 * 1024,
  turnAnswer: 9 * 1024,
  gossip: 16 * 1024,
  gossipOrigin: 2048,
} as const

/** Gossip older than its own expiry, or stamped further than this from our clock, is refused. */
export const GOSSIP_MAX_LIFETIME_MS = 30 * 60_000
export const CLOCK_TOLERANCE_MS = 15 * 60_000

const blob = z.string().transform((text, context): BlobId => {
  try {
    return parseBlobId(text)
  } catch {
    context.addIssue({ code: 'custom', message: 'not a blob id' })
    return z.NEVER
  }
})
const bytes = (length: number) =>
  z.custom<Uint8Array>((value) => value instanceof Uint8Array && value.byteLength === length)
const bytesUpTo = (length: number) =>
  z.custom<Uint8Array>((value) => value instanceof Uint8Array && value.byteLength <= length)
const geometry = z.string().max(64)
const index = z
  .int()
  .min(0)
  .max(MAX_CHUNKS - 1)

/** Who says what a chunk's bytes are: a BLAKE3 digest signed with the host key of whoever got it from the origin. */
export const voucherSchema = z.strictObject({ digest: bytes(32), author: bytes(32), signature: bytes(64) })
export type ChunkVoucher = z.infer<typeof voucherSchema>

/**
 * Proof that the asker's own token passed the Hub's gate for a repo at a commit: signed by the asking host, bound to it,
 * short-lived. `expires` is Unix time in milliseconds.
 */
export const grantSchema = z.strictObject({
  repo: z.string().max(210),
  commit: z.string().length(40),
  expires: z.int().min(0),
  signature: bytes(64),
})
export type ReadGrant = z.infer<typeof grantSchema>

export const chunkRequestSchema = z.strictObject({
  blob,
  geometry,
  index,
  /** How long the holder may wait for a chunk that it is fetching itself, in milliseconds. */
  waitMs: z.int().min(0).max(10_000),
  grant: grantSchema.optional(),
})
export type ChunkRequestMessage = z.infer<typeof chunkRequestSchema>

const lineLength = z.int().min(0).max(65_535)

/** `ok` is followed by exactly `length` bytes; every other status by none. */
export const chunkHeaderSchema = z.strictObject({
  status: z.enum(['ok', 'lacks', 'busy', 'later', 'refused', 'bad']),
  length: z.int().min(0).max(MAX_CHUNK_BYTES),
  voucher: voucherSchema.optional(),
  /** Requests that this host serves or that wait here: the asker chooses among holders by it. */
  line: lineLength.optional(),
})
export type ChunkHeader = z.infer<typeof chunkHeaderSchema>

/**
 * "What do you hold of this blob?"; `want` tells that the asker is fetching it from now on, `subscribe` that it wishes to be
 * told what the other stores from now on. Left out rather than false: hosts that do not know `subscribe` refuse it.
 */
export const haveAskSchema = z.strictObject({
  blob,
  geometry,
  want: z.boolean(),
  subscribe: z.boolean().optional(),
  grant: grantSchema.optional(),
})
export type HaveAsk = z.infer<typeof haveAskSchema>

export const haveAnswerSchema = z.strictObject({
  state: z.enum(['complete', 'partial', 'none']),
  /** The answering host is fetching the blob too. */
  wanting: z.boolean(),
  /** Chunks held, as `ChunkMap.encode`; only with `partial`. */
  held: bytesUpTo(Math.ceil(MAX_CHUNKS / 8)).optional(),
  /** Chunks it is fetching from the origin right now. */
  claimed: z.array(index).max(256),
  /** The asker is told of what this host gains from now on. */
  subscribed: z.boolean().optional(),
})
export type HaveAnswer = z.infer<typeof haveAnswerSchema>

export const manifestAskSchema = z.strictObject({
  repo: z.string().max(210),
  revision: z.string().max(255),
  grant: grantSchema.optional(),
})
export type ManifestAsk = z.infer<typeof manifestAskSchema>

/** `commit` is what `revision` resolved to at `resolvedAt`; `manifest` is JSON text, read with `manifestSchema`. */
export const manifestAnswerSchema = z.strictObject({
  found: z.boolean(),
  commit: z.string().max(40).optional(),
  resolvedAt: z.number().optional(),
  manifest: z.string().max(LIMITS.manifestAnswer).optional(),
})
export type ManifestAnswer = z.infer<typeof manifestAnswerSchema>

/** Runs of chunks: index of the first, and how many. */
const runs = z.array(z.tuple([index, z.int().min(1).max(MAX_CHUNKS)])).max(512)
const blobState = z.enum(['wanting', 'complete', 'gone'])

/**
 * What a host says to one peer: chunks stored since it last told that peer, and chunks it is fetching from the origin right
 * now. A hint, as gossip is.
 */
export const tellSchema = z.strictObject({
  blobs: z
    .array(
      z.strictObject({
        blob,
        geometry,
        state: blobState,
        gained: runs,
        claimed: z.array(index).max(256).optional(),
      }),
    )
    .max(16),
  /** As in a chunk's header. */
  line: lineLength.optional(),
})
export type Tell = z.infer<typeof tellSchema>

/** `ok: false`: none of these blobs is of interest (any more); the teller should stop. */
export const tellAnswerSchema = z.strictObject({ ok: z.boolean() })

/** What one host found out and others are told: a link, or a fact as JSON. */
const turnValue = z.string().max(8 * 1024)
const turnLifeMs = z
  .int()
  .min(0)
  .max(24 * 3_600_000)

/**
 * To the keeper of a subject: `want`: has anybody asked the origin about it, or may I? `told`: this is what it said.
 * `failed`: I got nothing; somebody else may ask. `useless` is a digest of a value that did not serve.
 */
export const turnAskSchema = z.strictObject({
  subject: bytes(16),
  state: z.enum(['want', 'told', 'failed']),
  value: turnValue.optional(),
  lifeMs: turnLifeMs.optional(),
  useless: bytes(8).optional(),
})
export type TurnAsk = z.infer<typeof turnAskSchema>

/** `yours`: ask the origin. `told`: `from` found it out. `wait`: somebody has been asking for too long to wait here. */
export const turnAnswerSchema = z.strictObject({
  turn: z.enum(['yours', 'told', 'wait', 'noted']),
  value: turnValue.optional(),
  lifeMs: turnLifeMs.optional(),
  from: z.string().max(128).optional(),
})
export type TurnAnswer = z.infer<typeof turnAnswerSchema>

const envelope = {
  /** Grows with every message of an author on a topic: what is not newer than the last one seen is a replay. */
  sequence: z.int().min(1),
  /** Unix times in milliseconds. */
  at: z.int().min(0),
  expires: z.int().min(0),
}

/** Announces what the author holds or is fetching. `gained`: runs `[first, length]` of chunks stored since the last. */
export const gossipHaveSchema = z.strictObject({
  ...envelope,
  blobs: z
    .array(
      z.strictObject({
        blob,
        geometry,
        state: blobState,
        gained: runs,
      }),
    )
    .max(64),
})
export type GossipHave = z.infer<typeof gossipHaveSchema>

export const gossipHealthSchema = z.strictObject({
  ...envelope,
  /** Share of the upload slots in use, 0 to 1. */
  uploadLoad: z.number().min(0).max(1),
  /** System load average over one minute divided by cores. */
  cpuLoad: z.number().min(0),
  diskFreeBytes: z.number().min(0),
  memoryFreeBytes: z.number().min(0),
  blobsHeld: z.int().min(0),
  version: z.string().max(32),
  site: z.string().max(64).optional(),
  rack: z.string().max(64).optional(),
})
export type GossipHealth = z.infer<typeof gossipHealthSchema>

/** Most words of one message, and the longest time in one. */
export const MAX_BUDGET_WORDS = 16
const wordMs = z
  .int()
  .min(0)
  .max(24 * 3_600_000)

/**
 * What an origin told the author: what is left of the budgets it asks under, and whether it was refused. `budget` is a digest of
 * whom the origin counts. Times are milliseconds from when it was sent.
 */
export const gossipOriginSchema = z.strictObject({
  ...envelope,
  budgets: z
    .array(
      z.strictObject({
        budget: bytes(8),
        bucket: z.enum(['api', 'resolvers', 'content']),
        remaining: z.int().min(0).optional(),
        resetMs: wordMs.optional(),
        blockedMs: wordMs.optional(),
      }),
    )
    .max(MAX_BUDGET_WORDS),
})
export type GossipOrigin = z.infer<typeof gossipOriginSchema>

const cborOptions = { rejectDuplicateMapKeys: true, allowIndefinite: false, allowUndefined: false } as const

/**
 * Encodes a message. Keys whose value is undefined are left out.
 * @param limitBytes one of {@link LIMITS}; more is a programming error on our side
 */
export function encodeMessage(message: object, limitBytes: number): Uint8Array {
  const encoded = cborEncode(dropUndefined(message))
  if (encoded.byteLength > limitBytes) {
    throw new ShoalError(
      'too-large',
      `a message of ${encoded.byteLength} bytes is over its limit of ${limitBytes}`,
    )
  }
  return encoded
}

/**
 * Decodes what a stranger sent: size first, then strict CBOR, then the schema (unknown fields are refused).
 * @throws ShoalError `bad-message`
 */
export function decodeMessage<T>(schema: z.ZodType<T>, encoded: Uint8Array, limitBytes: number): T {
  if (encoded.byteLength > limitBytes) {
    throw new ShoalError(
      'bad-message',
      `a message of ${encoded.byteLength} bytes is over its limit of ${limitBytes}`,
    )
  }
  let value: unknown
  try {
    value = cborDecode(encoded, cborOptions)
  } catch (error) {
    throw new ShoalError('bad-message', 'not a CBOR message', {}, error)
  }
  const parsed = schema.safeParse(value)
  if (!parsed.success) {
    const issue = parsed.error.issues[0]
    throw new ShoalError(
      'bad-message',
      `bad message: ${issue?.path.join('.') ?? ''} ${issue?.message ?? ''}`.trim(),
    )
  }
  return parsed.data
}

function dropUndefined(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(dropUndefined)
  if (value === null || typeof value !== 'object' || value instanceof Uint8Array) return value
  const entries = Object.entries(value).filter(([, inner]) => inner !== undefined)
  return Object.fromEntries(entries.map(([key, inner]) => [key, dropUndefined(inner)]))
}

/** What a voucher's signature covers. */
export function voucherStatement(
  blobId: BlobId,
  geometryText: string,
  chunkIndex: number,
  digest: Uint8Array,
): Uint8Array {
  return Buffer.concat([Buffer.from(`shoal-chunk-1\n${blobId}\n${geometryText}\n${chunkIndex}\n`), digest])
}

/** What a grant's signature covers; `peer` is the id of the host that asks. */
export function grantStatement(peer: string, grant: Omit<ReadGrant, 'signature'>): Uint8Array {
  return Buffer.from(`shoal-grant-1\n${peer}\n${grant.repo}\n${grant.commit}\n${grant.expires}\n`)
}
