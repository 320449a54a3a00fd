// The demo's repos are what they claim to be: a stock client runs the real model from the local Hub, and the sharded repo
// is valid safetensors and the same on every run.
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import test from 'node:test'
import { parseSafetensorsMetadata } from '@huggingface/hub'
import { SILERO_MODEL_FILE, SILERO_MODEL_SHA256, shardedRepo, sileroRepo } from '../../demo/repos.ts'
import { startLocalHub } from '../support/local-hub/hub.ts'
import { runSileroFromFile, runSileroFromHub } from '../support/silero.ts'
import { tempFolder } from '../support/temp-folder.ts'

test('a stock client runs the real Silero model from the local Hub, with the outputs of the file itself', async (context) => {
  await using hub = await startLocalHub({ repos: [await sileroRepo()] })
  const [fromHub, fromFile] = await Promise.all([
    runSileroFromHub(hub.url, await tempFolder(context)),
    runSileroFromFile(SILERO_MODEL_FILE),
  ])
  assert.equal(fromHub.length, 8 + 256)
  assert.ok(fromHub.slice(0, 8).every((probability) => probability > 0 && probability < 1))
  assert.ok(new Set(fromHub).size > 200, 'the model answers with many different numbers')
  assert.deepEqual(fromHub, fromFile)
})

test('the model file kept here is the published one', async () => {
  const bytes = await readFile(SILERO_MODEL_FILE)
  assert.equal(createHash('sha256').update(bytes).digest('hex'), SILERO_MODEL_SHA256)
})

test('the sharded repo is valid safetensors, and the same from the same seed only', async (context) => {
  const shape = { id: 'shoal-demo/sharded', seed: 7, shards: 3, shardBytes: 1_000_000 }
  await using hub = await startLocalHub({ repos: [shardedRepo(shape)] })
  const name = { repo: shape.id, path: 'model-00002-of-00003.safetensors' }
  const parsed = await parseSafetensorsMetadata({
    repo: shape.id,
    hubUrl: hub.url,
    computeParametersCount: true,
  })
  assert.ok(parsed.sharded)
  assert.equal(Object.keys(parsed.headers).length, 3)
  const parameters = Object.values(parsed.parameterCount ?? {}).reduce((sum, count) => sum + count, 0)
  assert.ok(Math.abs(parameters * 2 - 3 * shape.shardBytes) < 3 * 2048)
  assert.ok(Math.abs(hub.file(name).sizeBytes - shape.shardBytes) < 4096)
  const twins = await startLocalHub({
    repos: [shardedRepo(shape), shardedRepo({ ...shape, id: 'a/b', seed: 8 })],
  })
  context.after(() => twins.stop())
  assert.equal(twins.oidOf(name), hub.oidOf(name))
  assert.notEqual(twins.oidOf({ ...name, repo: 'a/b' }), hub.oidOf(name))
})
