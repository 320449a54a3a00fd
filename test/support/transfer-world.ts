// The whole transfer layer of one host as it really is (downloader, transfers, swarm, plan, vouchers), between a fake origin and a
// fake mesh, over the memory store and a clock that the test moves. Counts what was left behind.
import assert from 'node:assert/strict'
import type { TestContext } from 'node:test'
import type { Caller } from '@shoal/agent/catalog-port.ts'
import { Downloader } from '@shoal/agent/downloader.ts'
import type { FileReader, WantedFile } from '@shoal/agent/downloads-port.ts'
import { blobDigest, loadHashing } from '@shoal/agent/hashing.ts'
import { silentLog } from '@shoal/agent/log.ts'
import {
  type HostIdentity,
  newIdentity,
  peerOfPublicKey,
  publicKeyOfPeer,
  verifyStatement,
} from '@shoal/agent/net/identity.ts'
import { DownloadPlan } from '@shoal/agent/plan/download-plan.ts'
import { SourceScores } from '@shoal/agent/plan/source-score.ts'
import { ReadRights } from '@shoal/agent/read-rights.ts'
import { peerSource } from '@shoal/agent/sources/peer-source.ts'
import type { BlobStore } from '@shoal/agent/store/blob-store.ts'
import { ChunkBuffers } from '@shoal/agent/transfer/chunk-buffers.ts'
import { Swarm } from '@shoal/agent/transfer/swarm.ts'
import { Vouchers } from '@shoal/agent/vouchers.ts'
import type { ByteRange } from '@shoal/protocol/chunks.ts'
import { parseCommit, parseFilePath, parseRepoSpec } from '@shoal/protocol/ids.ts'
import type { Access, Manifest } from '@shoal/protocol/manifest.ts'
import { sleep, systemClock } from '@shoal/protocol/time.ts'
import { FakeMesh, type PeerCall, type PeerManner } from './fake-mesh.ts'
import { FakeOrigin } from './fake-origin.ts'
import { type MadeBlob, makeBlob } from './made-blob.ts'
import { createMemoryStore } from './memory-store.ts'
import { type VirtualClock, virtualClock } from './virtual-clock.ts'

export const CHUNK = 64 * 1024
const COMMIT = parseCommit('c'.repeat(40))
const { blake3 } = await loadHashing()

export function vouchersOf(identity: HostIdentity): Vouchers {
  const { publicKey } = identity
  const sign = (statement: Uint8Array) => identity.sign(statement)
  return new Vouchers({ publicKey, sign, verify: verifyStatement }, blake3)
}

export function rightsOf(identity: HostIdentity, clock: VirtualClock): ReadRights {
  const { publicKey, peer } = identity
  const sign = (statement: Uint8Array) => identity.sign(statement)
  const signatures = { publicKey, sign, verify: verifyStatement }
  return new ReadRights({ self: peer, signatures, publicKeyOf: publicKeyOfPeer, clock })
}

/** `bytes` as chunk `index` with a voucher of `author` for exactly them. */
export function vouchFor(author: HostIdentity, call: Pick<PeerCall, 'request'>, bytes: Uint8Array) {
  const { blob, geometry, index } = call.request
  return vouchersOf(author).make({ blob, geometry, index }, bytes)
}

/** A holder that gives the right bytes, vouched for by `author`. */
export function honestPeer(made: MadeBlob, author: HostIdentity): PeerManner {
  return async (call) => {
    const bytes = made.chunk(call.request.index)
    call.fill(bytes)
    return vouchFor(author, call, bytes)
  }
}

/** Wrong bytes with a good voucher for exactly them, signed by `author`: only the digest of the whole tells. */
export function selfConsistentLie(made: MadeBlob, author: HostIdentity): PeerManner {
  return async (call) => {
    const bytes = flipped(made.chunk(call.request.index))
    call.fill(bytes)
    return vouchFor(author, call, bytes)
  }
}

