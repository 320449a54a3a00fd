// What one host tells one other: in order, on one stream, no faster than the other bears, and only among members. Liars on both
// ends lose their stream and nothing else.
import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { frameOf, readFrame } from '@shoal/agent/net/framing.ts'
import type { MeshHandlers } from '@shoal/agent/net/mesh.ts'
import { MeshSecret } from '@shoal/agent/net/mesh-secret.ts'
import { BURST_TELLS, TELLS_PER_SECOND, TellServer } from '@shoal/agent/net/tell-server.ts'
import { hasCode } from '@shoal/protocol/errors.ts'
import { type PeerId, parseBlobId, parsePeerId } from '@shoal/protocol/ids.ts'
import { encodeMessage, LIMITS, TELL_PROTOCOL, type Tell } from '@shoal/protocol/messages.ts'
import { systemClock } from '@shoal/protocol/time.ts'
import { addressOf, testHosts, until } from '../support/mesh-host.ts'
import { RawMember, type RawStream } from '../support/raw-member.ts'
import { virtualClock } from '../support/virtual-clock.ts'

const never = new AbortController().signal
const blob = parseBlobId(`sha256:${'cd'.repeat(32)}`)
const geometry = 'slices:4194304:4294967296'
const gained = (first: number, length = 1): Tell['blobs'] => [
  { blob, geometry, state: 'wanting', gained: [[first, length]] },
]
const frame = (blobs: Tell['blobs']) => frameOf(encodeMessage({ blobs }, LIMITS.tell))
const yes = frameOf(encodeMessage({ ok: true }, LIMITS.tellAnswer))
const u32 = (value: number) => {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32BE(value)
  return bytes
}

function hostsOf(t: TestContext) {
  const hosts = testHosts()
  t.after(async () => {
    await hosts[Symbol.asyncDispose]()
    assert.deepEqual(hosts.failures, [])
  })
  return hosts
}

async function rawMember(t: TestContext, secret?: MeshSecret): Promise<RawMember> {
  const raw = await RawMember.start(secret)
  t.after(() => raw[Symbol.asyncDispose]())
  return raw
}

/** A host that keeps what it hears, an honest teller, and a member that tells as the test says. */
async function hearer(t: TestContext, told: Partial<MeshHandlers>['told'] = () => true) {
  const raw = await rawMember(t)
  const hosts = hostsOf(t)
  const heard: { readonly peer: PeerId; readonly blobs: Tell['blobs'] }[] = []
  const host = await hosts.start(
    {},
    {
      told(peer, message) {
        heard.push({ peer, blobs: message.blobs })
        return told(peer, message)
      },
    },
  )
  const teller = await hosts.start()
  await Promise.all([raw.dial(addressOf(host)), teller.dial(addressOf(host), never)])
  return { hosts, host, teller, heard, raw, open: () => raw.open(host.self, TELL_PROTOCOL) }
}

/** A host that tells a member which behaves as the test says on each stream. */
async function tellerOf(t: TestContext, behave: (raw: RawStream, streams: number) => Promise<void>) {
  const raw = await rawMember(t)
  let streams = 0
  await raw.answer(TELL_PROTOCOL, (one) => behave(one, ++streams))
  const hosts = hostsOf(t)
  const teller = await hosts.start({ tuning: { noProgressMs: 400 } })
  await teller.dial(raw.address, never)
  return { teller, raw, streams: () => streams }
}

const hear = ({ bytes }: RawStream) => readFrame(bytes, LIMITS.tell, never)

async function isCut({ stream }: RawStream): Promise<void> {
  await until('the stream is reset', () => stream.status === 'reset' || stream.status === 'aborted', 2_000)
}

test('what is told arrives once, in order, from the peer that told it, and the answer is the hearer’s word', async (t) => {
  const { teller, host, heard } = await hearer(t, (_peer, { blobs }) => blobs[0]?.gained[0]?.[0] !== 7)
  for (let index = 0; index < 60; index++)
    assert.equal(await teller.tell(host.self, gained(index), never), index !== 7)
  assert.deepEqual(
    heard,
    Array.from({ length: 60 }, (_, index) => ({ peer: teller.self, blobs: gained(index) })),
  )
})

test('claims and every state come through, and telling nothing asks nobody', async (t) => {
  const { teller, host, heard } = await hearer(t)
  const blobs: Tell['blobs'] = [
    { blob, geometry, state: 'wanting', gained: [], claimed: [3, 1_000] },
    { blob, geometry, state: 'complete', gained: [] },
    { blob, geometry, state: 'gone', gained: [] },
  ]
  assert.equal(await teller.tell(host.self, blobs, never), true)
  assert.equal(await teller.tell(host.self, [], never), true)
  assert.deepEqual(heard, [{ peer: teller.self, blobs }])
})

