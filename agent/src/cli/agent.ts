// `shoal agent`: reads the settings, with a flag for each row of the settings table that has one, and runs the agent.
import { resolve } from 'node:path'
import type { Command } from 'commander'
import { loadSettings } from '../config.ts'
import { AGENT_SETTINGS, type AgentSettingKey } from '../config-keys.ts'
import { collect, type Setup, surroundings, withJson } from './command.ts'
import type { Edge } from './edge.ts'

const POOL_SIZE = 'UV_THREADPOOL_SIZE'

interface AgentOptions {
  readonly config?: string
  readonly readyFile?: string
}

export function agentCommand(program: Command, { edge }: Setup): void {
  const command = withJson(program.command('agent'))
    .description('run the agent of this host until it is told to stop')
    .option(
      '--config <file>',
      'settings file (default: $SHOAL_CONFIG_PATH, ./shoal.json, /etc/shoal/config.json)',
    )
    .option(
      '--ready-file <file>',
      'write address, peer id and process id there as JSON once the agent is ready',
    )
    .optionsGroup('Settings (they win over the environment and the file):')
  for (const [, row] of flagRows()) {
    const text = row.about.split('. ')[0]?.replace(/\.$/, '') ?? ''
    if (row.kind === 'list')
      command.option(`--${row.flag} <list>`, `${text} (comma-separated or repeated)`, collect)
    else if (row.kind === 'boolean') {
      command.option(`--${row.flag}`, text)
      if (row.initial === true) command.option(`--no-${row.flag}`, 'turn that off')
    } else command.option(`--${row.flag} <${row.kind === 'number' ? 'number' : 'value'}>`, text)
  }
  command.action(async (options: AgentOptions, self: Command) => {
    const given = self.opts()
    const flags: Partial<Record<AgentSettingKey, unknown>> = {}
    for (const [key, row] of flagRows()) {
      const value: unknown = given[row.flag.replaceAll(/-(\w)/g, (_, letter: string) => letter.toUpperCase())]
      flags[key] = Array.isArray(value) ? value.join(',') : value
    }
    const { 'storage.models_directory': storage, ...others } = flags
    const settings = await loadSettings(
      surroundings(edge, { ...options, ...(typeof storage === 'string' ? { storage } : {}) }, others),
    )
    const warning = takeIoThreads(edge, settings.settings.cpu.ioThreads)
    const { runAgent } = await import('../main.ts')
    const readyFile = options.readyFile === undefined ? undefined : resolve(edge.cwd, options.readyFile)
    // Whatever is left open must not keep a stopped agent alive: its supervisor waits for the process to end.
    edge.exit(
      await runAgent({ settings: { ...settings, warnings: [...settings.warnings, ...warning] }, readyFile }),
    )
  })
}

/** The pool is made when it is first used, which is long before the settings are read: only a new start can have another size. */
function takeIoThreads(edge: Edge, threads: number | undefined): readonly string[] {
  if (threads === undefined || edge.env[POOL_SIZE] === `${threads}`) return []
  try {
    edge.restart?.({ [POOL_SIZE]: `${threads}` })
  } catch {
    // The warning says what to do.
  }
  return [`cpu_optimization.io_threads could not be set here: start the agent with ${POOL_SIZE}=${threads}`]
}

function flagRows() {
  const rows = Object.entries(AGENT_SETTINGS) as [AgentSettingKey, (typeof AGENT_SETTINGS)[AgentSettingKey]][]
  return rows.flatMap(([key, row]) =>
    'flag' in row && row.flag !== undefined ? ([[key, { ...row, flag: row.flag }]] as const) : [],
  )
}
