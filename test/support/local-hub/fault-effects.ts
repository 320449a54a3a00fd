// What a fault changes in the request's range and in an answer that was right. Pure; what happens on the wire is in send.ts.
import { type Answer, textAnswer } from './answer.ts'
import type { FaultEffect } from './faults.ts'
import { redirect } from './files.ts'
import type { Route } from './route.ts'

export function applyToRange(range: string | undefined, effect: FaultEffect): string | undefined {
  if (effect.ignoreRange === true) return undefined
  const match = /^bytes=(\d+)-(\d*)$/.exec(range ?? '')
  if (effect.shiftRangeBytes === undefined || match === null) return range
  const [, from = '0', to = ''] = match
  const shifted = (offset: string) => Math.max(0, Number(offset) + (effect.shiftRangeBytes ?? 0))
  return `bytes=${shifted(from)}-${to === '' ? '' : shifted(to)}`
}

export function applyToAnswer(right: Answer, route: Route | undefined, effect: FaultEffect): Answer {
  if (effect.html === true)
    return textAnswer(200, '<!DOCTYPE html><html><body>Please sign in to this network</body></html>', {
      'Content-Type': 'text/html',
    })
  if (effect.redirectTo !== undefined)
    return redirect(
      effect.redirectStatus ?? 302,
      effect.redirectTo === 'self' ? (route?.url ?? '/') : effect.redirectTo,
    )
  if (effect.status !== undefined) return textAnswer(effect.status, effect.body ?? '', { ...effect.headers })
  return { ...right, headers: changeHeaders(right.headers, effect) }
}

function changeHeaders(right: Answer['headers'], effect: FaultEffect): Answer['headers'] {
  const headers: Record<string, string> = { ...right }
  for (const name of ['ETag', 'X-Linked-Etag']) {
    const value = headers[name]
    if (value === undefined || effect.etag === undefined) continue
    if (effect.etag === 'absent') delete headers[name]
    else headers[name] = effect.etag === 'weak' ? `W/${value}` : effect.etag.value
  }
  if (effect.contentRange !== undefined && headers['Content-Range'] !== undefined)
    headers['Content-Range'] = effect.contentRange
  const unwanted = new Set((effect.withoutHeaders ?? []).map((name) => name.toLowerCase()))
  for (const name of Object.keys(headers)) if (unwanted.has(name.toLowerCase())) delete headers[name]
  return { ...headers, ...effect.extraHeaders }
}