test('more than a message holds is told in several, in order', async (t) => {
  const { teller, host, heard } = await hearer(t)
  const runs = Array.from({ length: 3_000 }, (_, at): [number, number] => [at * 2, 1])
  const many: Tell['blobs'] = Array.from({ length: 40 }, (_, at) => ({
    blob: parseBlobId(`sha256:${at.toString(16).padStart(64, '0')}`),
    geometry,
    state: 'wanting',
    gained: at === 5 ? runs : [[at, 1]],
  }))
  assert.equal(await teller.tell(host.self, many, never), true)
  const entries = heard.flatMap(({ blobs }) => blobs)
  assert.deepEqual(
    entries.filter((entry) => entry.blob === many[5]?.blob).flatMap((entry) => entry.gained),
    runs,
  )
  assert.deepEqual(
    [...new Set(entries.map((entry) => entry.blob))],
    many.map((entry) => entry.blob),
  )
})

test('all tells to a peer use one stream, one at a time; another meanwhile is refused at once', async (t) => {
  const hold = Promise.withResolvers<void>()
  const { teller, raw, streams } = await tellerOf(t, async (one) => {
    for (let count = 0; ; count++) {
      await hear(one)
      if (count === 20) await hold.promise
      await one.bytes.write(yes, never)
    }
  })
  for (let index = 0; index < 20; index++) await teller.tell(raw.peer, gained(index), never)
  const under = teller.tell(raw.peer, gained(20), never)
  await assert.rejects(teller.tell(raw.peer, gained(21), never), { code: 'peer-busy' })
  hold.resolve()
  assert.equal(await under, true)
  assert.equal(await teller.tell(raw.peer, gained(21), never), true)
  assert.equal(streams(), 1)
})

test('a host that is not connected, or not admitted, is told nothing and tells nothing', async (t) => {
  const { hosts, host, heard } = await hearer(t)
  const other = new MeshSecret(new Uint8Array(32).fill(8))
  const outside = await hosts.start({ secret: async () => other })
  await assert.rejects(outside.dial(addressOf(host), never), { code: 'peer-unreachable' })
  await assert.rejects(outside.tell(host.self, gained(1), never), { code: 'peer-unreachable' })
  await assert.rejects(host.tell(outside.self, gained(1), never), { code: 'peer-unreachable' })
  await assert.rejects((await rawMember(t, other)).dial(addressOf(host)))
  assert.equal(heard.length, 0)
})

test('a member that does not know the protocol is a peer that cannot be told', async (t) => {
  const raw = await rawMember(t)
  const teller = await hostsOf(t).start()
  await teller.dial(raw.address, never)
  await assert.rejects(teller.tell(raw.peer, gained(1), never), { code: 'peer-unreachable' })
  assert.ok(teller.isConnected(raw.peer))
})

test('tells that make no sense end their stream, are counted, and nobody else notices', async (t) => {
  const { host, teller, heard, raw, open } = await hearer(t)
  const encoded = (message: object) => frameOf(encodeMessage(message, 1 << 20))
  const [entry] = gained(1)
  const senseless: Record<string, Uint8Array> = {
    'a length of 0': u32(0),
    'a length of 4 GiB': u32(2 ** 32 - 1),
    'one byte over the limit': u32(LIMITS.tell + 1),
    garbage: frameOf(Buffer.alloc(100, 0xff)),
    'seventeen blobs': encoded({ blobs: Array.from({ length: 17 }, () => entry) }),
    'a path for a blob': encoded({ blobs: [{ ...entry, blob: '../../etc/passwd' }] }),
    'an unknown state': encoded({ blobs: [{ ...entry, state: 'held' }] }),
    'a run of nothing': encoded({ blobs: [{ ...entry, gained: [[1, 0]] }] }),
    'an index of 2^53': encoded({ blobs: [{ ...entry, gained: [[2 ** 53, 1]] }] }),
    'too many runs': encoded({ blobs: [{ ...entry, gained: Array.from({ length: 513 }, () => [1, 1]) }] }),
    'too many claims': encoded({ blobs: [{ ...entry, claimed: Array.from({ length: 257 }, () => 1) }] }),
    'a field nobody knows': encoded({ blobs: [{ ...entry, extra: 1 }] }),
    'no blobs': encoded({}),
    'the same twice in one frame': frameOf(
      Buffer.concat([frame(gained(1)).subarray(4), frame(gained(1)).subarray(4)]),
    ),
  }
  let counted = 0
  for (const [name, bytes] of Object.entries(senseless)) {
    const bad = await open()
    await bad.bytes.write(bytes, never)
    await isCut(bad)
    assert.equal(host.counters().badMessages, ++counted, name)
    assert.equal(await teller.tell(host.self, gained(counted), never), true)
  }
  assert.ok(heard.every(({ peer }) => peer === teller.self))
  assert.ok(host.isConnected(raw.peer))
})

