import { PlanWorld } from './plan-world.ts'

const w = new PlanWorld({ seed: 1, chunks: 128, originBytesPerSecond: 200e6 })
for (let i = 0; i < 40; i++) w.addHost({ startAt: w.random.next() * 1000 })
w.run(600000)
