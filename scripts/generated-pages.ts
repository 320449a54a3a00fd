// The documents that are made from tables of the code: settings, metrics, errors, commands. Values in, Markdown out; reads and
// writes no file. A sentence that belongs to one setting, metric or command stands in the code, not here.
import { AGENT_SETTINGS, ENVIRONMENT_ONLY } from '@shoal/agent/config-keys.ts'
import { LATER_KEYS, LATER_VARIABLES } from '@shoal/agent/config-later.ts'
import { createMetrics as createAgentMetrics, HTTP_ROUTES, ORIGIN_REQUESTS } from '@shoal/agent/metrics.ts'
import { COORDINATOR_SETTINGS } from '@shoal/coordinator/config.ts'
import { createMetrics as createCoordinatorMetrics } from '@shoal/coordinator/metrics.ts'
import { ERROR_TABLE, type ErrorCode, errorRow } from '@shoal/protocol/errors.ts'
import type { SettingRow } from '@shoal/protocol/settings.ts'
import { systemClock } from '@shoal/protocol/time.ts'
import { allCommandHelp } from './command-help.ts'

const NOTICE = '<!-- Made by scripts/generate-docs.ts. Change the code and run `npm run docs`. -->'
const BUILD = { version: '0.0.0', nodeVersion: 'v0.0.0' }

/** Path below the repository to content, with a final newline. */
export async function generatedPages(): Promise<ReadonlyMap<string, string>> {
  return new Map([
    ['docs/configuration.md', configurationPage()],
    ['docs/metrics.md', await metricsPage()],
    ['docs/errors.md', errorsPage()],
    ['docs/cli.md', await commandsPage()],
  ])
}

function configurationPage(): string {
  const only: readonly string[] = ENVIRONMENT_ONLY
  return page('Configuration', [
    'Both programs read one JSON file, in the same shape: a section is an object, a setting is a key in it. `http.listen` below is `{"http": {"listen": "…"}}`.',
    'Order: defaults, then the file, then the environment, then flags; the later one wins. The file is the one that `--config` names, else `SHOAL_CONFIG_PATH` (alias `ENHANCED_MODEL_CONFIG_PATH`), else `./shoal.json`, else `/etc/shoal/config.json`. A key that nobody knows is an error with a suggestion. All problems are reported at once.',
    'In the environment a list is separated by commas, and true or false may be written `true`, `1`, `yes`, `on`, `false`, `0`, `no`, `off`.',
    '`SHOAL_HTTP` is no setting of an agent: it tells the other commands where the agent is.',
    '## The agent',
    settingsTable(AGENT_SETTINGS),
    `Only from the environment, never from the file: ${only.map(code).join(', ')}.`,
    '## The coordinator',
    settingsTable(COORDINATOR_SETTINGS),
    '## Known, and not available in this version',
    'These keys of the administrator’s guide are refused by the agent with a sentence that says so, rather than ignored. `section.*` means everything in it.',
    list(LATER_KEYS),
    'The same holds for these variables:',
    list(LATER_VARIABLES),
  ])
}

function settingsTable(table: Readonly<Record<string, SettingRow>>): string {
  const rows = Object.entries(table).map(([key, row]) => [
    code(key),
    initialOf(row),
    takes(row),
    row.env.map(code).join(', '),
    row.flag === undefined ? '' : code(`--${row.flag}`),
    row.about,
  ])
  return markdownTable(['Setting', 'Default', 'Takes', 'Environment', 'Flag', 'Meaning'], rows)
}

function initialOf({ initial, initialText, secret }: SettingRow): string {
  if (initialText !== undefined) return initialText
  return initial === undefined || secret ? 'none' : code(JSON.stringify(initial))
}

/** What the schema says when it is given nothing: the sentence that a user would see. */
function takes({ schema }: SettingRow): string {
  const message = schema.safeParse(null).error?.issues[0]?.message ?? ''
  return message.replace(/^expected (?:an? )?/, '')
}

interface MetricRow {
  readonly name: string
  readonly type: string
  readonly help: string
  readonly labels: readonly string[]
}

