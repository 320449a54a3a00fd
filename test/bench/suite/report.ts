// Results as tables: on the terminal, and in test/bench/results.md, where each case keeps its section until it is measured again.
// Ratios first. Formatting only.
import type { Figure, Result, Row } from './contest.ts'
import { shown } from './contest.ts'

export interface Section {
  readonly name: string
  readonly about: string
  /** When, at which commit, how often, beside what. */
  readonly stamp: string
  readonly results: readonly Result[]
}

const HEAD = '# Measured beside others'

/** The lines of one contest as a Markdown table. */
export function tableOf(result: Result): readonly string[] {
  const figures = result.figures.filter(({ name }) => result.rows.some(({ medians }) => name in medians))
  const compared = result.rows.some(({ ratio }) => ratio !== undefined)
  const head = [...(compared ? ['ours is'] : []), '', ...figures.flatMap(headOf), 'does']
  const rows = result.rows.map((row) => [
    ...(compared ? [ratioOf(row)] : []),
    row.name,
    ...figures.flatMap((figure, at) => [
      shown(figure, row.medians[figure.name]),
      ...(at === 0 ? [spread(figure, row)] : []),
    ]),
    [row.does, ...(row.failed.length > 0 ? [`**failed ${row.failed.length} of ${result.runs}**`] : [])]
      .filter((text) => text !== '')
      .join('; '),
  ])
  const line = (cells: readonly string[]) => `| ${cells.join(' | ')} |`
  const missing = result.missing.map(({ name, because }) => `**Missing: ${name}** (${because}).`)
  return [
    `### ${result.title}`,
    '',
    line(head),
    line(head.map(() => '---')),
    ...rows.map(line),
    '',
    ...(missing.length > 0 ? [missing.join(' '), ''] : []),
    ...(result.notes.length > 0 ? [result.notes.join(' '), ''] : []),
  ]
}

function headOf({ name }: Figure, at: number): readonly string[] {
  return at === 0 ? [name, 'least to most'] : [name]
}

function ratioOf({ ours, ratio }: Row): string {
  if (ours) return '1'
  return ratio === undefined ? '?' : `**${ratio.toFixed(2)} x**`
}

function spread(figure: Figure, { values }: Row): string {
  if (values.length === 0) return ''
  return `${shown(figure, Math.min(...values))} to ${shown(figure, Math.max(...values))}`
}

/** The same for a terminal: no marks, columns under each other. */
export function plainTable(result: Result): string {
  const lines = tableOf(result).map((line) => line.replaceAll('**', ''))
  const cells = lines.map((line) => (line.startsWith('|') ? line.slice(2, -2).split(' | ') : undefined))
  const widths: number[] = []
  for (const row of cells)
    for (const [at, cell] of row?.entries() ?? []) widths[at] = Math.max(widths[at] ?? 0, cell.trim().length)
  return lines
    .flatMap((line, at) => {
      const row = cells[at]
      if (row === undefined) return line === '' ? [] : [line.replace(/^### /, '')]
      if (row.every((cell) => cell.trim() === '---')) return []
      return [
        row
          .map((cell, column) => cell.trim().padEnd(widths[column] ?? 0))
          .join('  ')
          .trimEnd(),
      ]
    })
    .join('\n')
}

/** @param before the page as it is; sections of other cases stay, unless another machine wrote them */
export function pageOf(
  before: string,
  sections: readonly Section[],
  machine: string,
  versions: readonly string[],
): string {
  const kept = before.includes(machine) ? sectionsIn(before) : new Map<string, string>()
  for (const section of sections) kept.set(section.name, textOf(section))
  const names = [...kept.keys()].toSorted()
  return [
    HEAD,
    '',
    '`npm run bench` writes this page; [how it is measured](../../docs/performance.md#how-it-is-measured). Medians; "ours is 1.50 x" means',
    'one and a half times as good in the first figure, below 1 the other is better. Only ratios of one table mean something: they were',
    'measured in turn, in fresh processes. GB are 10^9 bytes.',
    '',
    `Machine: ${machine}. Programs: ${versions.join(', ')}.`,
    '',
    ...names.map((name) => kept.get(name) ?? ''),
  ]
    .join('\n')
    .trimEnd()
    .concat('\n')
}

function textOf({ name, about, stamp, results }: Section): string {
  return [`## ${name}: ${about}`, '', stamp, '', ...results.flatMap(tableOf)].join('\n')
}

function sectionsIn(page: string): Map<string, string> {
  const found = new Map<string, string>()
  for (const text of page.split(/^(?=## )/m)) {
    const name = /^## (\S+):/.exec(text)?.[1]
    if (name !== undefined) found.set(name, `${text.trimEnd()}\n`)
  }
  return found
}
