// How both programs read settings: a table of rows, filled from defaults, one JSON file, the environment and flags, in
// that order; every problem is found before any is reported. Pure: callers hand in what they have read. Knows no setting.
import { z } from 'zod'
import { ShoalError } from './errors.ts'
import { nearest } from './nearest.ts'

/** A file with more problems than this is not a settings file; the rest of it is not looked at. */
const MAX_PROBLEMS = 100

/** How a setting is written as text, in an environment variable or after a flag. */
export type SettingKind = 'text' | 'number' | 'boolean' | 'list'

export interface SettingRow<Schema extends z.ZodType = z.ZodType> {
  readonly kind: SettingKind
  /** Checks the JSON form and makes the value. Optional schemas are settings that may be absent. */
  readonly schema: Schema
  /** JSON form of the default; undefined for none. */
  readonly initial: unknown
  /** Variables that set it: ours first, then aliases. */
  readonly env: readonly string[]
  /** `--name` on the command line, when there is one. */
  readonly flag?: string
  /** Its value is never shown, not even in the message that refuses it. */
  readonly secret?: true
  /** What it does, for people: a sentence, with its unit. */
  readonly about: string
  /** How documents state the default when it depends on the machine. */
  readonly initialText?: string
}

export type SettingTable = Readonly<Record<string, SettingRow>>
export type SettingValues<Table extends SettingTable> = {
  readonly [Key in keyof Table]: z.output<Table[Key]['schema']>
}

/** Where a value came from: `default`, `file`, `environment NAME` or `flag --name`. */
export interface Setting {
  readonly key: string
  /** JSON form as it was given. Never hand it out for a secret row. */
  readonly given: unknown
  readonly from: string
}

export interface SettingInputs<Table extends SettingTable> {
  readonly table: Table
  /** Keys of the administrator's guide that this version does not have yet; `section.*` for a whole section. */
  readonly later: readonly string[]
  /** Variables known for the same reason. */
  readonly laterEnv: readonly string[]
  /** Keys and sections that the other program reads; accepted here, checked there. */
  readonly foreign: readonly string[]
  /** Variables that mean something to us but set nothing here; for suggestions only. */
  readonly otherEnv?: readonly string[]
  /** Defaults that depend on the machine. */
  readonly initial?: Partial<Record<keyof Table & string, unknown>>
  /** The parsed JSON file. */
  readonly file?: unknown
  readonly env: Readonly<Record<string, string | undefined>>
  /** By key. */
  readonly flags: Readonly<Partial<Record<keyof Table & string, unknown>>>
}

export interface ResolvedSettings<Table extends SettingTable> {
  /** Absent when there are problems. */
  readonly values: SettingValues<Table> | undefined
  readonly settings: ReadonlyMap<string, Setting>
  /** Sentences, one a problem, each with the value received. */
  readonly problems: readonly string[]
  readonly warnings: readonly string[]
}

/** A row with its schema's type kept. */
export function setting<Schema extends z.ZodType>(row: SettingRow<Schema>): SettingRow<Schema> {
  return row
}

/** Fills the table. Reports all problems, in the order file, environment, flags. */
export function resolveSettings<Table extends SettingTable>(
  inputs: SettingInputs<Table>,
): ResolvedSettings<Table> {
  const problems: string[] = []
  const warnings: string[] = []
  const settings = new Map<string, Setting>()
  for (const [key, row] of Object.entries(inputs.table)) {
    const initial: Readonly<Record<string, unknown>> = inputs.initial ?? {}
    const given = Object.hasOwn(initial, key) ? initial[key] : row.initial
    settings.set(key, { key, given, from: 'default' })
  }
  if (inputs.file !== undefined) takeFile(inputs, settings, problems)
  takeEnvironment(inputs, settings, problems, warnings)
  for (const [key, given] of Object.entries(inputs.flags)) {
    const row = inputs.table[key]
    if (given === undefined || row === undefined) continue
    settings.set(key, { key, given: fromText(row.kind, given), from: `flag --${row.flag ?? key}` })
  }
  const values: Record<string, unknown> = {}
  for (const [key, row] of Object.entries(inputs.table)) {
    const { given, from } = settings.get(key) ?? { given: undefined, from: 'default' }
    const parsed = row.schema.safeParse(given)
    if (parsed.success) values[key] = parsed.data
    else for (const issue of parsed.error.issues) problems.push(refusal(key, row, from, issue, given))
  }
  return {
    values: problems.length === 0 ? asValues<Table>(values) : undefined,
    settings,
    problems,
    warnings,
  }
}

/** One error for all problems; `details.problems` has them one by one. */
export function configError(problems: readonly string[], where: string): ShoalError {
  const count = problems.length === 1 ? 'a problem' : `${problems.length} problems`
  return new ShoalError(
    'bad-config',
    `${where}: ${count}\n${problems.map((text) => `  - ${text}`).join('\n')}`,
    {
      problems,
    },
  )
}

