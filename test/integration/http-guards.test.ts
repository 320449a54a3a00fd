// The guards, over bare sockets: what no page and no broken client may get past, on every method and every kind of route.
import assert from 'node:assert/strict'
import { connect } from 'node:net'
import { test } from 'node:test'
import { LOOP_HEADER } from '@shoal/agent/http/guards.ts'
import { type MemoryAgent, SELF, startMemoryAgent } from '../support/memory-agent.ts'
import { rawHttp, rawStatus } from '../support/raw-http.ts'

const PATHS = [
  '/org/model/resolve/main/f',
  '/api/models/org/model',
  '/api/v1/status',
  '/healthz',
  '/metrics',
  '/no',
]
const METHODS = ['GET', 'HEAD', 'POST', 'DELETE', 'PUT', 'OPTIONS', 'PATCH']

async function agentWithModel(t: { after(task: () => unknown): void }): Promise<MemoryAgent> {
  const agent = await startMemoryAgent({ after: (task) => t.after(task as () => unknown) })
  agent.catalog.add({ spec: 'org/model', files: { f: { bytes: Buffer.from('secret bytes') } } })
  return agent
}

function request(method: string, path: string, headers: readonly string[]): string {
  return `${method} ${path} HTTP/1.1\r\n${[...headers, 'Connection: close'].join('\r\n')}\r\n\r\n`
}

test('a page of another site gets nothing, on every method and route', async (t) => {
  const agent = await agentWithModel(t)
  const host = `Host: 127.0.0.1:${agent.port}`
  const marks = [
    'Sec-Fetch-Site: cross-site',
    'Sec-Fetch-Site: same-site',
    'Sec-Fetch-Site: whatever',
    'Origin: http://evil.test',
    'Origin: null',
    `Origin: https://127.0.0.1:${agent.port}`,
    `Origin: http://127.0.0.1:${agent.port + 1}`,
    `Origin: http://localhost:${agent.port}`,
  ]
  for (const mark of marks) {
    for (const path of PATHS) {
      for (const method of METHODS) {
        const answer = await rawHttp(agent.port, request(method, path, [host, mark]))
        assert.equal(rawStatus(answer), 403, `${method} ${path} ${mark}`)
        assert.doesNotMatch(answer, /access-control|secret bytes/i, `${method} ${path} ${mark}`)
      }
    }
  }
  assert.deepEqual(agent.catalog.asked, { manifests: 0, checks: 0 })
  assert.equal(agent.models.requests.length, 0)
})

test('our own page and a user who types the address pass', async (t) => {
  const agent = await agentWithModel(t)
  const host = `Host: 127.0.0.1:${agent.port}`
  for (const mark of [
    'Sec-Fetch-Site: same-origin',
    'Sec-Fetch-Site: none',
    `Origin: http://127.0.0.1:${agent.port}`,
  ]) {
    const answer = await rawHttp(agent.port, request('GET', PATHS[0] ?? '', [host, mark]))
    assert.equal(rawStatus(answer), 200, mark)
    assert.doesNotMatch(answer, /access-control/i)
  }
})

test('only our own host names are answered, exactly and with the port', async (t) => {
  const agent = await agentWithModel(t)
  const { port } = agent
  for (const name of ['127.0.0.1', 'localhost', 'LOCALHOST', '[::1]', 'agent.test']) {
    const answer = await rawHttp(port, request('GET', '/healthz', [`Host: ${name}:${port}`]))
    assert.equal(rawStatus(answer), 200, name)
  }
  const foreign = [
    `evil.test:${port}`,
    '127.0.0.1',
    'localhost',
    `localhost.:${port}`,
    `localhost:${port + 1}`,
    `127.0.0.1.evil.test:${port}`,
    `evil.test@127.0.0.1:${port}`,
    `127.0.0.2:${port}`,
    `0.0.0.0:${port}`,
    '',
  ]
  for (const name of foreign) {
    for (const path of PATHS) {
      for (const method of ['GET', 'POST', 'DELETE']) {
        const answer = await rawHttp(port, request(method, path, [`Host: ${name}`]))
        assert.equal(rawStatus(answer), 421, `${method} ${path} Host: ${name}`)
      }
    }
  }
})

