// What the main thread and a lane say to each other. Small: chunks themselves lie in memory that both see (SharedArrayBuffer). Shapes
// only.
import { type ErrorCode, type ErrorDetails, ShoalError } from '@shoal/protocol/errors.ts'
import type { BlobId, PeerId } from '@shoal/protocol/ids.ts'
import type { ChunkRequestMessage, ChunkVoucher } from '@shoal/protocol/messages.ts'
import type { DataTarget } from './data-carrier.ts'
import type { ChunkReply } from './mesh.ts'

/** What a lane needs to know at its start; given as its `workerData`. */
export interface LaneSettings {
  /** Certificate and key, PEM. */
  readonly pair: { readonly cert: string; readonly key: string }
  readonly hosts: readonly string[]
  /** To listen on again; 0: any free one. */
  readonly port: number
  /** Which of a peer's ports this lane connects to. */
  readonly turn: number
  readonly maxUploads: number
  readonly messageBytes: number | undefined
  readonly noProgressMs: number | undefined
}

/** No more than this is moved at once, and each piece is asked for; undefined: there is no limit. */
export interface LanePace {
  readonly downBytes: number | undefined
  readonly upBytes: number | undefined
}

export type ToLane =
  | { readonly kind: 'admit'; readonly peer: PeerId; readonly certificate: Uint8Array }
  | { readonly kind: 'cut'; readonly peer: PeerId }
  | { readonly kind: 'probe'; readonly id: number; readonly peer: PeerId; readonly target: DataTarget }
  | {
      readonly kind: 'fetch'
      readonly id: number
      readonly peer: PeerId
      readonly target: DataTarget
      readonly blob: BlobId
      readonly geometry: string
      readonly index: number
      readonly into: Uint8Array
      readonly waitMs: number
      readonly grant: ChunkRequestMessage['grant']
      /** Limit on its download, as of {@link LanePace}. */
      readonly pieceBytes: number | undefined
    }
  | { readonly kind: 'cancel'; readonly id: number }
  /** Answer to `asked`. */
  | {
      readonly kind: 'reply'
      readonly id: number
      readonly status: ChunkReply['status']
      readonly line: number | undefined
      readonly bytes: Uint8Array | undefined
      readonly voucher: ChunkVoucher | undefined
    }
  /** Answer to `pass`. */
  | { readonly kind: 'passed'; readonly id: number }
  | ({ readonly kind: 'pace' } & LanePace)

export interface LaneError {
  readonly code: ErrorCode
  readonly message: string
  readonly details: ErrorDetails
}

export type FromLane =
  | { readonly kind: 'listening'; readonly ports: readonly number[] }
  | { readonly kind: 'progress'; readonly id: number; readonly filledBytes: number }
  | {
      readonly kind: 'done'
      readonly id: number
      readonly voucher: ChunkVoucher | undefined
      readonly line: number | undefined
      /** BLAKE3 of what was fetched. */
      readonly digest: Uint8Array | undefined
    }
  | ({ readonly kind: 'failed'; readonly id: number } & LaneError)
  /** A peer asks for a chunk. */
  | {
      readonly kind: 'asked'
      readonly id: number
      readonly peer: PeerId
      readonly request: ChunkRequestMessage
    }
  /** Nobody waits for that reply any more. */
  | { readonly kind: 'gone'; readonly id: number }
  | { readonly kind: 'sent'; readonly peer: PeerId; readonly bytes: number }
  /** The last byte was handed to the connection, or the request failed. */
  | { readonly kind: 'released'; readonly id: number }
  /** Nothing refers to the bytes of the reply any more. */
  | { readonly kind: 'reusable'; readonly id: number }
  /** Something may refer to them for ever. */
  | { readonly kind: 'lost'; readonly id: number }
  /** The bytes of the reply are not what their voucher says. */
  | { readonly kind: 'rotten'; readonly id: number }
  | {
      readonly kind: 'pass'
      readonly id: number
      /** To this peer, or by this fetch. */
      readonly way: PeerId | number
      readonly bytes: number
    }
  | { readonly kind: 'broke-rules'; readonly peer: PeerId; readonly reason: string }
  | {
      readonly kind: 'log'
      readonly level: 'debug' | 'info' | 'warn' | 'error'
      readonly message: string
      readonly fields: Readonly<Record<string, string | number | boolean>>
    }

export function laneError({ code, message, details }: LaneError): ShoalError {
  return new ShoalError(code, message, details)
}
