// Makes the plans of downloads, and has what they decide written down when the operator wants it.
import type { Service } from '@shoal/protocol/service.ts'
import type { Log } from './log.ts'
import { DownloadPlan, type PlanSettings } from './plan/download-plan.ts'
import type { SourceScores } from './plan/source-score.ts'
import { PlanRecorder } from './transfer/plan-record.ts'

export interface PlanMaker extends Service {
  readonly make: (settings: PlanSettings, scores: SourceScores) => DownloadPlan
}

/** @param recordPath undefined: nothing is written down */
export function planMaker(recordPath: string | undefined, log: Log): PlanMaker {
  let recorder: PlanRecorder | undefined
  return {
    name: 'plan record',
    make: (settings, scores) => recorder?.makePlan(settings, scores) ?? new DownloadPlan(settings, scores),
    async start() {
      if (recordPath === undefined || recorder !== undefined) return
      recorder = new PlanRecorder(recordPath, (error) =>
        log.warn({ path: recordPath, reason: error.message }, 'decisions are not recorded'),
      )
    },
    async stop() {
      await recorder?.close()
      recorder = undefined
    },
  }
}
