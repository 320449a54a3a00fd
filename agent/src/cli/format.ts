// How values look to people: sizes, rates, times, tables. Pure. Sizes are decimal (1 GB = 1,000,000,000 bytes), as everywhere
// in the settings.

const UNITS = ['B', 'kB', 'MB', 'GB', 'TB', 'PB'] as const

/** `0 B`, `999 B`, `1.2 MB`, `12 MB`, `345 GB`. */
export function formatBytes(bytes: number): string {
  let value = bytes
  let unit = 0
  // 999.5 would be shown as 1000: the next unit reads better.
  while (value >= 999.5 && unit < UNITS.length - 1) {
    value /= 1000
    unit += 1
  }
  const digits = unit > 0 && value < 9.95 ? 1 : 0
  return `${value.toFixed(digits)} ${UNITS[unit]}`
}

/** `340 ms`, `4.2 s`, `2 min 5 s`, `3 h 12 min`, `4 d 2 h`. */
export function formatDuration(ms: number): string {
  if (ms < 995) return `${Math.max(0, Math.round(ms))} ms`
  if (ms < 9_950) return `${(ms / 1000).toFixed(1)} s`
  const seconds = Math.round(ms / 1000)
  if (seconds < 60) return `${seconds} s`
  if (seconds < 3600) return pair(seconds, 60, 'min', 1, 's')
  if (seconds < 86_400) return pair(seconds, 3600, 'h', 60, 'min')
  return pair(seconds, 86_400, 'd', 3600, 'h')
}

function pair(seconds: number, large: number, largeUnit: string, small: number, smallUnit: string): string {
  const rest = Math.floor((seconds % large) / small)
  const whole = `${Math.floor(seconds / large)} ${largeUnit}`
  return rest === 0 ? whole : `${whole} ${rest} ${smallUnit}`
}

/** `1 file`, `7 files`. */
export function count(number: number, one: string, many = `${one}s`): string {
  return `${number} ${number === 1 ? one : many}`
}

/** Percent of a whole, never 100 before all is there. */
export function percent(part: number, whole: number): string {
  if (whole <= 0) return '0%'
  return part >= whole ? '100%' : `${Math.min(99, Math.floor((part / whole) * 100))}%`
}

export interface Column {
  readonly title: string
  readonly right?: boolean
}

/** Columns two spaces apart, a heading above, no trailing space. */
export function table(columns: readonly Column[], rows: readonly (readonly string[])[]): string {
  const lines = [columns.map((column) => column.title), ...rows]
  const widths = columns.map((_, index) => Math.max(...lines.map((line) => line[index]?.length ?? 0)))
  return lines
    .map((line) =>
      columns
        .map((column, index) => {
          const cell = line[index] ?? ''
          const width = widths[index] ?? 0
          return column.right ? cell.padStart(width) : cell.padEnd(width)
        })
        .join('  ')
        .trimEnd(),
    )
    .join('\n')
}

/** `name   value` lines, the values in one column. */
export function fields(rows: readonly (readonly [name: string, value: string])[]): string {
  const width = Math.max(...rows.map(([name]) => name.length))
  return rows.map(([name, value]) => `${name.padEnd(width)}  ${value}`).join('\n')
}

/** The end of a peer id, which is where ids differ. */
export function shortPeer(peer: string): string {
  return peer.length > 12 ? `…${peer.slice(-10)}` : peer
}
