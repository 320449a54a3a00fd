// Draws a run as SVG: chunks held over time by the slowest, the middle and the fastest host, what the origin has given, and the bound.
import type { Outcome, Sample } from './simulation.ts'

const WIDTH = 800
const HEIGHT = 400
const MARGIN = 60
const LINES = [
  { name: 'fastest host', color: '#2a9d8f', of: (sample: Sample) => sample.fastest },
  { name: 'median host', color: '#264653', of: (sample: Sample) => sample.median },
  { name: 'slowest host', color: '#e76f51', of: (sample: Sample) => sample.slowest },
  { name: 'given by the origin', color: '#b8860b', of: (sample: Sample) => sample.origin },
] as const

export function chart({ result, samples }: Outcome): string {
  const endSeconds = Math.max(samples.at(-1)?.atSeconds ?? 0, result.boundSeconds) * 1.02
  const most = Math.max(result.chunks, ...samples.map(({ origin }) => origin))
  const x = (seconds: number) => MARGIN + (seconds / endSeconds) * (WIDTH - 2 * MARGIN)
  const y = (chunks: number) => HEIGHT - MARGIN - (chunks / most) * (HEIGHT - 2 * MARGIN)
  const first: Sample = { atSeconds: 0, slowest: 0, median: 0, fastest: 0, origin: 0 }
  const lines = LINES.map(({ color, of }) => {
    const points = [first, ...samples].map(
      (sample) => `${x(sample.atSeconds).toFixed(1)},${y(of(sample)).toFixed(1)}`,
    )
    return `<polyline fill="none" stroke="${color}" stroke-width="2" points="${points.join(' ')}"/>`
  })
  const legend = LINES.map(
    ({ name, color }, place) =>
      `<text x="${MARGIN + 10}" y="${MARGIN + 16 + 18 * place}" fill="${color}">${name}</text>`,
  )
  const bound = x(result.boundSeconds).toFixed(1)
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${HEIGHT}" font-family="sans-serif" font-size="13">
<rect width="100%" height="100%" fill="white"/>
<text x="${MARGIN}" y="24">${result.scenario}: ${result.hosts} hosts, ${result.chunks} chunks, seed ${result.seed}; last host ${result.ratio.toFixed(3)} x the bound</text>
<path d="M${MARGIN},${MARGIN} V${HEIGHT - MARGIN} H${WIDTH - MARGIN}" fill="none" stroke="black"/>
<path d="M${bound},${MARGIN} V${HEIGHT - MARGIN}" stroke="#888" stroke-dasharray="4 4"/>
<text x="${bound}" y="${HEIGHT - MARGIN + 34}" text-anchor="middle" fill="#888">bound ${result.boundSeconds.toFixed(1)} s</text>
<text x="${MARGIN - 6}" y="${y(result.chunks) + 4}" text-anchor="end">${result.chunks}</text>
<text x="${WIDTH - MARGIN}" y="${HEIGHT - MARGIN + 18}" text-anchor="end">${endSeconds.toFixed(0)} s</text>
${[...lines, ...legend].join('\n')}
</svg>
`
}
