// A plain HTTP file server as one writes it in Node without thinking: the yardstick for serving where nginx is not installed.
// Whole files, single ranges and HEAD. Prints its port. Argument: the folder.
import { once } from 'node:events'
import { createReadStream } from 'node:fs'
import { stat } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { basename, join } from 'node:path'
import { pipeline } from 'node:stream/promises'

const PIECE_BYTES = 1024 * 1024
const [folder = '.'] = process.argv.slice(2)
const server = createServer(async (request, response) => {
  const path = join(folder, basename(request.url ?? ''))
  const found = await stat(path).catch(() => undefined)
  if (found === undefined) {
    response.writeHead(404).end()
    return
  }
  response.setHeader('accept-ranges', 'bytes')
  const range = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? '')
  const start = Number(range?.[1] ?? 0)
  const end = Number(range?.[2] ?? found.size - 1)
  response.setHeader('content-length', end - start + 1)
  if (range !== null) response.setHeader('content-range', `bytes ${start}-${end}/${found.size}`)
  response.writeHead(range === null ? 200 : 206)
  if (request.method === 'HEAD') response.end()
  else
    await pipeline(createReadStream(path, { start, end, highWaterMark: PIECE_BYTES }), response).catch(
      () => {},
    )
}).listen(0, '127.0.0.1')
await once(server, 'listening')
console.log(`port ${(server.address() as AddressInfo).port}`)
