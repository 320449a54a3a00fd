// The command line against an agent's API: what it prints, what it asks, and its exit codes. In this process; real processes
// are in cli-process.test.ts.
import assert from 'node:assert/strict'
import { chmod, readFile, stat, writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { ShoalError } from '@shoal/protocol/errors.ts'
import { AGENT_READY_FILE, writeReadyFile } from '@shoal/protocol/ready-file.ts'
import { type AgentApi, MODEL, PEER, pullOf, startAgentApi } from '../support/agent-api.ts'
import { type Ran, shoal } from '../support/command-line.ts'
import { tempFolder } from '../support/temp-folder.ts'

interface World {
  readonly api: AgentApi
  readonly folder: string
  run(...args: string[]): Promise<Ran>
}

async function world(context: TestContext, env: Readonly<Record<string, string>> = {}): Promise<World> {
  const folder = await tempFolder(context)
  const api = await startAgentApi(join(folder, 'storage'))
  context.after(() => api[Symbol.asyncDispose]())
  const all = { SHOAL_HTTP: api.url, SHOAL_STORAGE_PATH: join(folder, 'storage'), ...env }
  return { api, folder, run: (...args) => shoal(args, { folder, env: all }) }
}

function errorOf(ran: Ran): { code: string; message: string; details: Record<string, unknown> } {
  const body = JSON.parse(ran.stdout)
  assert.deepEqual(Object.keys(body), ['error'])
  assert.deepEqual(Object.keys(body.error).sort(), ['code', 'details', 'message'])
  return body.error
}

/** Answers 200 and `body` to everything. */
async function startOtherProgram(context: TestContext, body: string): Promise<string> {
  const server = createServer((_, response) => response.end(body))
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  context.after(() => server.close())
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}

const EVERY_COMMAND: readonly (readonly string[])[] = [
  ['agent'],
  ['pull', 'org/model'],
  ['ls'],
  ['show', 'org/model'],
  ['rm', 'org/model'],
  ['verify', 'org/model'],
  ['status'],
  ['peers'],
  ['downloads'],
  ['downloads', 'pause', 'p1'],
  ['downloads', 'resume', 'p1'],
  ['downloads', 'cancel', 'p1'],
  ['downloads', 'first', 'p1'],
  ['downloads', 'last', 'p1'],
  ['downloads', 'move', 'p1', '--to', '1'],
  ['plan', 'org/model'],
  ['limits'],
  ['env'],
  ['invite'],
  ['join', 'shoal1-AAAA'],
  ['config', 'init'],
  ['config', 'validate'],
  ['config', 'show'],
]

for (const words of EVERY_COMMAND) {
  const name = words.join(' ')
  test(`\`${name} --help\` explains the command on stdout and ends with 0`, async (context) => {
    const ran = await shoal(
      [...words.slice(0, words[0] === 'config' || words[0] === 'downloads' ? 2 : 1), '--help'],
      {
        folder: await tempFolder(context),
      },
    )
    assert.equal(ran.code, 0)
    assert.match(ran.stdout, /^Usage: shoal /)
    assert.match(ran.stdout, /--json/)
    assert.equal(ran.stderr, '')
  })

  test(`\`${name}\` with an unknown flag is wrong use, in words and in JSON`, async (context) => {
    const folder = await tempFolder(context)
    const plain = await shoal([...words, '--jsom'], { folder })
    assert.equal(plain.code, 2)
    assert.equal(plain.stdout, '')
    assert.match(plain.stderr, /unknown option '--jsom'\n\(Did you mean --json\?\)/)
    const ran = await shoal([...words, '--json', '--jsom'], { folder })
    assert.equal(ran.code, 2)
    assert.equal(errorOf(ran).code, 'bad-request')
    assert.equal(ran.stderr, '')
  })
}

const WRONG_USE: readonly { readonly id: string; readonly args: readonly string[]; readonly says: RegExp }[] =
  [
    { id: 'no command', args: [], says: /^Usage: shoal/ },
    {
      id: 'an unknown command',
      args: ['pul', 'a/b'],
      says: /unknown command 'pul'\n\(Did you mean pull\?\)/,
    },
    { id: 'a group without its command', args: ['config'], says: /^Usage: shoal config/ },
    { id: 'a missing argument', args: ['pull'], says: /missing required argument/ },
    { id: 'one argument too many', args: ['show', 'a/b', 'c/d'], says: /too many arguments/ },
    {
      id: 'a repo that is a path',
      args: ['pull', '../etc/passwd'],
      says: /^error: not a repository id: "..\/etc\/passwd"/,
    },
    { id: 'a repo that looks like a flag', args: ['pull', '-org/model'], says: /unknown option/ },
    {
      id: 'the same after --',
      args: ['pull', '--', '-org/model'],
      says: /^error: not a repository id: "-org\/model"/,
    },
    { id: 'a bad revision', args: ['pull', 'org/model@a..b'], says: /not a revision/ },
    {
      id: 'a revision where none belongs',
      args: ['rm', 'org/model@main'],
      says: /whole repository: write org\/model/,
    },
    { id: 'a flag without its value', args: ['pull', 'a/b', '--include'], says: /argument missing/ },
    {
      id: 'minutes that are no number',
      args: ['invite', '--expires-minutes', '-5'],
      says: /whole number from 1/,
    },
  ]

for (const { id, args, says } of WRONG_USE) {
  test(`${id} is wrong use: exit code 2, a sentence, nothing on stdout`, async (context) => {
    const folder = await tempFolder(context)
    const ran = await shoal(args, { folder })
    assert.equal(ran.code, 2)
    assert.match(ran.stderr, says)
    assert.equal(ran.stdout, '')
    assert.equal((await shoal(['--json', ...args], { folder })).code, 2)
  })
}

const NEEDS_AGENT = EVERY_COMMAND.filter(
  ([first]) => first !== 'config' && first !== 'agent' && first !== 'join',
)

for (const words of NEEDS_AGENT) {
  test(`\`${words.join(' ')}\` without an agent fails and says how to start one`, async (context) => {
    const folder = await tempFolder(context)
    // Port 9 of this machine is closed wherever tests run.
    const env = { SHOAL_HTTP: 'http://127.0.0.1:9' }
    const ran = await shoal(words, { folder, env })
    assert.equal(ran.code, 1)
    assert.match(ran.stderr, /^error: no agent answers at http:\/\/127.0.0.1:9 .*Start one with: shoal agent/)
    assert.equal(errorOf(await shoal([...words, '--json'], { folder, env })).code, 'not-running')
  })

  test(`\`${words.join(' ')}\` passes on what the agent refuses, with its code`, async (context) => {
    const { api, run } = await world(context)
    api.refusal = { code: 'store-full', message: 'no room' }
    const ran = await run(...words)
    assert.equal(ran.code, 1)
    assert.match(ran.stderr, /error: no room \(store-full\)/)
    assert.deepEqual(errorOf(await run(...words, '--json')), {
      code: 'store-full',
      message: 'no room',
      details: {},
    })
  })

  test(`\`${words.join(' ')}\` does not take another program for an agent`, async (context) => {
    const folder = await tempFolder(context)
    const url = await startOtherProgram(context, '<html>hello</html>')
    const ran = await shoal([...words, '--json'], { folder, env: { SHOAL_HTTP: url } })
    assert.equal(ran.code, 1)
    assert.match(errorOf(ran).message, /is no agent of this version of shoal/)
  })
}

test('the agent is found by the ready file in the storage path, and SHOAL_HTTP wins over it', async (context) => {
  const { api, folder } = await world(context)
  const storage = await tempFolder(context)
  await writeReadyFile(join(storage, AGENT_READY_FILE), { http: api.url, pid: 1, p2p: [], peerId: PEER })
  for (const [id, args, env] of [
    ['environment', ['status', '--json'], { SHOAL_STORAGE_PATH: storage }],
    ['flag', ['status', '--json', '--storage', storage], {}],
    ['SHOAL_HTTP', ['status', '--json'], { SHOAL_STORAGE_PATH: folder, SHOAL_HTTP: `${api.url}/` }],
  ] as const) {
    const ran = await shoal(args, { folder, env })
    assert.equal(ran.code, 0, `${id}: ${ran.stderr}`)
    assert.equal(JSON.parse(ran.stdout).peerId, PEER, id)
  }
})

test('settings that have nothing to do with finding the agent do not keep a command from it', async (context) => {
  const { folder, run } = await world(context, { SHOAL_HTTP: '' })
  await writeFile(join(folder, 'shoal.json'), JSON.stringify({ mesh: { secret_file: '/no/such', sute: 1 } }))
  const ran = await run('status')
  assert.match(ran.stderr, /no agent answers at http:\/\/127.0.0.1:8001/)
})

test('status, ls, show, peers and downloads read well and their JSON is the answer itself', async (context) => {
  const { api, run } = await world(context)
  api.connected = true
  const expected: readonly (readonly [readonly string[], RegExp])[] = [
    [['status'], /Kept here +12 GB in 231 blobs; no limit, 120 GB free on the disk/],
    [['ls'], /^org\/model +main \(0123456\) +1\/2 +1\.2 MB +52%$/m],
    [['show', 'org/model'], /^onnx\/model\.onnx +2\.3 MB +52% +sha256:b{64}$/m],
    [
      ['peers'],
      /^…[\w]{10} +\/ip4\/192\.0\.2\.9\/tcp\/8002 +outbound .* 5\.0 MB +12 B +7 +lab\/r1 +0\.1\.0\ufffd\[31m$/m,
    ],
    [['downloads'], /^p1 +org\/model@main +complete +pull +100% +2\.3 MB/m],
  ]
  for (const [args, line] of expected) {
    const ran = await run(...args)
    assert.equal(ran.code, 0, ran.stderr)
    assert.match(ran.stdout, line)
    assert.doesNotMatch(ran.stdout, /undefined|null|NaN/)
    assert.ok(!ran.stdout.includes('\u001b'), 'no escape sequence of a peer')
    assert.equal(typeof JSON.parse((await run(...args, '--json')).stdout), 'object')
  }
})

test('pull asks for what was said and reports size, time and where the bytes came from', async (context) => {
  const { api, run } = await world(context)
  api.pulls = [
    pullOf({ state: 'resolving', doneBytes: 0, totalBytes: 0, commit: undefined, endedAt: undefined }),
    pullOf({ state: 'running', doneBytes: 1_150_000, endedAt: undefined }),
    pullOf(),
  ]
  const ran = await run(
    'pull',
    'org/model@main',
    '--include',
    '*.json',
    '--include',
    '*.onnx',
    '--exclude',
    'x*',
  )
  assert.equal(ran.code, 0, ran.stderr)
  assert.deepEqual(api.asked, ['pull org/model@main *.json *.onnx !x*'])
  assert.match(ran.stdout, /^org\/model@main \(commit 0123456\): 3 files, 2\.3 MB, all here after 2\.0 s/)
  assert.match(ran.stdout, /origin 2\.0 MB, peers 300 kB, disk 0 B/)
  assert.match(ran.stderr, /asking which files there are/)
  api.pulls = [pullOf()]
  const json = await run('pull', 'org/model', '--json')
  assert.equal(JSON.parse(json.stdout).state, 'complete')
  api.pulls = [pullOf({ originBytes: 0, peerBytes: 0, diskBytes: 2_300_000 })]
  assert.match((await run('pull', 'org/model')).stdout, /3 files, 2\.3 MB, all here already\./)
})

test('a pull that fails or is cancelled elsewhere ends with 1, its code and its message', async (context) => {
  const { api, run } = await world(context)
  const error = { code: 'repo-not-found', message: 'no such repo on the Hub' }
  api.pulls = [pullOf({ state: 'running', endedAt: undefined }), pullOf({ state: 'failed', error })]
  const failed = await run('pull', 'org/model')
  assert.equal(failed.code, 1)
  assert.match(failed.stderr, /could not be fetched: no such repo on the Hub \(repo-not-found\)/)
  assert.equal(errorOf(await run('pull', 'org/model', '--json')).code, 'repo-not-found')
  api.pulls = [pullOf({ state: 'cancelled' })]
  const cancelled = await run('pull', 'org/model', '--json')
  assert.equal(cancelled.code, 1)
  assert.equal(errorOf(cancelled).code, 'aborted')
})

test('rm removes and says what was freed', async (context) => {
  const { api, run } = await world(context)
  const ran = await run('rm', 'org/model')
  assert.equal(ran.stdout, 'Removed org/model: 1.2 MB freed (2 blobs).\n')
  assert.deepEqual(api.asked, ['remove org/model'])
})

test('verify ends with 0 when all is good, 1 when a file is bad, 1 when it could not finish', async (context) => {
  const { api, run } = await world(context)
  const good = { repo: MODEL, path: 'a.bin', ok: true, badChunks: [], bytes: 1000 }
  const bad = { ...good, path: 'b.bin', ok: false, badChunks: [3, 5] }
  api.verified = [good]
  const fine = await run('verify')
  assert.equal(fine.code, 0)
  assert.match(fine.stdout, /^1 file, 1\.0 kB checked in .*: all good\.\n$/)

  api.verified = [good, bad]
  const found = await run('verify', 'org/model')
  assert.equal(found.code, 1)
  assert.match(found.stdout, /^BAD {2}org\/model {2}b\.bin: 2 bad chunks \(3, 5\)\n2 files, .*: 1 bad\.\n$/)
  assert.deepEqual(api.asked, ['verify all', 'verify org/model'])
  const json = await run('verify', '--json')
  assert.equal(json.code, 1)
  const badFiles = [{ ...bad, repo: 'org/model' }]
  assert.deepEqual(JSON.parse(json.stdout), { files: 2, bad: 1, bytes: 2000, badFiles })

  api.verified = [good]
  api.verifyError = new Error('the disk went away')
  const unfinished = errorOf(await run('verify', '--json'))
  assert.equal(unfinished.code, 'store-failed')
  assert.match(unfinished.message, /the disk went away/)
  api.verifyError = new ShoalError('aborted', 'the agent stops')
  assert.equal(errorOf(await run('verify', '--json')).code, 'not-running')
})

test('env prints lines that a shell takes as they are', async (context) => {
  const { api, run, folder } = await world(context, { NO_PROXY: 'corp.example', no_proxy: 'corp.example' })
  api.hubCache = `${folder}/it's a $(cache)`
  const ran = await run('env')
  const { execFileSync } = await import('node:child_process')
  const seen = execFileSync('/bin/sh', [
    '-c',
    `${ran.stdout}\nprintf '%s\\n' "$HF_ENDPOINT" "$HF_HUB_CACHE" "$no_proxy"`,
  ])
  assert.deepEqual(seen.toString().split('\n'), [
    api.url,
    `${folder}/it's a $(cache)`,
    'corp.example,127.0.0.1,localhost',
    '',
  ])
  assert.equal(ran.stderr, '')
  const json = JSON.parse((await run('env', '--json')).stdout)
  assert.equal(json.HF_ENDPOINT, api.url)
  assert.ok(Number(json.HF_HUB_ETAG_TIMEOUT) > 10 && Number(json.HF_HUB_DOWNLOAD_TIMEOUT) > 10)
})

test('config init writes a file that validates, and never replaces one', async (context) => {
  const folder = await tempFolder(context)
  const written = await shoal(['config', 'init'], { folder })
  assert.equal(written.code, 0, written.stderr)
  const path = join(folder, 'shoal.json')
  assert.match((await shoal(['config', 'validate'], { folder })).stdout, new RegExp(`^${path}: no problems`))
  await writeFile(path, '{}')
  const again = await shoal(['config', 'init', '--json'], { folder })
  assert.equal(again.code, 1)
  assert.equal(errorOf(again).code, 'conflict')
  assert.equal(await readFile(path, 'utf8'), '{}')
  const nowhere = await shoal(['config', 'init', 'no/such/dir.json'], { folder })
  assert.match(nowhere.stderr, /there is no such directory/)
})

test('config validate reports every problem with the value received, and no secret', async (context) => {
  const folder = await tempFolder(context)
  const file = { hub: { upsteam: [] }, downloads: { max_retries: -1 }, mesh: { secret: 'ab'.repeat(31) } }
  await writeFile(join(folder, 'bad.json'), JSON.stringify(file))
  const ran = await shoal(['config', 'validate', 'bad.json'], { folder })
  assert.equal(ran.code, 1)
  assert.match(ran.stderr, /hub\.upsteam .*did you mean hub\.upstream/)
  assert.match(ran.stderr, /max_retries .*received -1/)
  assert.doesNotMatch(ran.stderr, /abab/)
  const problems = errorOf(await shoal(['config', 'validate', 'bad.json', '--json'], { folder })).details
    .problems
  assert.ok(Array.isArray(problems) && problems.length >= 3)
})

test('config show says where each value comes from and hides secrets', async (context) => {
  const folder = await tempFolder(context)
  const env = { SHOAL_SITE: 'lab', HF_TOKEN: 'hf_averysecrettoken', SHOAL_MESH_SECRET: 'cd'.repeat(32) }
  const ran = await shoal(['config', 'show'], { folder, env })
  assert.equal(ran.code, 0, ran.stderr)
  assert.match(ran.stdout, /^mesh\.site +"lab" +environment SHOAL_SITE$/m)
  const json = await shoal(['config', 'show', '--json'], { folder, env })
  const shown = JSON.parse(json.stdout).settings.find((one: { key: string }) => one.key === 'mesh.secret')
  assert.equal(shown.value, '[hidden]')
  assert.doesNotMatch(ran.stdout + json.stdout, /averysecret|cdcd/)
})

test('agent refuses bad settings before anything starts, all at once', async (context) => {
  const folder = await tempFolder(context)
  const ran = await shoal(['agent', '--http-listen', '0.0.0.0:1', '--site', '!', '--json'], { folder })
  assert.equal(ran.code, 1)
  const problems = errorOf(ran).details.problems
  assert.ok(Array.isArray(problems) && problems.some((text) => /--site/.test(text)), ran.stdout)
})

test('an invite goes to stdout alone, and a damaged or foreign secret file is refused', async (context) => {
  const { run, folder } = await world(context)
  const before = await run('invite')
  assert.equal(before.code, 1)
  const { MeshSecret, writeMeshSecret } = await import('@shoal/agent/net/mesh-secret.ts')
  const secretFile = join(folder, 'storage', 'mesh.secret')
  await writeMeshSecret(secretFile, new MeshSecret(new Uint8Array(32).fill(9)))
  assert.equal((await stat(secretFile)).mode & 0o777, 0o600)
  const ran = await run('invite')
  assert.equal(ran.code, 0, ran.stderr)
  assert.match(ran.stdout, /^shoal1-[A-Za-z0-9_-]+\n$/)
  assert.doesNotMatch(ran.stderr, /shoal1-/)
  const { addresses } = JSON.parse((await run('invite', '--json')).stdout)
  assert.match(addresses[0], /192\.0\.2\.7/, 'addresses that others can reach come first')
  await chmod(secretFile, 0o644)
  assert.match((await run('invite')).stderr, /mode 644: others may read it/)
})
