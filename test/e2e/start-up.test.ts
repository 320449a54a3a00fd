// How soon an agent is ready and how much memory it has then, with a million chunks on record: after an orderly end, a kill, a power loss.
import assert from 'node:assert/strict'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import test, { type TestContext } from 'node:test'
import { storeLayout } from '@shoal/agent/store/layout.ts'
import { startAgent } from '../support/agent-process.ts'
import { figure } from '../support/figures.ts'
import { type SeededStorage, seedStorage } from '../support/seeded-storage.ts'
import { tempFolder } from '../support/temp-folder.ts'

const NO_HUB = 'http://127.0.0.1:9'

/** Starts three times, with a kill and a lost boot in between. */
async function started(context: TestContext, seeded: SeededStorage, expectedBlobs: number): Promise<void> {
  const storage = join(await tempFolder(context), 'store')
  await seedStorage(storage, seeded)
  for (const before of ['first start', 'after a kill', 'after a power loss'] as const) {
    if (before === 'after a power loss')
      await writeFile(storeLayout(storage).session, JSON.stringify({ bootId: 'another boot' }))
    const agent = await startAgent(context, { hub: NO_HUB, storage })
    const rssBytes = await agent.rss()
    console.log(
      `${before}: ready after ${agent.readyAfterMs.toFixed(0)} ms with ${(rssBytes / 1e6).toFixed(0)} MB`,
    )
    assert.equal((await agent.status()).storage.blobs, expectedBlobs)
    assert.ok(agent.readyAfterMs < figure(3_000, 30_000), `${agent.readyAfterMs} ms`)
    assert.ok(rssBytes < figure(250e6, 500e6), `${rssBytes} bytes`)
    if (before === 'first start') agent.kill('SIGKILL')
    else await agent.stop()
    await agent.exited
  }
}

test('with 100 complete blobs of 10,000 chunks an agent is ready in 3 s with 250 MB', async (context) => {
  await started(context, { completeBlobs: 100, chunksPerBlob: 10_000, chunkBytes: 4 * 1024 * 1024 }, 100)
})

test('with a million chunks held of 200 partial blobs an agent is ready in 3 s with 250 MB', async (context) => {
  await started(context, { partialBlobs: 200, chunksPerBlob: 10_000, chunkBytes: 4 * 1024 * 1024 }, 0)
})
