// The command line's hand on downloads, its plans and its limits: what it prints, what it asks of the agent, and its exit codes.
import assert from 'node:assert/strict'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import type { BlobProgress } from '@shoal/agent/downloads-port.ts'
import { IDLE } from '@shoal/agent/plan/pull-efficiency.ts'
import { parseBlobId } from '@shoal/protocol/ids.ts'
import { MODEL, pullOf, startAgentApi } from '../support/agent-api.ts'
import { shoal } from '../support/command-line.ts'
import { memoryPlan } from '../support/memory-models.ts'
import { tempFolder } from '../support/temp-folder.ts'

async function world(context: TestContext) {
  const folder = await tempFolder(context)
  const api = await startAgentApi(join(folder, 'storage'))
  context.after(() => api[Symbol.asyncDispose]())
  const env = { SHOAL_HTTP: api.url, SHOAL_STORAGE_PATH: join(folder, 'storage') }
  return { api, run: (...args: string[]) => shoal(args, { folder, env }) }
}

const RUNNING = pullOf({
  id: 'aaaa1111-0',
  state: 'running',
  doneBytes: 1_150_000,
  endedAt: undefined,
  place: 1,
})
const QUEUED = pullOf({
  id: 'aaaa2222-0',
  state: 'queued',
  doneBytes: 0,
  bytesPerSecond: 0,
  endedAt: undefined,
  place: 2,
})
const PAUSED = pullOf({
  id: 'bbbb3333-0',
  state: 'paused',
  priority: 'preheat',
  endedAt: undefined,
  place: 3,
  bytesPerSecond: 0,
})
const ENDED = pullOf({ id: 'cccc4444-0' })

const arriving: BlobProgress = {
  blob: parseBlobId(`sha256:${'b'.repeat(64)}`),
  repo: MODEL,
  path: 'onnx/model.onnx',
  sizeBytes: 2_000_000,
  heldBytes: 1_000_000,
  originBytes: 800_000,
  peerBytes: 200_000,
  diskBytes: 0,
  state: 'running',
  peers: 3,
  error: undefined,
  priority: 'reader',
  bytesPerSecond: 500_000,
  doing: IDLE,
}

test('downloads shows every pull and every file that arrives with state, priority, rate, time left, peers and sources', async (t) => {
  const { api, run } = await world(t)
  api.listed = [RUNNING, QUEUED, PAUSED, ENDED]
  api.arriving = [arriving, { ...arriving, path: 'held.bin', state: 'paused', priority: undefined }]
  const { code, stdout } = await run('downloads')
  assert.equal(code, 0)
  assert.match(stdout, /^ID +PULL +STATE +PRIORITY +DONE +SIZE +RATE +LEFT +PEERS +FROM$/m)
  assert.match(
    stdout,
    /^aaaa1111 +org\/model@main +running +pull +50% +2\.3 MB +1\.0 MB\/s +1\.1 s +2 +origin 2\.0 MB, peers 300 kB, disk 0 B$/m,
  )
  assert.match(stdout, /^aaaa2222 +org\/model@main +queued +pull +0%/m)
  assert.match(stdout, /^bbbb3333 +org\/model@main +paused +preheat/m)
  assert.match(
    stdout,
    /^org\/model +onnx\/model\.onnx +running +reader +50% +2\.0 MB +500 kB\/s +2\.0 s +3 +origin 800 kB/m,
  )
  assert.match(stdout, /^org\/model +held\.bin +paused +50% +2\.0 MB +0 B\/s +3 /m)
  assert.match(stdout, /2 pulls not running/)
  const json = JSON.parse((await run('downloads', '--json')).stdout)
  assert.deepEqual(
    json.pulls.map(({ place }: { place: number | null }) => place),
    [1, 2, 3, null],
  )
})