const ODD: readonly (readonly [id: string, text: (host: string) => string, expected: readonly number[]])[] = [
  ['no host', () => 'GET /healthz HTTP/1.1\r\nConnection: close\r\n\r\n', [400]],
  ['no host, HTTP/1.0', () => 'GET /healthz HTTP/1.0\r\n\r\n', [400]],
  ['two hosts', (h) => request('GET', '/healthz', [h, h]), [400]],
  ['two hosts, one foreign', (h) => request('GET', '/healthz', [h, 'Host: evil.test']), [400]],
  [
    'two tokens',
    (h) => request('GET', '/healthz', [h, 'Authorization: Bearer a', 'Authorization: Bearer b']),
    [400],
  ],
  [
    'two lengths',
    (h) => request('POST', '/api/v1/verify', [h, 'Content-Length: 2', 'Content-Length: 3']),
    [400],
  ],
  [
    'length and chunked',
    (h) => request('POST', '/api/v1/verify', [h, 'Content-Length: 2', 'Transfer-Encoding: chunked']),
    [400],
  ],
  ['absolute form', (h) => request('GET', 'http://evil.test/healthz', [h]), [400, 421]],
  ['absolute form, ours', (h) => request('GET', `http://${h.slice(6)}/healthz`, [h]), [400]],
  ['asterisk', (h) => request('OPTIONS', '*', [h]), [400, 405]],
  ['TRACE', (h) => request('TRACE', '/healthz', [h]), [405]],
  ['CONNECT', (h) => request('CONNECT', 'evil.test:443', [h]), [405]],
  ['PUT', (h) => request('PUT', '/org/model/resolve/main/f', [h]), [405]],
  ['unknown method', (h) => request('BREW', '/healthz', [h]), [400]],
  ['upgrade', (h) => request('GET', '/healthz', [h, 'Upgrade: websocket']), [200]],
  ['expect', (h) => request('GET', '/healthz', [h, 'Expect: the-unexpected']), [417]],
  ['obs-fold', (h) => request('GET', '/healthz', [h, 'X-A: 1\r\n 2']), [200, 400]],
  ['space before colon', (h) => request('GET', '/healthz', [h, 'X-A : 1']), [400]],
  ['bare LF', (h) => `GET /healthz HTTP/1.1\n${h}\n\n`, [400]],
  ['no HTTP', () => 'hello\r\n\r\n', [400]],
  [
    'too many headers',
    (h) => request('GET', '/healthz', [h, ...Array.from({ length: 150 }, (_, i) => `X-${i}: 1`)]),
    [431],
  ],
  [
    '2,000 headers',
    (h) => request('GET', '/healthz', [h, ...Array.from({ length: 2000 }, (_, i) => `X-${i}: 123`)]),
    [431],
  ],
  ['16 KiB + 1', (h) => request('GET', '/healthz', [h, `X-A: ${'a'.repeat(16 * 1024 + 1)}`]), [431]],
  ['body with GET', (h) => `${request('GET', '/healthz', [h, 'Content-Length: 3'])}abc`, [400]],
  ['big body', (h) => request('POST', '/org/model/x', [h, `Content-Length: ${1024 * 1024 + 1}`]), [413]],
  ['loop', (h) => request('GET', '/org/model/resolve/main/f', [h, `${LOOP_HEADER}: other, ${SELF}`]), [508]],
  ['via others', (h) => request('GET', '/org/model/resolve/main/f', [h, `${LOOP_HEADER}: other`]), [200]],
  [
    'two ranges',
    (h) => request('GET', '/org/model/resolve/main/f', [h, 'Range: bytes=0-0', 'Range: bytes=1-1']),
    [200],
  ],
  ['method of a route', (h) => request('POST', '/org/model/resolve/main/f', [h]), [405]],
  ['raw dots', (h) => request('GET', '/org/../../etc/passwd', [h]), [400]],
  ['NUL in target', (h) => request('GET', '/org/model/resolve/main/a\0b', [h]), [400]],
]

test('odd requests are refused with a status, and the server lives', async (t) => {
  const agent = await agentWithModel(t)
  const host = `Host: 127.0.0.1:${agent.port}`
  for (const [id, text, expected] of ODD) {
    const answer = await rawHttp(agent.port, text(host))
    assert.ok(expected.includes(rawStatus(answer) ?? 0), `${id}: ${answer.slice(0, 200)}`)
  }
  assert.equal((await fetch(`${agent.url}/healthz`)).status, 200)
})

test('a chunked body without end is refused at its bound', async (t) => {
  const agent = await agentWithModel(t)
  for (const path of ['/api/models/org/model/paths-info/main', '/api/v1/downloads']) {
    const chunk = `10000\r\n${' '.repeat(0x10000)}\r\n`
    const answer = await rawHttp(
      agent.port,
      `POST ${path} HTTP/1.1\r\nHost: 127.0.0.1:${agent.port}\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n${chunk.repeat(17)}`,
    )
    assert.equal(rawStatus(answer), 413, path)
  }
})

test('headers that come a byte at a time, and a connection that says nothing, are cut', async (t) => {
  const agent = await startMemoryAgent(t, { limits: { headersTimeoutMs: 300, checkIntervalMs: 50 } })
  const ended = (drip: boolean) =>
    new Promise<string>((resolve) => {
      const socket = connect(agent.port, '127.0.0.1')
      let said = ''
      const text = `GET /healthz HTTP/1.1\r\nHost: 127.0.0.1:${agent.port}\r\nX-Slow: ${'a'.repeat(1000)}`
      let sent = 0
      const timer = setInterval(() => drip && socket.write(text.charAt(sent++)), 20)
      socket.on('data', (piece) => {
        said += piece.toString('latin1')
      })
      socket.on('error', () => {})
      socket.on('close', () => {
        clearInterval(timer)
        resolve(said)
      })
    })
  const [slow, silent] = await Promise.all([ended(true), ended(false)])
  assert.equal(rawStatus(slow), 408)
  assert.ok(silent === '' || rawStatus(silent) === 408, silent)
})
