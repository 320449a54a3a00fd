import { ChunkMap } from '@shoal/protocol/chunks.ts'
import type { Behaviour } from './plan-host.ts'
import { TwinPlan } from './plan-twin.ts'
import { PlanWorld } from './plan-world.ts'

let stuck = 0
for (let seed = Number(process.argv[2] ?? 1); seed < Number(process.argv[3] ?? 40); seed++) {
  const twins: TwinPlan[] = []
  const w = new PlanWorld({
    seed,
    chunks: 8 + ((seed * 7) % 60),
    originBytesPerSecond: [5e6, 50e6, 200e6][seed % 3]!,
    makePlan: (s, sc) => {
      const t = new TwinPlan(s, sc)
      twins.push(t)
      return t
    },
  })
  const n = 2 + (seed % 6)
  const r = () => w.random.next()
  for (let i = 0; i < n; i++) {
    let held: ChunkMap | undefined
    if (r() < 0.3) {
      held = new ChunkMap(w.options.chunks)
      for (let c = 0; c < w.options.chunks; c++) if (r() < 0.4) held.add(c)
    }
    w.addHost({
      startAt: r() * 2000,
      whole: r() < 0.8,
      ...(held ? { held } : {}),
      uploadSlots: 1 + Math.floor(r() * 8),
      upBytesPerSecond: [2e6, 20e6, 100e6][Math.floor(r() * 3)]!,
      originBytesPerSecond: [1e6, 20e6, 100e6][Math.floor(r() * 3)]!,
    })
  }
  const B: Behaviour[] = ['stuck', 'liar', 'false-map', 'busy', 'refuses', 'honest', 'honest']
  for (const h of w.hosts.slice(1)) {
    if (r() < 0.3) w.at(r() * 8000, () => w.behave(h, B[Math.floor(r() * B.length)]!))
    if (r() < 0.1) w.at(r() * 8000, () => w.leave(h))
    if (r() < 0.1) w.at(r() * 8000, () => w.die(h))
  }
  if (r() < 0.3) {
    w.at(r() * 3000, () => w.failOrigin('origin-unreachable'))
    w.at(3000 + r() * 8000, () => w.failOrigin(undefined))
  }
  for (const h of w.hosts)
    if (!h.whole || r() < 0.3)
      w.at(2500, () => {
        const f = Math.floor(r() * w.options.chunks)
        w.tell(h, (p) => p.want(1, f, w.options.chunks, w.now))
      })
  const glance = () => {
    for (const h of w.hosts)
      if (
        h.plan &&
        h.finishedAt === undefined &&
        !h.left &&
        h.behaviour !== 'dead' &&
        !h.pumpQueued &&
        (h.wakeAt ?? Infinity) > w.now
      )
        (h.plan as TwinPlan).glance(w.now)
    w.at(w.now + 37, glance)
  }
  w.at(0, glance)
  let ok = false
  try {
    ok = w.run(900_000)
  } catch (e) {
    console.log('SEED', seed, (e as Error).message.slice(0, 900))
    continue
  }
  if (!ok) {
    stuck++
    console.log(
      'STUCK',
      seed,
      w.hosts
        .map((h) => [h.name, h.behaviour, h.whole, h.left, h.finishedAt?.toFixed(0), h.held.held].join(':'))
        .join(' '),
    )
  }
}
console.log('stuck', stuck)
