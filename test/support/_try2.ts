import { PlanWorld } from './plan-world.ts'

const n = Number(process.argv[2] ?? 4)
const w = new PlanWorld({ seed: 1, chunks: 128, originBytesPerSecond: 200e6 })
for (let i = 0; i < n; i++) w.addHost({ startAt: w.random.next() * 1000 })
const first = new Map<number, string>()
w.onDecision = (h, start) => {
  for (const a of start)
    if (a.source === 'origin') {
      const f = first.get(a.index)
      if (f === undefined) first.set(a.index, `${h.name}@${w.now.toFixed(0)}`)
      else
        console.log(
          'dup',
          a.index,
          h.name,
          a.why,
          w.now.toFixed(0),
          'first',
          f,
          'stored',
          w.hosts.map((o) => o.stored.find((s) => s.index === a.index)?.at.toFixed(0) ?? '-').join(','),
        )
    }
}
w.run(600000)
console.log(
  w.amplification,
  w.hosts.map((h) => [h.options.startAt?.toFixed(0), h.finishedAt?.toFixed(0)].join()),
)