test('pause, resume and cancel take ids, beginnings of ids, repositories or --all, and pass each by itself to the agent', async (t) => {
  const { api, run } = await world(t)
  let seen = 0
  const since = () => {
    const fresh = api.asked.slice(seen)
    seen = api.asked.length
    return fresh
  }
  api.listed = [RUNNING, QUEUED, PAUSED, ENDED]
  assert.match((await run('downloads', 'pause', 'aaaa1', 'aaaa1111-0')).stdout, /^Paused org\/model@main/)
  assert.deepEqual(since(), ['pause aaaa1111-0'])
  await run('downloads', 'pause', '--all')
  assert.deepEqual(since(), ['pause aaaa1111-0', 'pause aaaa2222-0'])
  await run('downloads', 'resume', '--all')
  assert.deepEqual(since(), ['resume bbbb3333-0'])
  await run('downloads', 'cancel', 'org/model@main')
  assert.deepEqual(since(), ['cancel aaaa1111-0', 'cancel aaaa2222-0', 'cancel bbbb3333-0'])
  const json = JSON.parse((await run('downloads', 'pause', 'bbbb', '--json')).stdout)
  assert.equal(json.pulls.length, 1)
  api.listed = []
  assert.equal((await run('downloads', 'resume', '--all')).stdout, 'There is nothing to do.\n')
})

test('first, last and move pass the order as it was named', async (t) => {
  const { api, run } = await world(t)
  api.listed = [RUNNING, QUEUED, PAUSED]
  assert.equal((await run('downloads', 'first', 'bbbb3333', 'aaaa2222')).code, 0)
  await run('downloads', 'last', 'aaaa1111')
  await run('downloads', 'move', 'aaaa1111', '--to', '2')
  assert.deepEqual(api.asked, [
    'move bbbb3333-0 aaaa2222-0 to first',
    'move aaaa1111-0 to last',
    'move aaaa1111-0 to 1',
  ])
})

const WRONG: readonly (readonly [id: string, args: readonly string[], code: number, says: RegExp])[] = [
  ['no name at all', ['pause'], 2, /name downloads, or say --all/],
  ['names and --all', ['pause', 'aaaa1', '--all'], 2, /not both/],
  ['an id of nobody', ['pause', 'zzzz'], 1, /is called zzzz.*not-found/],
  ['an id that has ended', ['pause', 'cccc4444'], 1, /not-found/],
  ['too short an id', ['cancel', 'aaa'], 1, /not-found/],
  ['an id of two', ['cancel', 'aaaa'], 1, /may be .*aaaa1111.* or .*aaaa2222.*write more/],
  ['an unknown verb', ['stop', 'aaaa'], 2, /./],
  ['a place that is none', ['move', 'aaaa1', '--to', '0'], 2, /whole number from 1/],
  ['no place', ['move', 'aaaa1'], 2, /--to/],
  ['first of nothing', ['first'], 2, /missing required argument/],
]

test('wrong words for downloads end with a sentence and ask nothing of the agent', async (t) => {
  const { api, run } = await world(t)
  api.listed = [RUNNING, QUEUED, PAUSED, ENDED]
  for (const [id, args, code, says] of WRONG) {
    const ran = await run('downloads', ...args)
    assert.equal(ran.code, code, `${id}: ${ran.stdout}${ran.stderr}`)
    assert.match(ran.stderr, says, id)
  }
  assert.deepEqual(api.asked, [])
})

