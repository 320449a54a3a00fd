// The Hub is asked once for a site: commits, lists of files and links travel between real hosts, for public repos only, and what a peer says
// opens nothing and leads nowhere else.
import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { newIdentity } from '@shoal/agent/net/identity.ts'
import { keepersOf } from '@shoal/agent/plan/turn-table.ts'
import { fixedSlices } from '@shoal/protocol/chunks.ts'
import { asShoalError } from '@shoal/protocol/errors.ts'
import { parseBlobId, parseRepoSpec, parseRevision } from '@shoal/protocol/ids.ts'
import type { Manifest } from '@shoal/protocol/manifest.ts'
import type { TurnAnswer } from '@shoal/protocol/messages.ts'
import { systemClock } from '@shoal/protocol/time.ts'
import { seededContent } from '../support/local-hub/content.ts'
import { type LocalHub, startLocalHub } from '../support/local-hub/hub.ts'
import { fetchChunk } from '../support/origin-client.ts'
import { type SiteHost, type SiteHostOptions, startSite } from '../support/site-host.ts'

const { repo } = parseRepoSpec('lab/model')
const MAIN = parseRevision('main')
const never = new AbortController().signal
const SIZE = 1_200_000
const CHUNK = 100_000
const OPERATOR = { kind: 'operator' } as const

async function hubOf(t: TestContext): Promise<LocalHub> {
  const hub = await startLocalHub({
    repos: [
      {
        id: 'lab/model',
        files: {
          'config.json': '{}',
          'one.bin': seededContent('one', SIZE),
          'two.bin': seededContent('two', SIZE),
        },
      },
      { id: 'lab/gated', files: { 'one.bin': seededContent('gated', SIZE) }, gated: 'manual' },
      { id: 'lab/private', files: { 'one.bin': seededContent('private', SIZE) }, private: true },
    ],
    users: [{ name: 'reader', token: 'hf_reader', access: ['lab/gated', 'lab/private'] }],
  })
  t.after(() => hub.stop())
  return hub
}

function sources(host: SiteHost, manifest: Manifest, path: string, token?: string) {
  const entry = manifest.files.find((one) => one.path === path)
  assert.ok(entry)
  const source = host.hub.source({ repo: manifest.repo, commit: manifest.commit, entry }, () => token)
  const geometry = fixedSlices(entry.sizeBytes, CHUNK)
  return (index: number) => fetchChunk(source, entry.blob, geometry, index)
}

function asked(hub: LocalHub): { readonly api: number; readonly lookups: Map<string, number> } {
  const lookups = new Map<string, number>()
  let api = 0
  for (const { server, kind, path } of hub.counts.seen) {
    if (server !== 'hub' || kind === 'resolve-cache') continue
    if (kind === 'resolve') lookups.set(path, (lookups.get(path) ?? 0) + 1)
    else api++
  }
  return { api, lookups }
}

const many = (hub: LocalHub, count: number, more: Partial<SiteHostOptions> = {}) =>
  Array.from({ length: count }, () => ({ hub: hub.url, ...more }))

for (const count of [6, 12]) {
  test(`${count} hosts at once ask for the list of files with four calls of the API at most, and look each file up once or twice`, async (t) => {
    const hub = await hubOf(t)
    const hosts = await startSite(t, many(hub, count))
    const manifests = await Promise.all(
      hosts.map((host) => host.catalog.manifest(repo, MAIN, OPERATOR, never)),
    )
    const { api } = asked(hub)
    for (const one of manifests) assert.deepEqual(one.files, manifests[0]?.files)
    await Promise.all(
      hosts.flatMap((host, index) =>
        ['one.bin', 'two.bin'].map(async (path) => {
          const manifest = manifests[index]
          assert.ok(manifest)
          const { bytes } = await sources(host, manifest, path)(index)
          assert.equal(bytes.byteLength, CHUNK)
        }),
      ),
    )
    const { lookups } = asked(hub)
    t.diagnostic(`${count} hosts: ${api} calls of the API, look-ups ${JSON.stringify([...lookups])}`)
    assert.ok(api <= 4, `${api} calls of the API`)
    for (const [path, times] of lookups) assert.ok(times <= 2, `${path}: ${times}`)
  })
}