export function blobDigestOf(bytes: Uint8Array): string {
  return blobDigest('sha256', bytes)
}

export function flipped(bytes: Uint8Array): Buffer {
  const wrong = Buffer.from(bytes)
  wrong[wrong.byteLength >> 1] = (wrong[wrong.byteLength >> 1] ?? 0) ^ 1
  return wrong
}

/** What a reader was given, and how it ended: undefined is a clean end. */
export interface Outcome {
  readonly bytes: Buffer
  readonly error: unknown
}

export interface WorldOptions {
  readonly store?: BlobStore
  readonly bufferBytes?: number
  readonly chunkBytes?: number
  readonly identity?: HostIdentity
  readonly clock?: VirtualClock
}

/** The clock of the machine, for worlds with a real disk: it needs no moving, and can be asked what is left. */
export function realTime(): VirtualClock {
  let pending = 0
  return {
    now: () => systemClock.now(),
    wallTime: () => systemClock.wallTime(),
    after(delayMs, task) {
      pending++
      let over = false
      const end = () => {
        if (!over) pending--
        over = true
      }
      const cancel = systemClock.after(delayMs, () => {
        end()
        task()
      })
      return () => {
        end()
        cancel()
      }
    },
    advance: () => sleep(systemClock, 1),
    setWallTime: () => {},
    get pending() {
      return pending
    },
  }
}

export class TransferWorld {
  readonly clock: VirtualClock
  readonly identity: HostIdentity
  readonly store: BlobStore
  readonly origin = new FakeOrigin()
  readonly mesh: FakeMesh
  readonly swarm: Swarm
  readonly buffers: ChunkBuffers
  readonly rights: ReadRights
  readonly vouchers: Vouchers
  readonly downloader: Downloader
  readonly failures: unknown[] = []
  readonly shown: string[] = []
  readonly counts = { origin: 0, peer: 0, verified: 0, corrupt: 0, duplicate: 0, complete: 0, failed: 0 }

  constructor(options: WorldOptions = {}) {
    this.clock = options.clock ?? virtualClock()
    this.identity = options.identity ?? newIdentity()
    this.store = options.store ?? createMemoryStore()
    this.mesh = new FakeMesh(this.identity.peer)
    this.buffers = new ChunkBuffers(options.bufferBytes ?? 64 * 1024 * 1024)
    this.rights = rightsOf(this.identity, this.clock)
    this.vouchers = vouchersOf(this.identity)
    const { clock, mesh, counts } = this
    const onFailure = (_name: string, error: unknown) => this.failures.push(error)
    this.swarm = new Swarm({
      mesh,
      clock,
      log: silentLog,
      distance: () => 1,
      line: () => 0,
      originFetchers: 4,
      onFailure,
    })
    this.downloader = new Downloader({
      clock,
      log: silentLog,
      store: this.store,
      scores: new SourceScores(),
      swarm: this.swarm,
      vouchers: this.vouchers,
      rights: this.rights,
      buffers: this.buffers,
      counters: {
        bytes: (from, bytes) => {
          counts[from] += bytes
        },
        chunk: (result, count) => {
          counts[result] += count
        },
        download: (result) => counts[result]++,
      },
      self: this.identity.peer,
      originDepth: 4,
      totalDepth: 12,
      originFetchers: 4,
      makePlan: (settings, scores) => new DownloadPlan(settings, scores),
      peerSource: (peer, grant) => peerSource(mesh, peer, grant),
      hub: this.origin,
      view: {
        link: async (_repo, _commit, { path }) => {
          this.shown.push(path)
        },
        setRef: async (_repo, revision, commit) => {
          this.shown.push(`${revision}=${commit}`)
        },
      },
      ban: (peer) => mesh.ban(peer),
      peerOfKey: peerOfPublicKey,
      operatorToken: () => undefined,
      diskBytesRead: () => {},
      chunkBytes: options.chunkBytes ?? CHUNK,
      onFailure,
    })
  }

