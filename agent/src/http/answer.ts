// What a route answers, as a value: status, headers, body. Routes build it, send.ts alone writes it to a socket.
import type { ByteRange } from '@shoal/protocol/chunks.ts'
import type { Caller } from '../catalog-port.ts'
import type { FileReader } from '../downloads-port.ts'

/** Bytes that follow the headers as the reader gives them. Whoever sends the answer closes the reader. */
export interface FileBody {
  readonly reader: FileReader
  readonly range: ByteRange
}

/** Bytes that are made as they are taken, of unknown length. */
export interface StreamBody {
  readonly pieces: AsyncIterable<Uint8Array>
}

export interface Answer {
  readonly status: number
  /** Names in the spelling they are sent in. `Content-Length` is set by the sender unless it stands here. */
  readonly headers: Readonly<Record<string, string>>
  readonly body?: Uint8Array | FileBody | StreamBody
}

/** A request to a Hub route, past the guards. */
export interface HubCall {
  readonly method: string
  /** Request target up to `?`, as it came. */
  readonly rawPath: string
  /** After `?`, as it came; empty without. */
  readonly rawQuery: string
  /** Lower-case name to value, repeated ones joined as Node does. */
  header(name: string): string | undefined
  readonly caller: Caller
  /** `http://host:port` as the client wrote it in its (checked) Host header. */
  readonly baseUrl: string
  /** The whole body. @throws ShoalError `too-large` | `bad-request` */
  body(): Promise<Uint8Array>
  readonly signal: AbortSignal
}

export function isFileBody(body: Answer['body']): body is FileBody {
  return body !== undefined && 'reader' in body
}

/** A JSON answer. */
export function jsonAnswer(
  value: unknown,
  headers: Readonly<Record<string, string>> = {},
  status = 200,
): Answer {
  return {
    status,
    headers: { 'Content-Type': 'application/json; charset=utf-8', ...headers },
    body: Buffer.from(JSON.stringify(value)),
  }
}
