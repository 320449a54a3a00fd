// What this host answers when peers ask: chunks, what it holds, manifests. Every answer first asks read-rights. Never sends
// bytes that do not match their voucher: a rotten disk must not make an honest host look like a liar.
import { type ChunkGeometry, chunkLength, parseGeometry } from '@shoal/protocol/chunks.ts'
import { asShoalError, messageOf, ShoalError } from '@shoal/protocol/errors.ts'
import {
  type BlobId,
  isCommit,
  type PeerId,
  parseRepoKey,
  parseRevision,
  type Repo,
  type Revision,
} from '@shoal/protocol/ids.ts'
import type {
  ChunkRequestMessage,
  ChunkVoucher,
  HaveAnswer,
  HaveAsk,
  ManifestAnswer,
  ManifestAsk,
  Tell,
} from '@shoal/protocol/messages.ts'
import { LIMITS } from '@shoal/protocol/messages.ts'
import { type Clock, deadline } from '@shoal/protocol/time.ts'
import type { Log } from './log.ts'
import type { ChunkReply, MeshHandlers } from './net/mesh.ts'
import type { ReadRights } from './read-rights.ts'
import type { BlobReader, BlobStore } from './store/blob-store.ts'
import type { Records } from './store/records.ts'
import type { SpareBuffers } from './transfer/chunk-buffers.ts'
import type { Transfer } from './transfer/transfer.ts'
import { UploadTurns } from './upload-turns.ts'
import type { ChunkPlace, Vouchers } from './vouchers.ts'

/** Most chunks whose claims are told in one answer. */
const MAX_CLAIMS = 256
/** Complete blobs kept open for the next request. */
const MAX_OPEN = 16
const OPEN_FOR_MS = 10_000

export interface UploadsDeps {
  readonly clock: Clock
  readonly log: Log
  readonly store: BlobStore
  readonly records: Pick<Records, 'manifest' | 'refs'>
  readonly rights: ReadRights
  readonly vouchers: Vouchers
  readonly arriving: (blob: BlobId) => Transfer | undefined
  /** A peer asked what we hold of a blob that is arriving. @returns whether it will be told what comes */
  readonly peerAsked: (peer: PeerId, blob: BlobId, want: boolean, subscribe: boolean) => boolean
  readonly told: (peer: PeerId, message: Tell) => boolean
  readonly bytesSent: (bytes: number) => void
  readonly buffers: SpareBuffers
}

const NOTHING: HaveAnswer = { state: 'none', wanting: false, claimed: [] }
const LACKS: ChunkReply = { status: 'lacks' }

interface OpenBlob {
  readonly reader: Promise<BlobReader | undefined>
  /** Whether the whole digest is right: asked only where no voucher is on record. */
  isProven: Promise<boolean> | undefined
  users: number
  cancelClose: () => void
}

export class Uploads implements MeshHandlers {
  readonly #deps: UploadsDeps
  readonly #open = new Map<BlobId, OpenBlob>()
  readonly #turns: UploadTurns
  #closed = false

  constructor(deps: UploadsDeps) {
    this.#deps = deps
    this.#turns = new UploadTurns(deps.clock)
  }