  /** A started world that must leave nothing behind at the end of the test. */
  static async start(
    context: Pick<TestContext, 'after'>,
    options: WorldOptions = {},
  ): Promise<TransferWorld> {
    const world = new TransferWorld(options)
    await world.store.start()
    await world.swarm.start()
    await world.downloader.start()
    context.after(() => world.end())
    return world
  }

  async end(): Promise<void> {
    await this.stop()
    assert.deepEqual(this.failures, [])
    assert.equal(this.clock.pending, 0, 'timers were left')
    assert.equal(this.buffers.lentBytes, 0, 'buffers were not given back')
    assert.equal(this.mesh.listeners, 0, 'a mesh listener was left')
  }

  async stop(): Promise<void> {
    await this.pass(this.downloader.stop())
    await this.pass(this.swarm.stop())
  }

  /** The origin has the blob; the file that a client asks for. */
  file(
    made: MadeBlob,
    options: { path?: string; repo?: string; access?: Access; caller?: Caller } = {},
  ): WantedFile {
    const { path = 'model.bin', repo = 'org/model', access = 'public' } = options
    this.origin.add(made.blob, made.bytes)
    const entry = {
      path: parseFilePath(path),
      sizeBytes: made.bytes.byteLength,
      blob: made.blob,
      oid: 'a'.repeat(40),
    }
    const manifest: Manifest = {
      repo: parseRepoSpec(repo).repo,
      commit: COMMIT,
      access,
      files: [entry],
      directories: [],
      info: {},
      learnedAt: 1,
    }
    this.rights.learn(manifest)
    return { manifest, entry, caller: options.caller ?? { kind: 'client', token: undefined } }
  }

  /** Lets time pass until `promise` settles. @throws what it rejects with; Error after `limitMs` of virtual time */
  async pass<T>(promise: Promise<T>, limitMs = 300_000): Promise<T> {
    let settled = false
    const end = () => {
      settled = true
    }
    promise.then(end, end)
    for (let waitedMs = 0; ; waitedMs += 20) {
      await this.clock.advance(settled ? 0 : 20)
      if (settled) return promise
      if (waitedMs > limitMs) throw new Error(`nothing came of it in ${limitMs} ms of virtual time`)
    }
  }

  async fetch(file: WantedFile) {
    return this.pass(this.downloader.fetch(file, { signal: new AbortController().signal }))
  }

  async open(file: WantedFile, range?: ByteRange): Promise<FileReader> {
    return this.pass(this.downloader.open(file, range))
  }

  /** Opens, reads a range (all by default), closes. */
  async read(file: WantedFile, range: ByteRange = { start: 0, end: file.entry.sizeBytes }): Promise<Outcome> {
    const reader = await this.open(file, range)
    const outcome = await this.pass(collect(reader, range))
    await reader.close()
    return outcome
  }
}

export async function collect(
  reader: FileReader,
  range: ByteRange,
  signal: AbortSignal = new AbortController().signal,
): Promise<Outcome> {
  const pieces: Uint8Array[] = []
  let error: unknown
  try {
    for await (const piece of reader.bytes(range, signal)) pieces.push(piece)
  } catch (thrown) {
    error = thrown
  }
  return { bytes: Buffer.concat(pieces), error }
}

/** A blob of so many bytes in chunks of {@link CHUNK}. */
export function blobOf(seed: number, sizeBytes: number): MadeBlob {
  return makeBlob(seed, sizeBytes, { chunkBytes: CHUNK })
}

/** The blob as it is complete on this host. */
export async function heldIn(world: TransferWorld, made: MadeBlob): Promise<Buffer | undefined> {
  const reader = await world.pass(world.store.open(made.blob))
  if (reader === undefined) return undefined
  const bytes = Buffer.alloc(reader.sizeBytes)
  await reader.read(bytes, 0)
  await reader.close()
  return bytes
}