test('links to gated and private files are not shared, nor is what their repos hold: each host asks with its own token', async (t) => {
  const hub = await hubOf(t)
  const hosts = await startSite(t, [...many(hub, 2, { token: 'hf_reader' }), ...many(hub, 1)])
  const [one, two, stranger] = hosts
  assert.ok(one && two && stranger)
  for (const name of ['lab/gated', 'lab/private']) {
    const closed = parseRepoSpec(name).repo
    for (const host of [one, two]) {
      const manifest = await host.catalog.manifest(closed, MAIN, OPERATOR, never)
      await sources(host, manifest, 'one.bin', 'hf_reader')(0)
    }
    const seen = hub.counts.seen.filter((request) => request.repo === name && request.kind === 'resolve')
    assert.equal(seen.length, 2, `${name}: each its own`)
    assert.ok(seen.every(({ user }) => user === 'reader'))
    await assert.rejects(
      stranger.catalog
        .manifest(closed, MAIN, OPERATOR, never)
        .then((found) => stranger.catalog.checkAccess(found, OPERATOR, never)),
      (error: unknown) => ['repo-not-found', 'repo-gated'].includes(asShoalError(error)?.code ?? ''),
    )
  }
})

test('a link that has expired is asked for once more, by one host', async (t) => {
  const hub = await hubOf(t)
  const hosts = await startSite(t, many(hub, 4))
  const manifests = await Promise.all(hosts.map((host) => host.catalog.manifest(repo, MAIN, OPERATOR, never)))
  const fetchers = hosts.map((host, index) => sources(host, manifests[index] as Manifest, 'one.bin'))
  await Promise.all(fetchers.map((fetch, index) => fetch(index)))
  hub.expireSignedUrls()
  await Promise.all(fetchers.map((fetch, index) => fetch(index + 4)))
  const { lookups } = asked(hub)
  t.diagnostic(`look-ups ${JSON.stringify([...lookups])}`)
  assert.equal(lookups.get('one.bin'), 2)
})

test('a keeper that gives links elsewhere, or never lets anybody ask, costs a moment and no wrong byte', async (t) => {
  const hub = await hubOf(t)
  const lies = [
    'http://127.0.0.1:1/elsewhere',
    'http://169.254.169.254/latest/meta-data',
    `${hub.url}/api/whoami-v2`,
    `${hub.cdnUrl}/xet-bridge-local/${'0'.repeat(64)}?Expires=9999999999`,
    `${hub.cdnUrl}/xet-bridge-local/${hub.oidOf({ repo: 'lab/model', path: 'one.bin' })}?Expires=9999999999`,
    'no link at all',
  ]
  const blob = parseBlobId(`sha256:${hub.oidOf({ repo: 'lab/model', path: 'one.bin' })}`)
  for (const link of [...lies, undefined]) {
    // Of the two the one that keeps the turn lies.
    const identities = [newIdentity(), newIdentity()]
    const [keeper] = keepersOf(
      blob,
      identities.map(({ peer }) => peer),
    )
    const hosts = await startSite(
      t,
      identities
        .toSorted((a, b) => Number(a.peer === keeper) - Number(b.peer === keeper))
        .map((identity) => ({
          hub: hub.url,
          identity,
          ...(identity.peer === keeper ? { liar: () => async () => answerOf(link) } : {}),
        })),
    )
    const [honest] = hosts
    assert.ok(honest)
    const startedAt = systemClock.now()
    const manifest = await honest.catalog.manifest(repo, MAIN, OPERATOR, never)
    const { bytes } = await sources(honest, manifest, 'one.bin')(3)
    assert.deepEqual(Buffer.from(bytes), await wanted(hub, 3), String(link))
    const tookMs = systemClock.now() - startedAt
    t.diagnostic(`${link ?? 'wait, for ever'}: ${tookMs.toFixed(0)} ms`)
    assert.ok(tookMs < 20_000)
  }
  const strange = hub.counts.seen.filter(({ kind }) => kind === 'whoami')
  assert.equal(strange.length, 0)
})

function answerOf(link: string | undefined): TurnAnswer {
  return link === undefined ? { turn: 'wait' } : { turn: 'told', value: link, lifeMs: 60_000 }
}

async function wanted(hub: LocalHub, index: number): Promise<Buffer> {
  const { content } = hub.file({ repo: 'lab/model', path: 'one.bin' })
  const parts: Buffer[] = []
  for await (const part of content.read(index * CHUNK, (index + 1) * CHUNK)) parts.push(Buffer.from(part))
  return Buffer.concat(parts)
}
