// What this host answers when peers ask: chunks, what it holds, manifests. Every answer first asks read-rights. Never sends
// bytes that do not match their voucher: a rotten disk must not make an honest host look like a liar.
import { type ChunkGeometry, chunkLength, parseGeometry } from '@shoal/protocol/chunks.ts'
import { messageOf, ShoalError } from '@shoal/protocol/errors.ts'
import {
  type BlobId,
  isCommit,
  type PeerId,
  parseRepoKey,
  parseRevision,
  type Repo,
} from '@shoal/protocol/ids.ts'
import type {
  ChunkRequestMessage,
  ChunkVoucher,
  HaveAnswer,
  HaveAsk,
  ManifestAnswer,
  ManifestAsk,
} from '@shoal/protocol/messages.ts'
import { LIMITS } from '@shoal/protocol/messages.ts'
import { type Clock, deadline } from '@shoal/protocol/time.ts'
import type { Log } from './log.ts'
import type { ChunkReply, MeshHandlers } from './net/mesh.ts'
import type { ReadRights } from './read-rights.ts'
import type { BlobReader, BlobStore } from './store/blob-store.ts'
import type { Records } from './store/records.ts'
import type { Transfer } from './transfer/transfer.ts'
import type { Vouchers } from './vouchers.ts'

/** Chunks in memory for peers at once: a peer that reads slowly holds one, so this bounds memory, not speed. */
const MAX_SENDING = 8
/** Requests beyond that wait so long for their turn, then hear that this host is busy. */
const TURN_WAIT_MS = 1_000
const MAX_WAITING = 64
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
  readonly peerWants: (peer: PeerId, blob: BlobId) => void
  readonly bytesSent: (bytes: number) => void
}

const NOTHING: HaveAnswer = { state: 'none', wanting: false, claimed: [] }
const LACKS: ChunkReply = { status: 'lacks' }

interface OpenBlob {
  readonly reader: Promise<BlobReader | undefined>
  users: number
  cancelClose: () => void
}

export class Uploads implements MeshHandlers {
  readonly #deps: UploadsDeps
  readonly #open = new Map<BlobId, OpenBlob>()
  readonly #waiting: (() => void)[] = []
  #sending = 0

  constructor(deps: UploadsDeps) {
    this.#deps = deps
  }

