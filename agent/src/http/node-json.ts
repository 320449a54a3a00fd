// PURE. Values of the ports as the JSON of node-shapes.ts: names made plain, absent made null.

import type { z } from '@hono/zod-openapi'
import { repoLabel } from '@shoal/protocol/ids.ts'
import type { BlobProgress } from '../downloads-port.ts'
import type { HostStatus } from '../host-port.ts'
import type { LimitInForce, LimitsChange, LimitsStatus, MonthStatus } from '../limits-port.ts'
import type { ModelDetails, ModelSummary, PullProgress, VerifyResult } from '../models-port.ts'
import type { PeerStatus } from '../net/mesh.ts'
import type { PullPlan } from '../plan/pull-plan.ts'
import type {
  blobProgressShape,
  LimitsChangeShape,
  LimitsShape,
  ModelDetailsShape,
  modelShape,
  PlanShape,
  PullShape,
  peerShape,
  StatusShape,
  VerifyLineShape,
} from './node-shapes.ts'

export function toStatus(
  status: HostStatus,
  counts: { readonly peers: number; readonly runningPulls: number; readonly blobs: number },
): StatusShape {
  const { notReadyBecause, storage, hub, mesh } = status
  return {
    version: status.version,
    peerId: status.peerId,
    pid: status.pid,
    http: status.http,
    p2p: [...status.p2p],
    startedAt: status.startedAt,
    ready: notReadyBecause.length === 0,
    notReadyBecause: [...notReadyBecause],
    storage: { ...storage, limitBytes: storage.limitBytes ?? null },
    hub: { upstreams: [...hub.upstreams], tokenPresent: hub.tokenPresent },
    mesh: { peers: counts.peers, site: mesh.site ?? null, rack: mesh.rack ?? null, mdns: mesh.mdns },
    downloads: { running: counts.runningPulls, blobs: counts.blobs },
    memory: status.memory,
    originMonth: toMonth(status.originMonth),
    totals: { ...status.totals },
  }
}

export function toPeer(peer: PeerStatus): z.infer<typeof peerShape> {
  const { health } = peer
  return {
    peer: peer.peer,
    addresses: [...peer.addresses],
    direction: peer.direction,
    connectedSince: peer.connectedSince,
    roundTripMs: peer.roundTripMs ?? null,
    bytesReceived: peer.bytesReceived,
    bytesSent: peer.bytesSent,
    health:
      health === undefined
        ? null
        : {
            at: health.at,
            uploadLoad: health.uploadLoad,
            cpuLoad: health.cpuLoad,
            diskFreeBytes: health.diskFreeBytes,
            memoryFreeBytes: health.memoryFreeBytes,
            blobsHeld: health.blobsHeld,
            version: health.version,
            site: health.site ?? null,
            rack: health.rack ?? null,
          },
  }
}

export function toModel(model: ModelSummary): z.infer<typeof modelShape> {
  return {
    repo: repoLabel(model.repo),
    kind: model.repo.kind,
    access: model.access,
    revisions: model.revisions.map(({ revision, commit }) => ({ revision, commit })),
    files: model.files,
    completeFiles: model.completeFiles,
    sizeBytes: model.sizeBytes,
    heldBytes: model.heldBytes,
  }
}

export function toDetails(model: ModelDetails): ModelDetailsShape {
  return {
    ...toModel(model),
    commits: model.commits.map(({ commit, files }) => ({
      commit,
      files: files.map(({ path, sizeBytes, heldBytes, complete, blob }) => ({
        path,
        sizeBytes,
        heldBytes,
        complete,
        blob,
      })),
    })),
  }
}

export function toPull(pull: PullProgress): PullShape {
  return {
    id: pull.id,
    repo: repoLabel(pull.repo),
    revision: pull.revision,
    commit: pull.commit ?? null,
    state: pull.state,
    priority: pull.priority,
    place: pull.place ?? null,
    peers: pull.peers,
    files: pull.files,
    filesDone: pull.filesDone,
    totalBytes: pull.totalBytes,
    doneBytes: pull.doneBytes,
    originBytes: pull.originBytes,
    peerBytes: pull.peerBytes,
    diskBytes: pull.diskBytes,
    bytesPerSecond: pull.bytesPerSecond,
    startedAt: pull.startedAt,
    endedAt: pull.endedAt ?? null,
    planned: pull.planned === undefined ? null : toPlan(pull.planned),
    efficiency:
      pull.efficiency === undefined ? null : { ...pull.efficiency, lostMs: { ...pull.efficiency.lostMs } },
    error: pull.error === undefined ? null : { code: pull.error.code, message: pull.error.message },
  }
}

export function toBlobProgress({ doing: _, ...blob }: BlobProgress): z.infer<typeof blobProgressShape> {
  const { repo, priority, error } = blob
  return { ...blob, repo: repoLabel(repo), priority: priority ?? null, error: error ?? null }
}

export function toPlan(plan: PullPlan): PlanShape {
  const { time, disk } = plan
  return {
    files: plan.files,
    filesHere: plan.filesHere,
    totalBytes: plan.totalBytes,
    bytes: { ...plan.bytes },
    notAskedBytes: plan.notAskedBytes,
    peersAsked: plan.peersAsked,
    timeMs: time.known ? time.ms : null,
    timeUnknownBecause: time.known ? null : time.because,
    disk: { ...disk, limitBytes: disk.limitBytes ?? null },
    evicted: [...plan.evicted],
  }
}

export function toLimits({ values, inForce, hours, load, background, month }: LimitsStatus): LimitsShape {
  const one = ({ bytesPerSecond, because }: LimitInForce) => ({
    bytesPerSecond: bytesPerSecond ?? null,
    because,
  })
  return {
    upBytesPerSecond: values.up ?? null,
    upPerPeerBytesPerSecond: values.upPerPeer ?? null,
    downBytesPerSecond: values.down ?? null,
    originBytesPerSecond: values.origin ?? null,
    perDownloadBytesPerSecond: values.perDownload ?? null,
    givesToPeers: values.up !== 0,
    inForce: { up: one(inForce.up), down: one(inForce.down), origin: one(inForce.origin) },
    hours:
      hours === undefined
        ? null
        : {
            now: hours.now,
            bytesPerSecond: hours.bytesPerSecond ?? null,
            next:
              hours.next === undefined
                ? null
                : { at: hours.next.at, bytesPerSecond: hours.next.bytesPerSecond ?? null },
          },
    load: load === undefined ? null : { foreignLoad: load.foreignLoad ?? null, reduces: load.reduces },
    background: { enabled: background.enabled, queueMs: background.queueMs ?? null },
    month: toMonth(month),
  }
}

export function toMonth(month: MonthStatus): LimitsShape['month'] {
  return { ...month, capBytes: month.capBytes ?? null }
}

/** Keys that are not there stay away; null becomes no limit. */
export function fromLimitsChange(change: LimitsChangeShape): LimitsChange {
  const named = [
    ['up', change.upBytesPerSecond],
    ['upPerPeer', change.upPerPeerBytesPerSecond],
    ['down', change.downBytesPerSecond],
    ['origin', change.originBytesPerSecond],
    ['perDownload', change.perDownloadBytesPerSecond],
    ['background', change.background],
  ] as const
  return Object.fromEntries(
    named.filter(([, value]) => value !== undefined).map(([key, value]) => [key, value ?? undefined]),
  )
}

export function toVerifyLine(result: VerifyResult): VerifyLineShape {
  const { path, ok, bytes } = result
  return { repo: repoLabel(result.repo), path, ok, badChunks: [...result.badChunks], bytes }
}