test('plan shows bytes by source, time, room, what would go and what the Hub still allows', async (t) => {
  const { api, run } = await world(t)
  const { code, stdout } = await run('plan', 'org/model@main', '--include', '*.onnx')
  assert.equal(code, 0)
  assert.deepEqual(api.asked, ['plan org/model@main *.onnx'])
  assert.match(stdout, /^Pull +org\/model@main \(commit 0123456\): 3 files, 10 MB; 1 complete here$/m)
  assert.match(
    stdout,
    /^From +disk 1\.0 MB, near peers 6\.0 MB, far peers 1\.0 MB, origin 2\.0 MB \(2 peers asked\)$/m,
  )
  assert.match(stdout, /^Time +about 4\.0 s$/m)
  assert.match(stdout, /^Disk +9\.0 MB needed, 50 MB free \(no limit\): fits$/m)
  assert.match(stdout, /^Evicted +nothing/m)
  assert.match(stdout, /^Requests left +480 of api/m)
  api.plan = {
    ...memoryPlan,
    notAskedBytes: 2_000_000,
    time: { known: false, because: 'nothing has come from peers yet since the agent started' },
    disk: { neededBytes: 9_000_000, freeBytes: 5_000_000, limitBytes: 8_000_000, missingBytes: 4_000_000 },
  }
  const tight = (await run('plan', 'org/model')).stdout
  assert.match(tight, /peers were not asked about 2\.0 MB of the origin's/)
  assert.match(tight, /^Time +not known: nothing has come from peers/m)
  assert.match(tight, /^Disk .*5\.0 MB free \(limit 8\.0 MB\): does NOT fit: 4\.0 MB too little$/m)
  const json = JSON.parse((await run('plan', 'org/model', '--json')).stdout)
  assert.deepEqual([json.timeMs, json.disk.missingBytes, json.bytes.near], [null, 4_000_000, 6_000_000])
})

test('pull prints the plan beside what happened, and where the time went that was not needed', async (t) => {
  const { api, run } = await world(t)
  const lostMs = { origin: 1_000, peers: 400, stall: 0, verification: 90, disk: 10 }
  api.pulls = [
    pullOf({
      planned: memoryPlan,
      efficiency: { actualMs: 2_000, boundMs: 500, efficiency: 0.25, lostMs },
    }),
  ]
  const { stdout } = await run('pull', 'org/model')
  assert.match(stdout, /^from origin 2\.0 MB, peers 300 kB, disk 0 B$/m)
  assert.match(
    stdout,
    /^planned: disk 1\.0 MB, near peers 6\.0 MB, far peers 1\.0 MB, origin 2\.0 MB; time about 4\.0 s$/m,
  )
  assert.match(
    stdout,
    /^efficiency 25%: 500 ms was possible, 2\.0 s was needed; the rest: 1\.0 s waiting for the origin, 400 ms slow peers, 90 ms verification$/m,
  )
  await run('pull', 'org/model', '--priority', 'preheat')
  assert.equal(api.asked.at(-1), 'pull org/model@main preheat')
  assert.equal((await run('pull', 'org/model', '--priority', 'reader')).code, 2)
})

test('limits are shown, changed one by one, lifted, and set to nothing for peers', async (t) => {
  const { run } = await world(t)
  assert.match(
    (await run('limits')).stdout,
    /^Up +unlimited\nUp per peer +unlimited\nDown +unlimited\nOrigin +unlimited\nPer download +unlimited\nBackground +off\nThis month +0 B from the origin\n$/,
  )
  const changed = await run('limits', '--up', '20MB', '--down', '100mbit', '--origin', '1.5 MiB/s')
  assert.match(changed.stdout, /^Up +20 MB\/s \(160 Mbit\/s\)$/m)
  assert.match(changed.stdout, /^Down +13 MB\/s \(100 Mbit\/s\)$/m)
  const json = JSON.parse((await run('limits', '--up', '0', '--origin', 'unlimited', '--json')).stdout)
  assert.deepEqual(
    [json.upBytesPerSecond, json.downBytesPerSecond, json.originBytesPerSecond, json.givesToPeers],
    [0, 12_500_000, null, false],
  )
  assert.deepEqual(json.inForce.down, { bytesPerSecond: 12_500_000, because: 'set' })
  const yielding = await run('limits', '--background', 'on')
  assert.match(yielding.stdout, /^Down +1\.0 MB\/s \(8 Mbit\/s\), because of background mode$/m)
  assert.match((await run('limits', '--background', 'off')).stdout, /^Background +off$/m)
  assert.match((await run('limits', '--per-download', '2MB')).stdout, /^Per download +2\.0 MB\/s/m)
  assert.match((await run('limits')).stdout, /^Up +nothing/m)
  for (const args of [
    ['--up', 'fast'],
    ['--background', 'perhaps'],
    ['--down', '0'],
    ['--origin', '100kB'],
    ['--up-per-peer', '-5MB'],
    ['--down', '10 parsecs'],
    ['--down', '9999999999TB'],
  ]) {
    const ran = await run('limits', ...args)
    assert.equal(ran.code, 2, args.join(' '))
    assert.match(ran.stderr, /rate|at least|on or off/)
  }
})
