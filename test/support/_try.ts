import { PlanWorld } from './plan-world.ts'

for (const n of [1, 4, 10, 40])
  for (const seed of [1, 2, 3]) {
    const t0 = performance.now()
    const w = new PlanWorld({ seed, chunks: 128, originBytesPerSecond: 200e6 })
    for (let i = 0; i < n; i++) w.addHost({ startAt: w.random.next() * 1000 })
    const ok = w.run(600_000)
    const last = Math.max(...w.hosts.map((h) => h.finishedAt ?? NaN))
    console.log(
      n,
      seed,
      ok,
      'amp',
      w.amplification.toFixed(3),
      'last',
      (last / 1000).toFixed(1),
      'dup',
      (w.hosts.reduce((s, h) => s + h.duplicateBytes, 0) / 4194304 / n / 128).toFixed(4),
      'up max/mean',
      (
        Math.max(...w.hosts.map((h) => h.uploadedBytes)) /
        (w.hosts.reduce((s, h) => s + h.uploadedBytes, 0) / n)
      ).toFixed(2),
      'calls',
      w.hosts.reduce((s, h) => s + h.nextCalls, 0),
      'ms',
      (performance.now() - t0).toFixed(0),
    )
  }
