// One site, one budget at the Hub: real mesh hosts with real Hub clients. When the Hub refuses one, none of them asks again before the
// Hub takes requests again; and as the budget runs low, all slow down.
import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { silentLog } from '@shoal/agent/log.ts'
import type { MeshNode } from '@shoal/agent/net/mesh-node.ts'
import { SiteBudget } from '@shoal/agent/site-budget.ts'
import { createHubClient } from '@shoal/agent/sources/hub-client.ts'
import { OriginBudgets } from '@shoal/agent/sources/origin-budgets.ts'
import { asShoalError } from '@shoal/protocol/errors.ts'
import { parseRepoSpec, parseRevision } from '@shoal/protocol/ids.ts'
import { encodeMessage, GOSSIP_ORIGIN_TOPIC, LIMITS, MAX_BUDGET_WORDS } from '@shoal/protocol/messages.ts'
import { seededRandom, sleep, systemClock } from '@shoal/protocol/time.ts'
import { type LocalHub, startLocalHub } from '../support/local-hub/hub.ts'
import { addressOf, testHosts, until } from '../support/mesh-host.ts'
import { RawMember } from '../support/raw-member.ts'

const { repo } = parseRepoSpec('lab/model')
const MAIN = parseRevision('main')
const never = new AbortController().signal
/** Longer than gossip takes on a busy machine. */
const ROUND_MS = 1_000

interface SiteHost {
  readonly node: MeshNode
  readonly budgets: OriginBudgets
  /** Asks the Hub's API once; the code of the error, or `ok`. */
  ask(token?: string): Promise<string>
}

async function site(
  t: TestContext,
  hub: LocalHub,
  labels: readonly (string | undefined)[],
): Promise<readonly SiteHost[]> {
  const hosts = testHosts()
  t.after(() => hosts[Symbol.asyncDispose]())
  const made: SiteHost[] = []
  for (const [index, label] of labels.entries()) {
    const node = await hosts.start()
    const random = seededRandom(index + 1)
    const budgets = new OriginBudgets({ clock: systemClock, random, self: node.self, site: label })
    const client = createHubClient(
      {
        hub: { upstreams: [hub.url] },
        connections: {
          maxPerHost: 4,
          keepAlive: true,
          compression: false,
          connectTimeoutMs: 2_000,
          readTimeoutMs: 2_000,
          retryBackoffFactor: 2,
          maxRetryDelayMs: 50,
        },
        downloads: { maxRetries: 0, retryDelayMs: 5 },
        maxPaceWaitMs: 0,
      },
      {
        clock: systemClock,
        random,
        budgets,
        log: () => {},
        via: () => node.self,
        onOriginRequest: () => {},
      },
    )
    const budget = new SiteBudget({
      mesh: node,
      budgets,
      clock: systemClock,
      log: silentLog,
      onFailure: (_name, error) => assert.fail(String(error)),
    })
    await budget.start()
    t.after(() => Promise.all([budget.stop(), client.close()]))
    made.push({
      node,
      budgets,
      ask: (token) =>
        client.revision(repo, MAIN, { token, signal: never }).then(
          () => 'ok',
          (error: unknown) => asShoalError(error)?.code ?? String(error),
        ),
    })
  }
  const [first, ...others] = made
  assert.ok(first)
  for (const { node } of others) await node.dial(addressOf(first.node), never)
  await until('all are connected', () => made.every(({ node }) => node.peers().length === made.length - 1))
  return made
}

function heldBack({ budgets }: SiteHost, hub: LocalHub, token?: string): boolean {
  return budgets.delay(hub.url, token, 'api') > 0
}

async function hubWith(
  t: TestContext,
  api: { readonly anonymous: number; readonly user: number },
  windowSeconds: number,
): Promise<LocalHub> {
  const hub = await startLocalHub({
    repos: [{ id: 'lab/model', files: { 'a.txt': 'a' } }],
    users: [
      { token: 'hf_one', name: 'one', access: [] },
      { token: 'hf_two', name: 'two', access: [] },
    ],
    quotas: { api, windowSeconds },
  })
  t.after(() => hub.stop())
  return hub
}

