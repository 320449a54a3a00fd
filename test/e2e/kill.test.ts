// kill -9 at random moments of a pull loses nothing that was proven, costs few bytes, and leaves no litter.
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import test from 'node:test'
import { seededRandom, sleep, systemClock } from '@shoal/protocol/time.ts'
import { startAgent } from '../support/agent-process.ts'
import { spawnLocalHub } from '../support/local-hub/process.ts'
import { tempFolder } from '../support/temp-folder.ts'

const MIB = 1024 * 1024
const CHUNK = 4 * MIB
/** Requests to the origin that may be open when the process dies. */
const OPEN_REQUESTS = 8
const REPO = 'lab/killed'
const PATH = 'model.safetensors'
const kills = process.env.SHOAL_LONG_TESTS === '1' ? 20 : 8
const seed = Number(process.env.SEED ?? 7)

test(`${kills} kills at random points of a 1 GiB pull: right at the end, a chunk per open request again per kill`, {
  timeout: 280_000,
}, async (context) => {
  console.log(`SEED=${seed}`)
  const random = seededRandom(seed)
  const sizeBytes = 1024 * MIB
  const hub = await spawnLocalHub({
    repos: [{ id: REPO, files: { [PATH]: { seed: 'killed', sizeBytes } } }],
    bytesPerSecond: 150e6,
  })
  context.after(() => hub.stop())
  const storage = join(await tempFolder(context), 'store')
  let slowestReadyMs = 0
  for (let kill = 0; kill < kills; kill++) {
    const agent = await startAgent(context, { hub: hub.url, storage })
    slowestReadyMs = Math.max(slowestReadyMs, agent.readyAfterMs)
    await agent.startPull(REPO)
    await sleep(systemClock, 50 + random.next() * 700)
    agent.kill('SIGKILL')
    await agent.exited
  }
  const agent = await startAgent(context, { hub: hub.url, storage })
  slowestReadyMs = Math.max(slowestReadyMs, agent.readyAfterMs)
  await agent.pull(REPO)
  const oid = await hub.control.oidOf({ repo: REPO, path: PATH })
  const hash = createHash('sha256')
  await pipeline(createReadStream(join(agent.hubCache, 'models--lab--killed', 'blobs', oid)), hash)
  assert.equal(hash.digest('hex'), oid)
  const { bytes } = await hub.control.counts()
  const again = bytes - sizeBytes
  console.log(
    `fetched again ${(again / MIB).toFixed(1)} MiB after ${kills} kills; slowest start ${slowestReadyMs.toFixed(0)} ms`,
  )
  assert.ok(again <= kills * OPEN_REQUESTS * CHUNK, `${again} bytes`)
  assert.ok(slowestReadyMs < 3_000)
  assert.equal(await agent.stop(), 0)
  const litter = (await readdir(storage, { recursive: true, withFileTypes: true }))
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(storage.length))
    .filter((name) => /partial|temp|\.new$|\.tmp|incomplete/i.test(name))
  assert.deepEqual(litter, [])
})
