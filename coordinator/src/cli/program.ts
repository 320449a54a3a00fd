// The command line of the coordinator: its commands, and the way from any outcome to an exit code (0 done, 1 failed, 2 wrong
// use). With --json an error is `{"error":{code,message,details}}` on stdout.
import { resolve } from 'node:path'
import { asShoalError, messageOf } from '@shoal/protocol/errors.ts'
import { Command, CommanderError } from 'commander'
import manifest from '../../package.json' with { type: 'json' }
import { loadCoordinatorSettings } from '../config.ts'
import { runCoordinator } from '../main.ts'

export interface Edge {
  /** Words after the program's name. */
  readonly args: readonly string[]
  readonly env: Readonly<Record<string, string | undefined>>
  readonly cwd: string
  readonly out: (text: string) => void
  readonly err: (text: string) => void
}

interface ServeOptions {
  readonly config?: string
  readonly readyFile?: string
  readonly httpListen?: string
  readonly logLevel?: string
  readonly insecure?: boolean
}

/** Runs one command. @returns the exit code */
export async function runCommandLine(edge: Edge): Promise<number> {
  const end = edge.args.indexOf('--')
  const json = edge.args.slice(0, end === -1 ? undefined : end).includes('--json')
  let exitCode = 0
  const complain = (text: string) => {
    if (!json) edge.err(text)
  }
  const program = new Command('shoal-coordinator')
    .description(
      'Roles, quotas, policy and metrics for a mesh of shoal agents. No model byte passes through it.',
    )
    .version(manifest.version, '-V, --version')
    .exitOverride()
    .configureOutput({ writeOut: edge.out, writeErr: complain, outputError: complain })
    .showHelpAfterError('(--help says more)')
    .option('--json', 'print the result, or the error, as JSON')
  program
    .command('serve')
    .description('run the coordinator until it is told to stop')
    .option('--json', 'print the result, or the error, as JSON')
    .option(
      '--config <file>',
      'settings file (default: $SHOAL_CONFIG_PATH, ./shoal.json, /etc/shoal/config.json)',
    )
    .option('--ready-file <file>', 'write address and process id there as JSON once the coordinator is ready')
    .option('--http-listen <value>', 'where to listen (default: 127.0.0.1:8000; port 0: any free one)')
    .option('--log-level <value>', 'trace, debug, info, warn, error, fatal or silent')
    .option(
      '--insecure',
      'allow an address that other machines can reach, although nothing asks them who they are',
    )
    .action(async (options: ServeOptions) => {
      const settings = await loadCoordinatorSettings({
        env: edge.env,
        cwd: edge.cwd,
        configPath: options.config,
        flags: {
          'coordinator.listen': options.httpListen,
          'coordinator.insecure': options.insecure,
          'logging.level': options.logLevel,
        },
      })
      const readyFile = options.readyFile === undefined ? undefined : resolve(edge.cwd, options.readyFile)
      exitCode = await runCoordinator({ settings, readyFile })
    })
  try {
    await program.parseAsync([...edge.args], { from: 'user' })
    return exitCode
  } catch (thrown) {
    const wrongUse = thrown instanceof CommanderError
    if (wrongUse && thrown.exitCode === 0) return 0
    const known = asShoalError(thrown)
    const code = wrongUse ? 'bad-request' : (known?.code ?? 'internal')
    const message =
      wrongUse && thrown.code === 'commander.help'
        ? 'a command is missing'
        : messageOf(thrown).replace(/^error: /, '')
    if (json)
      edge.out(
        `${JSON.stringify({ error: { code, message, details: known?.details ?? {} } }, undefined, 2)}\n`,
      )
    else if (!wrongUse) {
      const trace = known === undefined && thrown instanceof Error ? `\n${thrown.stack}` : ''
      edge.err(`error: ${message} (${code})${trace}\n`)
    }
    return wrongUse ? 2 : 1
  }
}