test('a tell cut at every byte is never heard, and blames nobody', async (t) => {
  const { host, teller, heard, open } = await hearer(t)
  const whole = frame(gained(1))
  for (let length = 0; length < whole.byteLength; length++) {
    const { stream, bytes } = await open()
    if (length > 0) await bytes.write(whole.subarray(0, length), never)
    await stream.close()
    await until('the other side has closed too', () => stream.remoteWriteStatus === 'closed', 2_000)
  }
  assert.equal(host.counters().badMessages, 0)
  assert.equal(heard.length, 0)
  assert.equal(await teller.tell(host.self, gained(1), never), true)
})

test('a member that tells without waiting for answers loses its stream, and memory stays flat', async (t) => {
  const { host, teller, heard, raw, open } = await hearer(t)
  const runs = Array.from({ length: 512 }, (_, at): [number, number] => [100_000 + at, 1])
  const [entry] = gained(1)
  const large = frame(entry === undefined ? [] : [{ ...entry, gained: runs }])
  const before = process.memoryUsage().rss
  for (let round = 0; round < 20; round++) {
    const one = await open()
    const many = Buffer.concat(Array.from({ length: 300 }, () => large))
    await one.bytes.write(many, never).catch(() => {})
    await isCut(one)
  }
  assert.ok(process.memoryUsage().rss - before < 100e6)
  assert.ok(host.counters().badMessages >= 20)
  assert.ok(heard.length <= BURST_TELLS, `${heard.length} were heard`)
  assert.ok(host.isConnected(raw.peer))
  assert.equal(await teller.tell(host.self, gained(1), never), true)
})

test('a member is heard in a burst and then at a steady rate, on however many streams, and honest ones at once', async (t) => {
  const { host, teller, heard, raw, open } = await hearer(t)
  const ended = new AbortController()
  const start = systemClock.now()
  const busy = [await open(), await open()].map(async ({ bytes }) => {
    for (let index = 0; !ended.signal.aborted; index++) {
      await bytes.write(frame(gained(index)), never)
      await readFrame(bytes, LIMITS.tellAnswer, never)
    }
  })
  const ofRaw = () => heard.filter(({ peer }) => peer === raw.peer).length
  await until('the burst is over', () => ofRaw() > BURST_TELLS + TELLS_PER_SECOND, 20_000)
  const seconds = (systemClock.now() - start) / 1_000
  assert.ok(ofRaw() <= BURST_TELLS + TELLS_PER_SECOND * seconds + 1, `${ofRaw()} in ${seconds.toFixed(2)} s`)
  const from = systemClock.now()
  assert.equal(await teller.tell(host.self, gained(1), never), true)
  assert.ok(systemClock.now() - from < 1_000, 'the honest teller waited for the other')
  ended.abort()
  await Promise.all(busy)
  assert.equal(host.counters().badMessages, 0)
})

test('a third stream to tell on is reset, the first two go on', async (t) => {
  const { open } = await hearer(t)
  const two = [await open(), await open()]
  for (const { bytes } of two) await bytes.write(frame(gained(1)), never)
  for (const { bytes } of two) await readFrame(bytes, LIMITS.tellAnswer, never)
  const third = await open()
  await third.bytes.write(frame(gained(1)), never).catch(() => {})
  await isCut(third)
  for (const { bytes } of two) {
    await bytes.write(frame(gained(2)), never)
    await readFrame(bytes, LIMITS.tellAnswer, never)
  }
})

test('a hearer that never answers costs one timeout a tell, and its teller no memory', async (t) => {
  const { teller, raw } = await tellerOf(t, async ({ stream }) => {
    stream.pause()
    await new Promise(() => {})
  })
  const runs = Array.from({ length: 512 }, (_, at): [number, number] => [at, 1])
  const before = process.memoryUsage().rss
  const attempt = () => teller.tell(raw.peer, [{ blob, geometry, state: 'wanting', gained: runs }], never)
  const slow = assert.rejects(attempt(), { code: 'peer-timeout' })
  for (let times = 0; times < 10_000; times++) await assert.rejects(attempt(), { code: 'peer-busy' })
  await slow
  await assert.rejects(attempt(), { code: 'peer-timeout' })
  assert.ok(process.memoryUsage().rss - before < 100e6)
  assert.ok(teller.isConnected(raw.peer))
})

test('a peer that goes while it is being told, and one that has gone, are unreachable', async (t) => {
  const { teller, raw } = await tellerOf(t, async (one) => {
    await hear(one)
    await one.bytes.write(yes, never)
    await hear(one)
    await raw.node.stop()
  })
  await teller.tell(raw.peer, gained(1), never)
  await assert.rejects(teller.tell(raw.peer, gained(2), never), { code: 'peer-unreachable' })
  await until('the peer is gone', () => !teller.isConnected(raw.peer), 5_000)
  await assert.rejects(teller.tell(raw.peer, gained(3), never), { code: 'peer-unreachable' })
})

