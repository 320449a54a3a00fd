// A client that downloads as huggingface_hub does: after a broken connection it asks for the rest by Range, keeps what it has if
// the answer is 206, starts over if it is 200, and gives up after some tries. It checks the length and nothing else.
import { createHash } from 'node:crypto'
import { sleep, systemClock } from '@shoal/protocol/time.ts'

const MAX_TRIES = 8
const PAUSE_MS = 100

export interface ClientDownload {
  readonly sha256: string
  readonly sizeBytes: number
  readonly tries: number
  /** Times that it had to start over with a new file. */
  readonly restarts: number
}

/** @throws Error when every try ended early */
export async function downloadLikeHubClient(url: string): Promise<ClientDownload> {
  let pieces: Uint8Array[] = []
  let restarts = 0
  for (let tries = 1; tries <= MAX_TRIES; tries++) {
    const have = pieces.reduce((sum, { byteLength }) => sum + byteLength, 0)
    try {
      const response = await fetch(url, { headers: have > 0 ? { range: `bytes=${have}-` } : {} })
      if (!response.ok) throw new Error(`status ${response.status}: ${await response.text()}`)
      if (response.status === 200 && have > 0) {
        pieces = []
        restarts++
      }
      // `fetch` rejects the body when it ends before its Content-Length.
      for await (const piece of response.body ?? []) pieces.push(piece)
      const bytes = Buffer.concat(pieces)
      return {
        sha256: createHash('sha256').update(bytes).digest('hex'),
        sizeBytes: bytes.byteLength,
        tries,
        restarts,
      }
    } catch (error) {
      if (tries === MAX_TRIES) throw error
      await sleep(systemClock, PAUSE_MS)
    }
  }
  throw new Error('not reached')
}