async function metricsPage(): Promise<string> {
  const agent = await createAgentMetrics({ ...BUILD, clock: systemClock }).describe()
  const coordinatorMetrics = createCoordinatorMetrics(BUILD)
  // A labelled metric has no series before its first value.
  coordinatorMetrics.httpRequest('probe', 200, 0)
  const coordinator = metricsIn(await coordinatorMetrics.text())
  return page('Metrics', [
    'Each program answers `GET /metrics` in the Prometheus text format. Times are in seconds, sizes in bytes. Labels come from fixed sets, so the number of series is bounded.',
    '## The agent',
    metricsTable(agent),
    `Values of \`route\`: ${HTTP_ROUTES.map(code).join(', ')}. \`kind\` of origin requests: ${ORIGIN_REQUESTS.map(code).join(', ')}. A status that is no HTTP status is \`other\`, and \`failed\` when no answer came.`,
    '## The coordinator',
    metricsTable(coordinator),
    '## Process',
    'Both also have the default series of prom-client, `process_*` and `nodejs_*`; which ones depends on the operating system.',
  ])
}

function metricsTable(metrics: readonly MetricRow[]): string {
  const own = metrics.filter((metric) => !isProcess(metric))
  const rows = own
    .toSorted((a, b) => (a.name < b.name ? -1 : 1))
    .map(({ name, type, labels, help }) => [code(name), type, labels.map(code).join(', '), help])
  return markdownTable(['Metric', 'Type', 'Labels', 'Meaning'], rows)
}

function isProcess({ name }: MetricRow): boolean {
  return /^(?:nodejs|process)_/.test(name)
}

/** Metrics in a scrape; labels are those of their series. */
function metricsIn(scrape: string): readonly MetricRow[] {
  return [...scrape.matchAll(/^# HELP (\S+) (.*)\n# TYPE \S+ (\S+)$/gm)].map(
    ([, name = '', help = '', type = '']) => {
      const series = new RegExp(`^${name}(?:_sum)?\\{(.*?)\\}`, 'm').exec(scrape)?.[1] ?? ''
      const labels = [...series.matchAll(/(\w+)="/g)].map((match) => match[1] ?? '')
      return { name, type, help, labels: labels.filter((label) => label !== 'le') }
    },
  )
}

function errorsPage(): string {
  const codes = Object.keys(ERROR_TABLE) as ErrorCode[]
  const rows = codes.map((name) => {
    const { http, hubCode, retry, blame, ban } = errorRow(name)
    return [
      code(name),
      String(http),
      hubCode === undefined ? '' : code(hubCode),
      retry,
      blame,
      ban ? 'yes' : '',
    ]
  })
  return page('Errors', [
    'Every error has a code. Match on the code, never on the text. The table is `protocol/errors.ts`; retries, scores and bans are decided by it and by nothing else.',
    'Routes under `/api/v1` and the probes answer `{"error": {"code", "message", "details"}}`. Hub routes answer `{"error": message}` with `X-Error-Message` and, where the Hub has a code, `X-Error-Code`. There the Hub’s own choice between 401, 403 and 404 is passed on. Commands print `error: message (code)`, or with `--json` the body above.',
    markdownTable(['Code', 'HTTP', '`X-Error-Code`', 'Retry', 'Blame', 'Ban'], rows),
    'Retry: `never`; `later` at the same place; `other-source` now; `new-plan` from fresh metadata. Blame: whose score it costs. Ban: a source that causes it is refused for a time instead of only cooling down.',
  ])
}

async function commandsPage(): Promise<string> {
  const parts = (await allCommandHelp()).flatMap(({ program, path, help }) => [
    `${path.length === 0 ? '##' : '###'} ${[program, ...path].join(' ')}`,
    `\`\`\`text\n${help.trimEnd()}\n\`\`\``,
  ])
  return page('Commands', [
    'The help of every command. In the repository the programs run as `npx --no-install shoal` and `npx --no-install shoal-coordinator`.',
    ...parts,
  ])
}

function page(title: string, blocks: readonly string[]): string {
  return `${[`# ${title}`, NOTICE, ...blocks].join('\n\n')}\n`
}

function list(names: readonly string[]): string {
  return names.map((name) => `- ${code(name)}`).join('\n')
}

function code(text: string): string {
  return `\`${text}\``
}

function markdownTable(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]) =>
    `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`
  return [line(head), line(head.map(() => '---')), ...rows.map(line)].join('\n')
}
