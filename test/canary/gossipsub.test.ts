// M9, M12 and M22: what gossipsub's defaults do to hosts behind one address, to replays, and to the score of a liar.
import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { type GossipsubOpts, type Message, TopicValidatorResult } from '@libp2p/gossipsub'
import { createTopicScoreParams } from '@libp2p/gossipsub/score'
import { type GossipNode, gossipNode, holds } from './bare-nodes.ts'

const TOPIC = 'canary'
const SAME_ADDRESS = 16

for (const { weight, heard } of [
  { weight: undefined, heard: false },
  { weight: 0, heard: true },
]) {
  test(`M9: of ${SAME_ADDRESS} hosts on one address ${heard ? 'all are heard with colocation weight 0' : 'none is heard on defaults'}`, async (t) => {
    const scoreParams = weight === undefined ? {} : { IPColocationFactorWeight: weight }
    const hub = await started(t, { scoreParams, heartbeatInterval: 200 })
    const leaves = await Promise.all(Array.from({ length: SAME_ADDRESS }, () => started(t, { scoreParams })))
    const from = new Set<string>()
    hub.services.pubsub.addEventListener('message', ({ detail }) => {
      if (detail.type === 'signed') from.add(detail.from.toString())
    })
    await Promise.all(leaves.map((leaf) => leaf.dial(hub.getMultiaddrs())))
    const knowsHub = (leaf: GossipNode) => leaf.services.pubsub.getSubscribers(TOPIC).length === 1
    assert.ok(await holds(() => leaves.every(knowsHub), 5_000))
    const scores = () => leaves.map((leaf) => scoreOf(hub, leaf))
    assert.ok(
      await holds(() => scores().every((score) => (heard ? score === 0 : score < -80)), 3_000),
      `${scores()}`,
    )
    // gossipsub goes on trusting for a second whoever had a good score when it last looked.
    if (!heard) await new Promise((resolve) => setTimeout(resolve, 1_100))
    await Promise.all(
      leaves.map((leaf) => leaf.services.pubsub.publish(TOPIC, Buffer.from(leaf.peerId.toString()))),
    )
    assert.equal(await holds(() => from.size === SAME_ADDRESS, heard ? 5_000 : 1_000), heard)
    if (!heard) assert.equal(from.size, 0)
  })
}

test('M12: a message sent again after seenTTL is delivered again', async (t) => {
  const [liar, victim] = await Promise.all([
    started(t, {}),
    started(t, { seenTTL: 200, heartbeatInterval: 100 }),
  ])
  let delivered = 0
  victim.services.pubsub.addEventListener('message', () => delivered++)
  await joined(liar, victim)
  const recorded: Uint8Array[] = []
  const stream = outbound(liar, victim)
  const push = stream.push.bind(stream)
  stream.push = (bytes) => {
    recorded.push(bytes)
    push(bytes)
  }
  await liar.services.pubsub.publish(TOPIC, Buffer.from('once'))
  assert.ok(await holds(() => delivered === 1, 2_000))
  const [message] = recorded.filter((bytes) => Buffer.from(bytes).includes('once'))
  assert.ok(message)
  push(message)
  assert.equal(await holds(() => delivered > 1, 100), false, 'within seenTTL it is known')
  await new Promise((resolve) => setTimeout(resolve, 400))
  push(message)
  assert.ok(await holds(() => delivered === 2, 2_000), `delivered ${delivered} times`)
})

const punishing = {
  topics: {
    [TOPIC]: createTopicScoreParams({
      topicWeight: 1,
      timeInMeshWeight: 0,
      firstMessageDeliveriesWeight: 0,
      meshMessageDeliveriesWeight: 0,
      meshFailurePenaltyWeight: 0,
      invalidMessageDeliveriesWeight: -10,
      invalidMessageDeliveriesDecay: 0.97,
    }),
  },
}
const defaults = { topics: { [TOPIC]: createTopicScoreParams({}) } }

for (const { id, validator, scoreParams, inMeshMs, expected } of [
  {
    id: 'M12: a validator that throws costs the sender nothing',
    validator: () => {
      throw new Error('a bug in a validator')
    },
    scoreParams: punishing,
    inMeshMs: 0,
    expected: (score: number) => score === 0,
  },
  {
    id: 'M12: a validator that rejects costs the sender its score',
    validator: () => TopicValidatorResult.Reject,
    scoreParams: punishing,
    inMeshMs: 0,
    expected: (score: number) => score <= -80,
  },
  {
    id: 'M22: with the default topic scores rejected messages cost nothing that shows',
    validator: () => TopicValidatorResult.Reject,
    scoreParams: defaults,
    inMeshMs: 2_200,
    expected: (score: number) => score >= 0,
  },
]) {
  test(id, async (t) => {
    const options = { scoreParams: { IPColocationFactorWeight: 0, ...scoreParams }, heartbeatInterval: 100 }
    const [liar, victim] = await Promise.all([started(t, options), started(t, options)])
    let validated = 0
    victim.services.pubsub.topicValidators.set(TOPIC, (_peer, _message: Message) => {
      validated++
      return validator()
    })
    await joined(liar, victim)
    await new Promise((resolve) => setTimeout(resolve, inMeshMs))
    for (let message = 0; message < 20; message++)
      await liar.services.pubsub.publish(TOPIC, Buffer.from(`lie ${message}`))
    // The score is kept for one heartbeat.
    assert.ok(await holds(() => validated >= 3, 3_000))
    await new Promise((resolve) => setTimeout(resolve, 300))
    const score = scoreOf(victim, liar)
    assert.ok(expected(score), `score ${score} after ${validated} messages`)
  })
}

async function started(t: TestContext, options: Partial<GossipsubOpts>): Promise<GossipNode> {
  const node = await gossipNode(options)
  t.after(() => node.stop())
  node.services.pubsub.subscribe(TOPIC)
  return node
}

async function joined(one: GossipNode, other: GossipNode): Promise<void> {
  await one.dial(other.getMultiaddrs())
  const meshed = (node: GossipNode) => inside(node, 'getMeshPeers', TOPIC).length > 0
  assert.ok(await holds(() => meshed(one) && meshed(other), 5_000))
}

function scoreOf(node: GossipNode, other: GossipNode): number {
  return inside(node, 'getScore', other.peerId.toString())
}

/** Calls what gossipsub has and does not show in its type. */
function inside(node: GossipNode, method: 'getScore', peer: string): number
function inside(node: GossipNode, method: 'getMeshPeers', topic: string): readonly string[]
function inside(node: GossipNode, method: string, argument: string): unknown {
  const { pubsub } = node.services
  return Reflect.apply(Reflect.get(pubsub, method), pubsub, [argument])
}

function outbound(from: GossipNode, to: GossipNode): { push: (bytes: Uint8Array) => void } {
  const stream = Reflect.get(from.services.pubsub, 'streamsOutbound').get(to.peerId.toString())
  assert.ok(stream, 'gossipsub has changed inside: no outbound stream is found')
  return stream
}