  async chunk(
    peer: PeerId,
    request: ChunkRequestMessage,
    signal: AbortSignal,
    proves = false,
  ): Promise<ChunkReply> {
    const { blob, index } = request
    const geometry = geometryOf(request.geometry)
    if (geometry === undefined || index >= geometry.chunkCount) return { status: 'bad' }
    if (!this.#deps.rights.mayHaveBlob(peer, blob, request.grant)) return { status: 'refused' }
    // Before a place is taken: whoever waits for a chunk must not keep others from theirs.
    await this.#arrival(request, geometry, signal)
    const turn = await this.#turns.take(peer, `${blob} ${index}`, signal)
    if (typeof turn === 'string') return { status: turn, line: this.#turns.line }
    let reply: ChunkReply | undefined
    try {
      reply = await this.#reply(request, geometry, signal, proves)
    } finally {
      if (reply?.bytes === undefined) turn.over(false)
    }
    const { bytes } = reply
    if (bytes === undefined) return reply
    const reuse = () => this.#deps.buffers.keep(bytes)
    const release = () => {
      turn.over(true)
      this.#deps.bytesSent(bytes.byteLength)
    }
    return { ...reply, line: this.#turns.line - 1, release, reuse }
  }

  /** Requests of peers that are served or wait. */
  get line(): number {
    return this.#turns.line
  }

  /** Share of the chunks that may be on their way to peers at once, 0 to 1. */
  get load(): number {
    return this.#turns.load
  }

  async have(peer: PeerId, ask: HaveAsk): Promise<HaveAnswer> {
    const { blob } = ask
    if (!this.#deps.rights.mayHaveBlob(peer, blob, ask.grant)) return NOTHING
    if (this.#deps.store.isComplete(blob)) return { state: 'complete', wanting: false, claimed: [] }
    const transfer = this.#deps.arriving(blob)
    if (transfer?.geometry.text !== ask.geometry) return NOTHING
    const subscribed = this.#deps.peerAsked(peer, blob, ask.want, ask.subscribe === true)
    return subscribed ? { ...holdingOf(transfer), subscribed } : holdingOf(transfer)
  }

  async manifest(peer: PeerId, ask: ManifestAsk): Promise<ManifestAnswer> {
    const { records, rights } = this.#deps
    const repo = repoOf(ask.repo)
    const revision = revisionOf(ask.revision)
    if (repo === undefined || revision === undefined || !rights.mayHaveRepo(peer, repo, ask.grant))
      return { found: false }
    let commit: string | undefined
    let resolvedAt: number | undefined
    if (isCommit(revision)) commit = revision
    else {
      const ref = (await records.refs(repo)).get(revision)
      commit = ref?.commit
      resolvedAt = ref?.resolvedAt
    }
    const manifest =
      commit !== undefined && isCommit(commit) ? await records.manifest(repo, commit) : undefined
    if (manifest === undefined) return { found: false }
    const text = JSON.stringify(manifest)
    if (Buffer.byteLength(text) > LIMITS.manifestAnswer - 1024) return { found: false }
    return { found: true, commit, resolvedAt, manifest: text }
  }

  told(peer: PeerId, message: Tell): boolean {
    return this.#deps.told(peer, message)
  }

  async close(): Promise<void> {
    this.#closed = true
    for (const [blob, open] of [...this.#open]) {
      this.#open.delete(blob)
      open.cancelClose()
      await (await open.reader.catch(() => undefined))?.close()
    }
  }

  /** Never throws for what disk and downloads do: a peer hears that the chunk is not here, and asks another. */
  async #reply(
    request: ChunkRequestMessage,
    geometry: ChunkGeometry,
    signal: AbortSignal,
    proves: boolean,
  ): Promise<ChunkReply> {
    const { blob, index } = request
    try {
      if (this.#deps.store.isComplete(blob))
        return await this.#fromComplete({ blob, geometry, index }, signal, proves)
      const transfer = this.#deps.arriving(blob)
      if (transfer?.geometry.text !== geometry.text) return LACKS
      return await this.#fromArriving(transfer, index, proves)
    } catch (error) {
      const known = asShoalError(error)
      if (known === undefined) throw error
      this.#deps.log.warn({ blob, index, code: known.code, reason: known.message }, 'a chunk was not served')
      return LACKS
    }
  }

  async #fromArriving(transfer: Transfer, index: number, proves: boolean): Promise<ChunkReply> {
    const { partial, geometry, blob } = transfer
    const voucher = partial?.voucher(index)
    if (partial === undefined || voucher === undefined || !transfer.mayGive(index)) return LACKS
    const bytes = this.#deps.buffers.take(chunkLength(geometry, index))
    try {
      await partial.read(bytes, geometry.range(index).start)
    } catch (error) {
      // It was discarded, or the download ended, since we looked.
      if (transfer.partial !== partial || !transfer.mayGive(index)) return LACKS
      throw error
    }
    return this.#checked({ blob, geometry, index }, bytes, voucher, proves)
  }

  async #fromComplete(place: ChunkPlace, signal: AbortSignal, proves: boolean): Promise<ChunkReply> {
    const { blob, geometry, index } = place
    const open = this.#use(blob)
    try {
      const reader = await open.reader
      if (reader === undefined) return LACKS
      if (reader.sizeBytes !== geometry.sizeBytes) return { status: 'bad' }
      // Cut otherwise than it was proven, its bytes would have to be vouched for on the disk's word.
      if (reader.geometry !== undefined && reader.geometry.text !== geometry.text) return LACKS
      const known = await reader.voucher(index)
      if (known === undefined && !(await this.#isProven(open, blob, signal))) return LACKS
      const bytes = this.#deps.buffers.take(chunkLength(geometry, index))
      await reader.read(bytes, geometry.range(index).start)
      return known === undefined
        ? { status: 'ok', bytes, voucher: this.#deps.vouchers.make(place, bytes) }
        : this.#checked(place, bytes, known, proves)
    } finally {
      this.#release(blob, open)
    }
  }

  #isProven(open: OpenBlob, blob: BlobId, signal: AbortSignal): Promise<boolean> {
    open.isProven ??= this.#deps.store.verify(blob, signal).then(
      ({ ok }) => ok,
      () => {
        open.isProven = undefined
        return false
      },
    )
    return open.isProven
  }

  #checked(place: ChunkPlace, bytes: Uint8Array, voucher: ChunkVoucher, proves: boolean): ChunkReply {
    const rotten = () =>
      this.#deps.log.error(
        { blob: place.blob, index: place.index },
        'a stored chunk is not what it was: not served',
      )
    if (proves || this.#deps.vouchers.matches(bytes, voucher)) return { status: 'ok', bytes, voucher, rotten }
    rotten()
    return LACKS
  }

  /** Waits until a chunk that is on its way to this host has come, or as long as the peer allows. */
  async #arrival(
    { blob, index, waitMs }: ChunkRequestMessage,
    geometry: ChunkGeometry,
    signal: AbortSignal,
  ): Promise<void> {
    const transfer = this.#deps.arriving(blob)
    if (waitMs === 0 || transfer?.geometry.text !== geometry.text) return
    const isSettled = () => transfer.over || transfer.has(index) || !transfer.inFlight(index)
    using limit = deadline(this.#deps.clock, waitMs, () => new ShoalError('aborted', 'not yet'), signal)
    if (isSettled() || limit.signal.aborted) return
    await new Promise<void>((resolve) => {
      const done = () => {
        stop()
        limit.signal.removeEventListener('abort', done)
        resolve()
      }
      const stop = transfer.watch(() => {
        if (isSettled()) done()
      })
      limit.signal.addEventListener('abort', done, { once: true })
    })
  }

  #use(blob: BlobId): OpenBlob {
    let open = this.#open.get(blob)
    if (open === undefined) {
      const reader = this.#deps.store.open(blob)
      open = { reader, isProven: undefined, users: 0, cancelClose: () => {} }
      this.#open.set(blob, open)
    }
    open.cancelClose()
    open.users++
    return open
  }

  #release(blob: BlobId, open: OpenBlob): void {
    open.users--
    if (open.users > 0) return
    const close = () => {
      if (open.users > 0) return
      open.cancelClose()
      if (this.#open.get(blob) === open) this.#open.delete(blob)
      open.reader
        .then((reader) => reader?.close())
        .catch((error: unknown) =>
          this.#deps.log.debug({ reason: messageOf(error) }, 'a blob was not closed'),
        )
    }
    if (this.#closed || this.#open.size > MAX_OPEN) close()
    else open.cancelClose = this.#deps.clock.after(OPEN_FOR_MS, close)
  }
}

function geometryOf(text: string): ChunkGeometry | undefined {
  try {
    return parseGeometry(text)
  } catch {
    return undefined
  }
}

function holdingOf(transfer: Transfer): HaveAnswer {
  const held = transfer.partial?.held
  const some = held !== undefined && held.held > 0
  return {
    state: some ? 'partial' : 'none',
    wanting: transfer.whole && !transfer.over,
    held: some ? held.encode() : undefined,
    claimed: transfer.originClaims().slice(0, MAX_CLAIMS),
  }
}

function repoOf(key: string): Repo | undefined {
  try {
    return parseRepoKey(key)
  } catch {
    return undefined
  }
}

function revisionOf(text: string): Revision | undefined {
  try {
    return parseRevision(text)
  } catch {
    return undefined
  }
}