  async chunk(peer: PeerId, request: ChunkRequestMessage, signal: AbortSignal): Promise<ChunkReply> {
    const { blob, index } = request
    const geometry = geometryOf(request.geometry)
    if (geometry === undefined || index >= geometry.chunkCount) return { status: 'bad' }
    if (!this.#deps.rights.mayHaveBlob(peer, blob, request.grant)) return { status: 'refused' }
    if (!(await this.#turn(signal))) return { status: 'busy' }
    let reply: ChunkReply | undefined
    try {
      reply = await this.#reply(request, geometry, signal)
    } finally {
      if (reply?.bytes === undefined) this.#turnOver()
    }
    const { bytes } = reply
    if (bytes === undefined) return reply
    const release = () => {
      this.#turnOver()
      this.#deps.bytesSent(bytes.byteLength)
    }
    return { ...reply, release }
  }

  /** Share of the chunks that may be on their way to peers at once, 0 to 1. */
  get load(): number {
    return this.#sending / MAX_SENDING
  }

  async #turn(signal: AbortSignal): Promise<boolean> {
    if (this.#sending < MAX_SENDING) {
      this.#sending++
      return true
    }
    if (this.#waiting.length >= MAX_WAITING) return false
    using limit = deadline(
      this.#deps.clock,
      TURN_WAIT_MS,
      () => new ShoalError('peer-busy', 'no turn'),
      signal,
    )
    return await new Promise<boolean>((resolve) => {
      const end = (got: boolean) => {
        limit.signal.removeEventListener('abort', onAbort)
        resolve(got)
      }
      const mine = () => end(true)
      const onAbort = () => {
        this.#waiting.splice(this.#waiting.indexOf(mine), 1)
        end(false)
      }
      this.#waiting.push(mine)
      limit.signal.addEventListener('abort', onAbort, { once: true })
    })
  }

  #turnOver(): void {
    const next = this.#waiting.shift()
    if (next === undefined) this.#sending--
    else next()
  }

  async have(peer: PeerId, ask: HaveAsk): Promise<HaveAnswer> {
    const { blob } = ask
    if (!this.#deps.rights.mayHaveBlob(peer, blob, ask.grant)) return NOTHING
    if (ask.want) this.#deps.peerWants(peer, blob)
    if (this.#deps.store.isComplete(blob)) return { state: 'complete', wanting: false, claimed: [] }
    const transfer = this.#deps.arriving(blob)
    return transfer?.geometry.text === ask.geometry ? transfer.answer() : NOTHING
  }

  async manifest(peer: PeerId, ask: ManifestAsk): Promise<ManifestAnswer> {
    const { records, rights } = this.#deps
    const repo = repoOf(ask.repo)
    if (repo === undefined || !rights.mayHaveRepo(peer, repo, ask.grant)) return { found: false }
    let commit: string | undefined
    let resolvedAt: number | undefined
    if (isCommit(ask.revision)) commit = ask.revision
    else {
      const ref = (await records.refs(repo)).get(parseRevision(ask.revision))
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

  async close(): Promise<void> {
    for (const [blob, open] of [...this.#open]) {
      this.#open.delete(blob)
      open.cancelClose()
      await (await open.reader.catch(() => undefined))?.close()
    }
  }

  async #reply(
    request: ChunkRequestMessage,
    geometry: ChunkGeometry,
    signal: AbortSignal,
  ): Promise<ChunkReply> {
    const { blob, index, waitMs } = request
    const { store } = this.#deps
    if (store.isComplete(blob)) return this.#fromComplete(blob, geometry, index)
    const transfer = this.#deps.arriving(blob)
    if (transfer === undefined || transfer.geometry.text !== geometry.text) return LACKS
    if (!transfer.has(index) && waitMs > 0 && transfer.inFlight(index))
      await this.#arrival(transfer, index, waitMs, signal)
    if (store.isComplete(blob)) return this.#fromComplete(blob, geometry, index)
    const { partial } = transfer
    if (partial === undefined || !partial.held.has(index)) return LACKS
    const voucher = partial.voucher(index)
    if (voucher === undefined) return LACKS
    const bytes = Buffer.allocUnsafeSlow(chunkLength(geometry, index))
    await partial.read(bytes, geometry.range(index).start)
    return this.#checked({ blob, geometry, index }, bytes, voucher)
  }

  async #fromComplete(blob: BlobId, geometry: ChunkGeometry, index: number): Promise<ChunkReply> {
    const open = this.#use(blob)
    try {
      const reader = await open.reader
      if (reader === undefined) return LACKS
      if (reader.sizeBytes !== geometry.sizeBytes) return { status: 'bad' }
      const bytes = Buffer.allocUnsafeSlow(chunkLength(geometry, index))
      await reader.read(bytes, geometry.range(index).start)
      const known = reader.geometry?.text === geometry.text ? await reader.voucher(index) : undefined
      const place = { blob, geometry, index }
      return known === undefined
        ? { status: 'ok', bytes, voucher: this.#deps.vouchers.make(place, bytes) }
        : this.#checked(place, bytes, known)
    } finally {
      this.#release(blob, open)
    }
  }

  #checked(
    place: { readonly blob: BlobId; readonly geometry: ChunkGeometry; readonly index: number },
    bytes: Uint8Array,
    voucher: ChunkVoucher,
  ): ChunkReply {
    if (this.#deps.vouchers.matches(bytes, voucher)) return { status: 'ok', bytes, voucher }
    this.#deps.log.error(
      { blob: place.blob, index: place.index },
      'a stored chunk is not what it was: not served',
    )
    return LACKS
  }

  async #arrival(transfer: Transfer, index: number, waitMs: number, signal: AbortSignal): Promise<void> {
    using limit = deadline(this.#deps.clock, waitMs, () => new ShoalError('aborted', 'not yet'), signal)
    await new Promise<void>((resolve) => {
      const done = () => {
        stop()
        limit.signal.removeEventListener('abort', done)
        resolve()
      }
      const stop = transfer.watch(() => {
        if (transfer.over || transfer.has(index) || !transfer.inFlight(index)) done()
      })
      limit.signal.addEventListener('abort', done, { once: true })
    })
  }

  #use(blob: BlobId): OpenBlob {
    let open = this.#open.get(blob)
    if (open === undefined) {
      open = { reader: this.#deps.store.open(blob), users: 0, cancelClose: () => {} }
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
    if (this.#open.size > MAX_OPEN) close()
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

function repoOf(key: string): Repo | undefined {
  try {
    return parseRepoKey(key)
  } catch {
    return undefined
  }
}
