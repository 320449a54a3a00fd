// The settings of connections to the origin, over real sockets: how many there are, whether they are used again, what may be compressed,
// and how long the pauses between tries are.
import assert from 'node:assert/strict'
import type { IncomingMessage, ServerResponse } from 'node:http'
import test from 'node:test'
import { gzipSync } from 'node:zlib'
import { MAX_PAGE_BYTES } from '@shoal/agent/sources/hub-client.ts'
import { systemClock } from '@shoal/protocol/time.ts'
import { fakeOrigin, fetchChunk, testClient } from '../support/origin-client.ts'
import { BLOB, COMMIT, FILE, GEOMETRY, honest, MAIN, REPO, signal } from '../support/origin-file.ts'

const INFO = JSON.stringify({ id: 'org/model', sha: COMMIT, private: false, gated: false, siblings: [] })

function infoAs(encode: (request: IncomingMessage) => Buffer | undefined) {
  return (request: IncomingMessage, response: ServerResponse) => {
    const packed = encode(request)
    response.writeHead(200, {
      'content-type': 'application/json',
      ...(packed === undefined ? {} : { 'content-encoding': 'gzip' }),
    })
    response.end(packed ?? INFO)
  }
}

test('no more connections than max_connections_per_host are open to one origin at a time', async (t) => {
  for (const maxPerHost of [1, 2, 5]) {
    let open = 0
    let most = 0
    const origin = await fakeOrigin(t, (request, response) => {
      open++
      most = Math.max(most, open)
      response.on('close', () => open--)
      systemClock.after(30, () =>
        request.url?.startsWith('/api/') === true
          ? infoAs(() => undefined)(request, response)
          : honest(request, response),
      )
    })
    const { hub } = testClient(t, { upstreams: [origin.url], maxPerHost, readTimeoutMs: 20_000 })
    const source = hub.source(FILE, () => undefined)
    await Promise.all([
      ...Array.from({ length: 16 }, (_, at) => fetchChunk(source, BLOB, GEOMETRY, at % 2)),
      ...Array.from({ length: 8 }, () => hub.revision(REPO, MAIN, { token: undefined, signal })),
    ])
    assert.equal(most, maxPerHost)
    assert.equal(origin.connections(), maxPerHost)
  }
})

test('connections are used again, or with keep_alive_enabled off each request has its own', async (t) => {
  const ask = async (keepAlive: boolean) => {
    const origin = await fakeOrigin(
      t,
      infoAs(() => undefined),
    )
    const { hub } = testClient(t, { upstreams: [origin.url], keepAlive })
    for (let times = 0; times < 6; times++) await hub.revision(REPO, MAIN, { token: undefined, signal })
    return origin.connections()
  }
  // One may still be on its way back when the next request leaves.
  assert.ok((await ask(true)) <= 2)
  assert.equal(await ask(false), 6)
})

test('metadata may come compressed, with compression_enabled off it may not, and bytes of files never', async (t) => {
  const zip = (request: IncomingMessage) =>
    request.headers['accept-encoding'] === 'gzip' ? gzipSync(INFO) : undefined
  for (const compression of [true, false]) {
    const origin = await fakeOrigin(t, infoAs(zip))
    const { hub } = testClient(t, { upstreams: [origin.url], compression })
    const found = await hub.revision(REPO, MAIN, { token: undefined, signal })
    assert.equal(found.commit, COMMIT)
    const expected = compression ? 'gzip' : 'identity'
    assert.deepEqual(
      origin.seen.map(({ headers }) => headers['accept-encoding']),
      [expected],
    )
    const files = await fakeOrigin(t, honest)
    const source = testClient(t, { upstreams: [files.url], compression }).hub.source(FILE, () => undefined)
    await fetchChunk(source, BLOB, GEOMETRY, 1)
    assert.deepEqual(
      files.seen.map(({ headers }) => headers['accept-encoding']),
      ['identity'],
    )
  }
})

test('a small answer that unpacks to a huge one, a broken one and one packed unasked are refused', async (t) => {
  const bomb = gzipSync(Buffer.alloc(16 * MAX_PAGE_BYTES))
  const broken = gzipSync(INFO).subarray(0, 20)
  const cases = [
    [bomb, true],
    [broken, true],
    [Buffer.from('no gzip at all'), true],
    [gzipSync(INFO), false],
  ] as const
  for (const [body, compression] of cases) {
    const origin = await fakeOrigin(
      t,
      infoAs(() => body),
    )
    const { hub } = testClient(t, { upstreams: [origin.url], compression, maxRetries: 0 })
    await assert.rejects(hub.revision(REPO, MAIN, { token: undefined, signal }), {
      code: 'origin-bad-answer',
    })
  }
})

test('each pause between tries is longer by the factor, up to the cap', async (t) => {
  const at: number[] = []
  const origin = await fakeOrigin(t, (_request, response) => {
    at.push(systemClock.now())
    response.socket?.destroy()
  })
  const backoff = { firstMs: 40, factor: 4, maxMs: 300 }
  const { hub } = testClient(t, { upstreams: [origin.url], maxRetries: 4, backoff })
  await assert.rejects(hub.revision(REPO, MAIN, { token: undefined, signal }), { code: 'origin-unreachable' })
  const pauses = at.slice(1).map((moment, index) => moment - (at[index] ?? 0))
  assert.equal(pauses.length, 4)
  for (const [index, full] of [40, 160, 300, 300].entries()) {
    const pause = pauses[index] ?? 0
    // Half of it is chance; the rest of the room above is a busy machine's.
    assert.ok(pause >= full / 2 - 2 && pause <= full + 250, `pause ${index + 1}: ${pause} ms`)
  }
})
