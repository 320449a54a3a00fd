// Every way in which the local Hub can be told to misbehave, seen over a bare socket.
import assert from 'node:assert/strict'
import test, { after, afterEach, before } from 'node:test'
import { systemClock } from '@shoal/protocol/time.ts'
import { readAll, seededContent } from '../support/local-hub/content.ts'
import type { Fault } from '../support/local-hub/faults.ts'
import { type LocalHub, startLocalHub } from '../support/local-hub/hub.ts'
import { type RawRequest, rawRequest } from '../support/local-hub/raw-request.ts'

const SIZE = 300_000
const CONTENT = seededContent('faulty', SIZE)

let hub: LocalHub
let right: Buffer
before(async () => {
  hub = await startLocalHub({ repos: [{ id: 'org/m', files: { 'a.txt': 'text', 'sub/w.bin': CONTENT } }] })
  right = Buffer.from(await readAll(CONTENT))
})
afterEach(() => hub.clearFaults())
after(() => hub.stop())

/** The file from the CDN, by a fresh signed URL. */
async function fromCdn(options: RawRequest = {}) {
  const first = await rawRequest(`${hub.url}/org/m/resolve/main/sub/w.bin`)
  return rawRequest(first.header('location') ?? '', options)
}

function atCdn(effect: Fault) {
  return hub.addFault({ when: { on: 'cdn', repo: 'org/m', path: 'sub/w.bin' }, ...effect })
}

test('a status with headers comes as often as told, and only where told', async () => {
  const fault = hub.addFault({
    when: { kind: 'tree' },
    skip: 1,
    times: 2,
    status: 429,
    headers: { 'Retry-After': 'Wed, 21 Oct 2099 07:28:00 GMT' },
  })
  const ask = async () => (await rawRequest(`${hub.url}/api/models/org/m/tree/main`)).status
  assert.deepEqual([await ask(), await ask(), await ask(), await ask()], [200, 429, 429, 200])
  assert.equal((await rawRequest(`${hub.url}/api/models/org/m`)).status, 200)
  assert.equal(fault.hits, 2)
})

test('a reset comes after the bytes told, or before the status line', async () => {
  atCdn({ resetAfterBytes: 100_000 })
  const cut = await fromCdn()
  assert.equal(cut.end, 'reset')
  assert.ok(cut.body.length <= 100_000)
  assert.equal(hub.countsOf({ repo: 'org/m', path: 'sub/w.bin' }).parts.at(-1)?.[1], 100_000)
  hub.clearFaults()
  atCdn({ resetBeforeHeaders: true })
  const none = await fromCdn()
  assert.deepEqual([none.end, none.status], ['reset', 0])
})

test('a stall sends nothing after the bytes told', async () => {
  atCdn({ stallAfterBytes: 1000 })
  const stalled = await fromCdn({ quietMs: 100 })
  assert.deepEqual([stalled.end, stalled.body.length, stalled.status], ['quiet', 1000, 200])
  hub.clearFaults()
  atCdn({ stallAfterBytes: 0, stallMs: 50 })
  const late = await fromCdn()
  assert.deepEqual(late.body, right)
  assert.ok(late.totalMs >= 50)
})

test('a drip keeps its rate', async () => {
  atCdn({ bytesPerSecond: 100_000 })
  const slow = await fromCdn({ headers: { Range: 'bytes=0-19999' } })
  assert.equal(slow.body.length, 20_000)
  assert.ok(slow.totalMs > 150, `${slow.totalMs} ms`)
})

test('the rate of the whole Hub is shared by its connections', async (context) => {
  hub.limitRate(1_000_000)
  context.after(() => hub.limitRate(undefined))
  const startedAt = systemClock.now()
  const both = await Promise.all([fromCdn(), fromCdn()])
  const elapsedMs = systemClock.now() - startedAt
  for (const one of both) assert.deepEqual(one.body, right)
  assert.ok(elapsedMs > 550 && elapsedMs < 2000, `${elapsedMs} ms`)
})

test('wrong bytes have the right length and lie at the offset of the file, also in a part', async () => {
  atCdn({ wrongBytesAt: 1500, wrongBytes: 2 })
  const whole = await fromCdn()
  const differs = [...right.keys()].filter((index) => whole.body[index] !== right[index])
  assert.equal(whole.body.length, SIZE)
  assert.deepEqual(differs, [1500, 1501])
  const part = await fromCdn({ headers: { Range: 'bytes=1501-1999' } })
  assert.equal(part.body[0], (right[1501] ?? 0) ^ 0xff)
  assert.deepEqual(part.body.subarray(1), right.subarray(1502, 2000))
})

test('Content-Length lies in every way while the body is whole', async () => {
  const told = async (contentLength: NonNullable<Fault['contentLength']>) => {
    hub.clearFaults()
    atCdn({ contentLength })
    const answer = await fromCdn()
    const lengths = answer.headers.filter(([name]) => name === 'content-length').map(([, value]) => value)
    if (contentLength !== 'chunked') assert.deepEqual(answer.body, right)
    else assert.ok(answer.body.length > SIZE && answer.body.subarray(-5).toString() === '0\r\n\r\n')
    assert.equal(answer.end, 'fin')
    return lengths
  }
  assert.deepEqual(await told('short'), ['299999'])
  assert.deepEqual(await told('long'), ['300001'])
  assert.deepEqual(await told('absent'), [])
  assert.deepEqual(await told('duplicate'), ['300000', '300001'])
  assert.deepEqual(await told('negative'), ['-300000'])
  assert.deepEqual(await told('chunked'), [])
})

