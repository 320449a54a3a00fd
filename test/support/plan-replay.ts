// Replays a record of plans: the same calls in the same order, on fresh plans with scores of their own. Tells where a decision differs.
import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { DownloadPlan, type PlanSettings } from '@shoal/agent/plan/download-plan.ts'
import { SourceScores } from '@shoal/agent/plan/source-score.ts'
import { parsePlanLine, readBack } from '@shoal/agent/transfer/plan-record.ts'

export interface Replay {
  readonly plans: number
  readonly calls: number
  /** Assignments that were made. */
  readonly started: number
}

/** @throws AssertionError at the first call whose result is not what was recorded */
export async function replayPlans(path: string): Promise<Replay> {
  const scores = new SourceScores()
  const plans = new Map<number, DownloadPlan>()
  let calls = 0
  let started = 0
  for (const text of (await readFile(path, 'utf8')).split('\n')) {
    if (text === '') continue
    const line = parsePlanLine(text)
    const args = line.args.map(readBack)
    if (line.call === 'new') {
      plans.set(line.plan, new DownloadPlan(args[0] as PlanSettings, scores))
      continue
    }
    const plan = plans.get(line.plan)
    assert.ok(plan !== undefined, `plan ${line.plan} was never begun`)
    const method: unknown = Reflect.get(plan, line.call, plan)
    assert.ok(typeof method === 'function', `a plan has no ${line.call}`)
    const result: unknown = Reflect.apply(method, plan, args)
    calls++
    const again = JSON.parse(JSON.stringify({ result: result ?? null }))
    assert.deepEqual(
      again,
      { result: line.result ?? null },
      `call ${calls}: ${line.call} of plan ${line.plan}`,
    )
    if (line.call === 'next') started += (result as { start: readonly unknown[] }).start.length
  }
  return { plans: plans.size, calls, started }
}
