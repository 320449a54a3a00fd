// What real agents decided is what the plan decides when it is told the same: the simulation, which runs the same plan, stands on this.
import assert from 'node:assert/strict'
import { join } from 'node:path'
import test from 'node:test'
import { connected, startAgent } from '../support/agent-process.ts'
import { spawnLocalHub } from '../support/local-hub/process.ts'
import { replayPlans } from '../support/plan-replay.ts'
import { tempFolder } from '../support/temp-folder.ts'

const MIB = 1024 * 1024
const REPO = 'lab/recorded'

test('the plan calls of three real agents that pull at once, replayed, give the same assignments', async (context) => {
  const folder = await tempFolder(context)
  const hub = await spawnLocalHub({
    repos: [
      {
        id: REPO,
        files: { 'a.bin': { seed: 'a', sizeBytes: 24 * MIB }, 'b.bin': { seed: 'b', sizeBytes: 9 * MIB } },
      },
    ],
    bytesPerSecond: 20e6,
  })
  context.after(() => hub.stop())
  const records = [0, 1, 2].map((at) => join(folder, `plans-${at}.jsonl`))
  const [firstRecord = '', ...otherRecords] = records
  const first = await startAgent(context, { hub: hub.url, env: { SHOAL_PLAN_RECORD: firstRecord } })
  const others = await Promise.all(
    otherRecords.map((record) =>
      startAgent(context, { hub: hub.url, peers: [first], env: { SHOAL_PLAN_RECORD: record } }),
    ),
  )
  const agents = [first, ...others]
  for (const agent of agents) await connected(agent, 2)
  await Promise.all(agents.map((agent) => agent.pull(REPO)))
  for (const agent of agents) assert.equal(await agent.stop(), 0)
  for (const record of records) {
    const { plans, calls, started } = await replayPlans(record)
    console.log(`${plans} plans, ${calls} calls, ${started} assignments: the same again`)
    assert.equal(plans, 2)
    assert.ok(started >= 24 + 9, `${started} assignments`)
  }
})
