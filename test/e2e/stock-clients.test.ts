// Stock clients, unmodified, through an agent that holds nothing yet: @huggingface/hub, @huggingface/transformers, curl.
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { appendFile, readFile, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import test, { type TestContext } from 'node:test'
import { promisify } from 'node:util'
import { downloadFile, fileExists, listFiles, modelInfo, pathsInfo, snapshotDownload } from '@huggingface/hub'
import { SILERO_MODEL_FILE, sileroRepo } from '../../demo/repos.ts'
import { type AgentProcess, startAgent } from '../support/agent-process.ts'
import { seededContent } from '../support/local-hub/content.ts'
import { type LocalHub, startLocalHub } from '../support/local-hub/hub.ts'
import { runSileroFromFile, runSileroFromHub } from '../support/silero.ts'
import { tempFolder } from '../support/temp-folder.ts'

const run = promisify(execFile)
const REPO = 'lab/stock'
const NAMES = [
  'with space.txt',
  'a+b.txt',
  'ünïcode/文件.txt',
  'deep/er/file.txt',
  'empty.txt',
  'model.safetensors',
]

async function world(context: TestContext): Promise<{ hub: LocalHub; agent: AgentProcess }> {
  const hub = await startLocalHub({
    repos: [
      await sileroRepo(),
      {
        id: REPO,
        pulls: [1],
        tags: ['v1'],
        files: {
          'with space.txt': 'one\n',
          'a+b.txt': 'two\n',
          'ünïcode/文件.txt': 'three\n',
          'deep/er/file.txt': 'four\n',
          'empty.txt': '',
          'model.safetensors': seededContent('stock', 9_000_001),
        },
      },
    ],
  })
  context.after(() => hub.stop())
  return { hub, agent: await startAgent(context, { hub: hub.url }) }
}

test('@huggingface/hub lists, looks up and downloads through an agent that holds nothing', async (context) => {
  const { hub, agent } = await world(context)
  const repo = REPO
  const hubUrl = agent.url
  const info = await modelInfo({ name: REPO, hubUrl, additionalFields: ['sha'] })
  assert.equal(info.name, REPO)
  const listed: string[] = []
  for await (const entry of listFiles({ repo, hubUrl, recursive: true }))
    if (entry.type === 'file') listed.push(entry.path)
  assert.deepEqual(listed.toSorted(), NAMES.toSorted())
  assert.equal(await fileExists({ repo, hubUrl, path: 'a+b.txt' }), true)
  assert.equal(await fileExists({ repo, hubUrl, path: 'a b.txt' }), false)
  const [entry] = await pathsInfo({ repo, hubUrl, paths: ['model.safetensors'], expand: true })
  assert.equal(entry?.lfs?.oid, hub.oidOf({ repo: REPO, path: 'model.safetensors' }))
  for (const path of NAMES) {
    for (const revision of ['main', 'refs/pr/1', 'v1']) {
      const blob = await downloadFile({ repo, hubUrl, path, revision })
      assert.ok(blob !== null, `${path} at ${revision}`)
      const bytes = Buffer.from(await blob.arrayBuffer())
      assert.equal(digestOf(bytes, path), hub.oidOf({ repo: REPO, path }), `${path} at ${revision}`)
    }
  }
  assert.equal(await downloadFile({ repo, hubUrl, path: 'absent.bin' }), null)
  const cacheDir = await tempFolder(context)
  const snapshot = await snapshotDownload({ repo, hubUrl, cacheDir })
  for (const path of NAMES) {
    const bytes = await readFile(join(snapshot, path))
    assert.equal(digestOf(bytes, path), hub.oidOf({ repo: REPO, path }), path)
  }
  assert.equal(hub.counts.tokenLeaks, 0)
  const { max } = hub.copiesOf({ repo: REPO, path: 'model.safetensors' })
  assert.equal(max, 1, 'every byte left the Hub once')
})

test('transformers.js runs the real Silero model through an agent, with the outputs of the file itself', async (context) => {
  const { agent } = await world(context)
  const [through, direct] = await Promise.all([
    runSileroFromHub(agent.url, await tempFolder(context)),
    runSileroFromFile(SILERO_MODEL_FILE),
  ])
  assert.equal(through.length, 8 + 256)
  assert.deepEqual(through, direct)
})

test('curl gets ranges, resumes and heads', async (context) => {
  const { hub, agent } = await world(context)
  const folder = await tempFolder(context)
  const url = `${agent.url}/${REPO}/resolve/main/model.safetensors`
  const oid = hub.oidOf({ repo: REPO, path: 'model.safetensors' })
  const whole = join(folder, 'whole')
  const curl = async (...args: string[]) => (await run('curl', ['-sS', '--fail', ...args, url])).stdout
  const head = await curl('-I')
  assert.match(head, /^HTTP\/1\.1 200/)
  assert.match(head, /content-length: 9000001/i)
  assert.match(head, new RegExp(`etag: "${oid}"`, 'i'))
  assert.match(head, /x-repo-commit: [0-9a-f]{40}/i)
  assert.equal(hub.counts.bytes, 0, 'HEAD is answered from metadata')
  const part = join(folder, 'part')
  await curl('-r', '4194300-4194310', '-o', part)
  await curl('-o', whole)
  const bytes = await readFile(whole)
  assert.equal(createHash('sha256').update(bytes).digest('hex'), oid)
  assert.deepEqual(await readFile(part), bytes.subarray(4_194_300, 4_194_311))
  const resumed = join(folder, 'resumed')
  await writeFile(resumed, bytes)
  await truncate(resumed, 5_000_000)
  await curl('-C', '-', '-o', resumed)
  assert.deepEqual(await readFile(resumed), bytes)
  await appendFile(resumed, 'x')
  await assert.rejects(curl('-r', '9000001-', '-o', join(folder, 'beyond')), /416/)
})

function digestOf(bytes: Buffer, path: string): string {
  if (path.endsWith('.safetensors')) return createHash('sha256').update(bytes).digest('hex')
  return createHash('sha1').update(`blob ${bytes.byteLength}\0`).update(bytes).digest('hex')
}