test('a cut ends in order before the promised length, also when only the end would tell the length', async () => {
  atCdn({ cutAfterBytes: 1000 })
  const short = await fromCdn()
  assert.deepEqual([short.end, short.body.length, short.header('content-length')], ['fin', 1000, '300000'])
  atCdn({ contentLength: 'absent' })
  const open = await fromCdn()
  assert.deepEqual([open.end, open.body.length, open.header('content-length')], ['fin', 1000, undefined])
})

test('a Range is ignored, moved, or told wrongly', async () => {
  const part = { headers: { Range: 'bytes=1000-1099' } }
  atCdn({ ignoreRange: true })
  assert.deepEqual([(await fromCdn(part)).status, (await fromCdn(part)).body.length], [200, SIZE])
  hub.clearFaults()
  atCdn({ shiftRangeBytes: 7 })
  const moved = await fromCdn(part)
  assert.equal(moved.header('content-range'), 'bytes 1007-1106/300000')
  assert.deepEqual(moved.body, right.subarray(1007, 1107))
  atCdn({ contentRange: 'bytes 1000-1099/300000' })
  const liar = await fromCdn(part)
  assert.equal(liar.header('content-range'), 'bytes 1000-1099/300000')
  assert.deepEqual(liar.body, right.subarray(1007, 1107))
})

test('redirects loop or lead elsewhere', async () => {
  hub.addFault({ when: { kind: 'resolve' }, redirectTo: 'self' })
  assert.equal(
    (await rawRequest(`${hub.url}/org/m/resolve/main/a.txt`)).header('location'),
    '/org/m/resolve/main/a.txt',
  )
  hub.addFault({ when: { kind: 'resolve' }, redirectTo: 'http://169.254.169.254/', redirectStatus: 307 })
  const away = await rawRequest(`${hub.url}/org/m/resolve/main/a.txt`)
  assert.deepEqual([away.status, away.header('location')], [307, 'http://169.254.169.254/'])
})

test('ETags are wrong, weak or missing', async () => {
  const etag = async (fault: Fault['etag']) => {
    hub.clearFaults()
    hub.addFault({ when: { kind: 'resolve' }, ...(fault === undefined ? {} : { etag: fault }) })
    const answer = await rawRequest(`${hub.url}/org/m/resolve/main/sub/w.bin`)
    return answer.header('x-linked-etag')
  }
  const honest = await etag(undefined)
  assert.match(honest ?? '', /^"[0-9a-f]{64}"$/)
  assert.equal(await etag('weak'), `W/${honest}`)
  assert.equal(await etag('absent'), undefined)
  assert.equal(await etag({ value: '"abc"' }), '"abc"')
})

test('signed URLs expire by time, all at once, and in the middle of a body', async (context) => {
  const location = async (base: string) =>
    (await rawRequest(`${base}/org/m/resolve/main/sub/w.bin`)).header('location') ?? ''
  const old = await location(hub.url)
  hub.expireSignedUrls()
  assert.equal((await rawRequest(old)).status, 403)
  const url = await location(hub.url)
  atCdn({ expireAfterBytes: 1000, times: 1 })
  assert.equal((await rawRequest(url)).end, 'reset')
  assert.equal((await rawRequest(url, { headers: { Range: 'bytes=1000-' } })).status, 403)
  assert.deepEqual((await fromCdn({ headers: { Range: 'bytes=1000-' } })).body, right.subarray(1000))
  const brief = await startLocalHub({
    signedUrlTtlMs: 1,
    repos: [{ id: 'org/m', files: { 'sub/w.bin': CONTENT } }],
  })
  context.after(() => brief.stop())
  const signed = await location(brief.url)
  let status = 200
  while (status === 200) status = (await rawRequest(signed)).status
  assert.equal(status, 403)
})

test('headers come late, and a page of HTML comes with 200', async () => {
  hub.addFault({ when: { kind: 'info' }, delayMs: 60 })
  const late = await rawRequest(`${hub.url}/api/models/org/m`)
  assert.ok(late.firstByteMs >= 59, `${late.firstByteMs} ms`)
  hub.addFault({ when: { kind: 'info' }, html: true })
  const portal = await rawRequest(`${hub.url}/api/models/org/m`)
  assert.deepEqual([portal.status, portal.header('content-type')], [200, 'text/html'])
})

test('a branch moves, and a repo becomes gated, in the middle of a conversation', async () => {
  const commitOf = async () =>
    JSON.parse((await rawRequest(`${hub.url}/api/models/org/m/revision/main`)).body.toString()).sha
  const before = await commitOf()
  hub.addFault({
    when: { kind: 'tree' },
    times: 1,
    onHit: async () => {
      await hub.commit('org/m', { files: { 'a.txt': 'other text' } })
      hub.repo('org/m').gated = 'auto'
    },
  })
  await rawRequest(`${hub.url}/api/models/org/m/tree/main`)
  assert.notEqual(await commitOf(), before)
  const refused = await rawRequest(`${hub.url}/org/m/resolve/main/a.txt`)
  assert.equal(refused.header('x-error-code'), 'GatedRepo')
  hub.repo('org/m').gated = false
})

test('a Hub that is down refuses connections, resets open ones, and comes back at the same address', async () => {
  atCdn({ stallAfterBytes: 1000 })
  const url = hub.url
  const open = fromCdn()
  while (hub.countsOf({ repo: 'org/m', path: 'sub/w.bin' }).parts.at(-1)?.[1] !== 1000)
    await new Promise(setImmediate)
  await hub.pause()
  assert.notEqual((await open).end, 'quiet')
  await assert.rejects(rawRequest(url), { code: 'ECONNREFUSED' })
  await hub.resume()
  assert.equal(hub.url, url)
  assert.equal((await rawRequest(`${url}/api/models/org/m`)).status, 200)
  assert.equal((await rawRequest(`${hub.mirrorUrl}/api/models/org/m`)).status, 200)
})