/** A value as a message may show it: JSON, short, without the user and password of a URL. */
export function shown(value: unknown): string {
  if (value === undefined) return 'nothing'
  const text = JSON.stringify(value) ?? String(value)
  const clean = text.replace(/(:\/\/)[^/@"\s]*@/g, '$1[hidden]@')
  return clean.length > 120 ? `${clean.slice(0, 120)}…` : clean
}

/** The error text of a schema that reads text with a function that throws ShoalError. */
export function parsedBy<T>(parse: (text: string) => T, expected: string) {
  return z.string(expected).transform((text, context): T => {
    try {
      return parse(text)
    } catch (error) {
      context.addIssue({ code: 'custom', message: error instanceof ShoalError ? error.message : expected })
      return z.NEVER
    }
  })
}

function takeFile<Table extends SettingTable>(
  inputs: SettingInputs<Table>,
  settings: Map<string, Setting>,
  problems: string[],
): void {
  const known = [...Object.keys(inputs.table), ...inputs.later, ...inputs.foreign]
  const sections = new Set(known.flatMap(prefixes))
  const open: { readonly path: string; readonly value: unknown }[] = [{ path: '', value: inputs.file }]
  for (let next = open.shift(); next !== undefined; next = open.shift()) {
    const { path, value } = next
    if (problems.length >= MAX_PROBLEMS)
      return void problems.push('and more: the rest of the file was not read')
    if (path !== '' && Object.hasOwn(inputs.table, path))
      settings.set(path, { key: path, given: value, from: 'file' })
    else if (covers(inputs.foreign, path)) continue
    else if (covers(inputs.later, path)) problems.push(notYet(path))
    else if (path === '' || sections.has(path)) {
      if (!isRecord(value)) {
        const name = path === '' ? 'the file' : path
        problems.push(`${name} (file): expected an object, received ${shown(value)}`)
        continue
      }
      for (const [key, inner] of Object.entries(value)) {
        if (key.includes('.'))
          problems.push(`${shown(key)} (file): a section is an object of its own, not a name with a dot`)
        else open.push({ path: path === '' ? key : `${path}.${key}`, value: inner })
      }
    } else {
      const names = [...known.filter((name) => !name.endsWith('.*')), ...sections]
      problems.push(
        `${path.slice(0, 120)} (file): no such setting${suggestion(path, names)}, received ${secretName(path) ? '[hidden]' : shown(value)}`,
      )
    }
  }
}

function takeEnvironment<Table extends SettingTable>(
  inputs: SettingInputs<Table>,
  settings: Map<string, Setting>,
  problems: string[],
  warnings: string[],
): void {
  const known = new Set([...inputs.laterEnv, ...(inputs.otherEnv ?? [])])
  for (const [key, row] of Object.entries(inputs.table)) {
    const present = row.env.filter((name) => (inputs.env[name] ?? '').trim() !== '')
    for (const name of row.env) known.add(name)
    const [first, ...others] = present
    if (first === undefined) continue
    for (const other of others) {
      // Only names of our own: people have both HF_TOKEN and its old spelling set, and huggingface_hub takes the first.
      if (first.startsWith('SHOAL_') && inputs.env[other] !== inputs.env[first])
        problems.push(`${first} and ${other} are both set and differ: unset one`)
    }
    settings.set(key, { key, given: fromText(row.kind, inputs.env[first]), from: `environment ${first}` })
  }
  for (const name of inputs.laterEnv) {
    if ((inputs.env[name] ?? '').trim() !== '') problems.push(notYet(name))
  }
  // Only a warning: Kubernetes sets SHOAL_SERVICE_HOST and the like for a service that happens to be called shoal.
  for (const name of Object.keys(inputs.env)) {
    if (!/^(?:SHOAL|ENHANCED_MODEL)_/.test(name) || known.has(name)) continue
    const meant = nearest(name, [...known])
    if (meant !== undefined) warnings.push(`the variable ${name} means nothing here; did you mean ${meant}?`)
  }
}

function refusal(
  key: string,
  row: SettingRow,
  from: string,
  issue: z.core.$ZodIssue,
  given: unknown,
): string {
  const path = issue.path.length === 0 ? key : `${key}[${issue.path.map(String).join('.')}]`
  return `${path} (${from}): ${issue.message}, received ${row.secret ? '[hidden]' : shown(given)}`
}

function notYet(name: string): string {
  return `${name}: known, not available in this version; remove it`
}

function suggestion(word: string, known: readonly string[]): string {
  const meant = nearest(word, known)
  return meant === undefined ? '' : `; did you mean ${meant}?`
}

function secretName(path: string): boolean {
  return /secret|token|password|key|credential/i.test(path)
}

/** `a.b.c` -> `a`, `a.b`; a `section.*` is its own section. */
function prefixes(key: string): string[] {
  const parts = key.replace(/\.\*$/, '').split('.')
  return parts.slice(0, -1).map((_, index) => parts.slice(0, index + 1).join('.'))
}

function covers(names: readonly string[], path: string): boolean {
  return names.some((name) =>
    name.endsWith('.*')
      ? path === name.slice(0, -2) || path.startsWith(name.slice(0, -1))
      : path === name || path.startsWith(`${name}.`),
  )
}

function fromText(kind: SettingKind, given: unknown): unknown {
  if (typeof given !== 'string') return given
  const text = given.trim()
  if (kind === 'number') return /^[-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?$/i.test(text) ? Number(text) : text
  if (kind === 'list')
    return text
      .split(',')
      .map((part) => part.trim())
      .filter((part) => part !== '')
  if (kind === 'boolean') {
    if (/^(?:true|1|yes|on)$/i.test(text)) return true
    if (/^(?:false|0|no|off)$/i.test(text)) return false
  }
  return text
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** Every key of the table has just been parsed by its own schema; that is what the type says. */
function asValues<Table extends SettingTable>(values: Record<string, unknown>): SettingValues<Table> {
  return values as SettingValues<Table>
}
