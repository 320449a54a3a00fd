import { OwnerTable, ownerOf, shareSeed } from '@shoal/agent/plan/origin-share.ts'

const hosts = ['host-0', 'host-1', 'host-2', 'host-3'].map((h) => shareSeed('blob', h))
const t = new OwnerTable(128)
for (const h of hosts) t.add(h)
let bad = 0
for (let i = 0; i < 128; i++) if (t.owner(i) !== ownerOf(i, hosts)) bad++
console.log(
  bad,
  hosts.map((h) => t.chunksOf(h.host).length),
)
const r = new OwnerTable(128)
for (const h of hosts.toReversed()) r.add(h)
for (let i = 0; i < 128; i++) if (t.owner(i) !== r.owner(i)) bad++
console.log(bad)