test('when the Hub refuses one host, no host of its site asks that bucket again before the reset', async (t) => {
  const hub = await hubWith(t, { anonymous: 3, user: 100 }, 6)
  const hosts = await site(t, hub, [undefined, undefined, undefined, undefined])
  const [first, ...others] = hosts
  assert.ok(first)
  const began = systemClock.now()
  // The window begins with its first request; a fault in front refuses the host before the budget looks low to it.
  hub.setQuotas({ api: { anonymous: 0, user: 100 } })
  assert.equal(await first.ask(), 'origin-rate-limited')
  const refusedAt = systemClock.now()
  await until('all hold back', () => others.every((host) => heldBack(host, hub)), ROUND_MS)
  t.diagnostic(`the site held back ${(systemClock.now() - refusedAt).toFixed(0)} ms after the 429`)
  const before = hub.counts.requests()
  while (systemClock.now() - began < 5_500) {
    for (const host of hosts) assert.equal(await host.ask(), 'origin-rate-limited')
    await sleep(systemClock, 100)
  }
  assert.equal(hub.counts.requests(), before, 'nobody asked')
  hub.setQuotas({ api: { anonymous: 100, user: 100 } })
  await until('the reset has come for all', () => hosts.every((host) => !heldBack(host, hub)), 5_000)
  for (const host of hosts) assert.equal(await host.ask(), 'ok')
})

test('a host that comes while the site holds back hears of it', async (t) => {
  const hub = await hubWith(t, { anonymous: 0, user: 100 }, 30)
  const [first, second] = await site(t, hub, [undefined, undefined])
  assert.ok(first && second)
  assert.equal(await first.ask(), 'origin-rate-limited')
  const [late] = await site(t, hub, [undefined])
  assert.ok(late)
  assert.equal(heldBack(late, hub), false)
  await late.node.dial(addressOf(first.node), never)
  await until('the newcomer holds back', () => heldBack(late, hub), 5_000)
})

test('another site, another token: another budget; the same token is one budget everywhere', async (t) => {
  const hub = await hubWith(t, { anonymous: 0, user: 0 }, 30)
  const [north, south] = await site(t, hub, ['north', 'south'])
  assert.ok(north && south)
  assert.equal(await north.ask(), 'origin-rate-limited')
  assert.equal(await north.ask('hf_one'), 'origin-rate-limited')
  await until('the token is held back there too', () => heldBack(south, hub, 'hf_one'), ROUND_MS)
  assert.equal(heldBack(south, hub), false, 'another address')
  assert.equal(heldBack(south, hub, 'hf_two'), false, 'another token')
  assert.equal(heldBack(north, hub, 'hf_two'), false, 'another token')
})

test('as the budget runs low all hosts slow down, and few are refused', async (t) => {
  const hub = await hubWith(t, { anonymous: 60, user: 100 }, 8)
  const hosts = await site(t, hub, [undefined, undefined, undefined, undefined])
  const began = systemClock.now()
  while (systemClock.now() - began < 7_500) {
    await Promise.all(hosts.map((host) => (heldBack(host, hub) ? undefined : host.ask())))
    await sleep(systemClock, 20)
  }
  const statuses = hub.counts.seen.map(({ status }) => status)
  const refused = statuses.filter((status) => status === 429).length
  t.diagnostic(`${statuses.length} requests of ${hosts.length} hosts, ${refused} refused`)
  assert.ok(statuses.length <= 64, 'the budget and at most one more of each host')
  assert.ok(refused <= 4, `${refused} refused`)
})

test('words are small, and what is no word is not heard', async (t) => {
  const hub = await hubWith(t, { anonymous: 100, user: 100 }, 30)
  const [host] = await site(t, hub, [undefined])
  assert.ok(host)
  const member = await RawMember.start()
  t.after(() => member[Symbol.asyncDispose]())
  const { pubsub } = member.node.services
  pubsub.subscribe(GOSSIP_ORIGIN_TOPIC)
  await member.dial(addressOf(host.node))
  await until('it is heard', () => pubsub.getSubscribers(GOSSIP_ORIGIN_TOPIC).length === 1, 5_000)
  let sequence = systemClock.wallTime()
  const message = (budgets: readonly object[]) => {
    const at = Math.floor(systemClock.wallTime())
    return encodeMessage({ sequence: Math.floor(++sequence), at, expires: at + 60_000, budgets }, 1 << 20)
  }
  const word = {
    budget: new Uint8Array(8),
    bucket: 'resolvers',
    remaining: 5_000_000,
    resetMs: 299_000,
    blockedMs: 299_000,
  }
  const full = message(Array.from({ length: MAX_BUDGET_WORDS }, () => word))
  t.diagnostic(`a full message has ${full.byteLength} bytes`)
  assert.ok(full.byteLength <= LIMITS.gossipOrigin)
  await pubsub.publish(GOSSIP_ORIGIN_TOPIC, message(Array.from({ length: MAX_BUDGET_WORDS + 1 }, () => word)))
  await pubsub.publish(GOSSIP_ORIGIN_TOPIC, message([{ ...word, blockedMs: -1 }]))
  await pubsub.publish(GOSSIP_ORIGIN_TOPIC, message([{ ...word, budget: new Uint8Array(32) }]))
  await until('all were rejected', () => host.node.counters().gossipRejected === 3, 3_000)
})