test('a tell that is cancelled ends at once, and the next one is answered', async (t) => {
  const { teller, raw } = await tellerOf(t, async (one, streams) => {
    for (;;) {
      await hear(one)
      if (streams > 1) await one.bytes.write(yes, never)
    }
  })
  const caller = new AbortController()
  const cancelled = teller.tell(raw.peer, gained(1), caller.signal)
  systemClock.after(50, () => caller.abort())
  await assert.rejects(cancelled, { code: 'aborted' })
  assert.equal(await teller.tell(raw.peer, gained(1), never), true)
})

test('a stream that the hearer ended between two tells is replaced without an error', async (t) => {
  const { teller, raw, streams } = await tellerOf(t, async (one) => {
    await hear(one)
    await one.bytes.write(yes, never)
    one.stream.abort(new Error('idle'))
  })
  for (let index = 0; index < 5; index++)
    assert.equal(await teller.tell(raw.peer, gained(index), never), true)
  assert.equal(streams(), 5)
})

test('wrong answers are bad messages, and bytes behind an answer are never taken for the next', async (t) => {
  const answers: Record<string, Uint8Array> = {
    'a length of 4 GiB': u32(2 ** 32 - 1),
    'a length over the limit': u32(LIMITS.tellAnswer + 1),
    garbage: frameOf(Buffer.alloc(5, 0xff)),
    'no word': frameOf(encodeMessage({}, 16)),
    'a number': frameOf(encodeMessage({ ok: 1 }, 16)),
    'a flood': Buffer.alloc(1 << 20, 1),
  }
  for (const [name, bytes] of Object.entries(answers)) {
    const { teller, raw } = await tellerOf(t, async (one) => {
      await hear(one)
      await one.bytes.write(bytes, never)
      await new Promise(() => {})
    })
    await assert.rejects(teller.tell(raw.peer, gained(1), never), { code: 'bad-message' }, name)
    assert.ok(teller.isConnected(raw.peer), name)
  }
  const twice = await tellerOf(t, async (one) => {
    for (;;) {
      await hear(one)
      await one.bytes.write(Buffer.concat([yes, yes]), never)
    }
  })
  for (let index = 0; index < 5; index++)
    await twice.teller.tell(twice.raw.peer, gained(index), never).then(
      (ok) => assert.equal(ok, true),
      (error) => assert.ok(hasCode(error, 'bad-message')),
    )
})

test('a handler that fails costs the teller one error, and the host hears on', async (t) => {
  let failing = true
  const { teller, host } = await hearer(t, () => {
    if (failing) throw new Error('a bug')
    return true
  })
  await assert.rejects(teller.tell(host.self, gained(1), never), { code: 'peer-unreachable' })
  failing = false
  assert.equal(await teller.tell(host.self, gained(1), never), true)
})

test('by its own clock a host hears a burst, then as much as the time allows, and ends a stream that is silent for 30 s', async (t) => {
  const clock = virtualClock()
  const blamed: string[] = []
  let heard = 0
  const server = new TellServer({
    clock,
    told: () => ++heard > 0,
    onBadMessage: (_peer, reason) => blamed.push(reason),
    onFailure: (error) => assert.fail(String(error)),
  })
  const raw = await rawMember(t)
  await raw.node.handle(TELL_PROTOCOL, (stream, connection) => {
    server.serve(stream, parsePeerId(connection.remotePeer.toString()), never)
  })
  const other = await rawMember(t)
  await other.dial(raw.address)
  const one = await other.open(raw.peer, TELL_PROTOCOL)
  const say = async () => {
    await one.bytes.write(frame(gained(1)), never)
    await readFrame(one.bytes, LIMITS.tellAnswer, never)
  }
  for (let times = 0; times < BURST_TELLS; times++) await say()
  const late = say()
  await until('the next tell waits for its turn', () => clock.pending === 2)
  await clock.advance(1_000 / TELLS_PER_SECOND - 1)
  assert.equal(heard, BURST_TELLS)
  await clock.advance(1)
  await late
  assert.equal(heard, BURST_TELLS + 1)
  await clock.advance(1_000)
  for (let times = 0; times < TELLS_PER_SECOND; times++) await say()
  assert.equal(heard, BURST_TELLS + 1 + TELLS_PER_SECOND)
  await clock.advance(29_999)
  assert.equal(one.stream.status, 'open')
  await clock.advance(1)
  await isCut(one)
  assert.deepEqual(blamed, [])
  assert.equal(clock.pending, 0)
})
