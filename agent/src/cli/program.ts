// The command line as a whole: which commands there are, and the way from any outcome to an exit code (0 done, 1 failed,
// 2 wrong use). Commands live in files of their own.
import { Command } from 'commander'
import manifest from '../../package.json' with { type: 'json' }
import { agentCommand } from './agent.ts'
import type { Setup } from './command.ts'
import { configCommand } from './config.ts'
import { downloadsCommand } from './downloads.ts'
import { type Edge, EXIT_DONE } from './edge.ts'
import { envCommand } from './env.ts'
import { inviteCommand } from './invite.ts'
import { joinCommand } from './join.ts'
import { limitsCommand } from './limits.ts'
import { modelCommands } from './models.ts'
import { nowCommands } from './now.ts'
import { Output } from './output.ts'
import { planCommand } from './plan.ts'
import { pullCommand } from './pull.ts'
import { verifyCommand } from './verify.ts'

const AFTER_HELP = `
A command that talks to a running agent finds it by SHOAL_HTTP (its URL), else by the ready file in the storage path,
else at the configured address. Exit codes: 0 done, 1 failed, 2 wrong use, 130 interrupted.

Two hosts that share models:
  first$  shoal agent                      second$  shoal agent
  first$  shoal invite                     second$  shoal join -      (paste the invite)
  first$  shoal pull org/name              second$  shoal pull org/name
Then, for any Hugging Face client on a host:  eval "$(shoal env)"`

/** Runs one command. @returns the exit code */
export async function runCommandLine(edge: Edge): Promise<number> {
  const output = new Output(edge)
  let exitCode = EXIT_DONE
  const setup: Setup = {
    edge,
    output,
    exitWith: (code) => {
      exitCode = code
    },
  }
  try {
    await createProgram(setup).parseAsync([...edge.args], { from: 'user' })
    return exitCode
  } catch (error) {
    return output.failure(error)
  }
}

function createProgram(setup: Setup): Command {
  const { output } = setup
  const program = new Command('shoal')
  program
    .description('Share Hugging Face models between the hosts of a site: fetched once, proven, kept once.')
    .version(manifest.version, '-V, --version')
    // Before any command is made: these three are inherited when it is.
    .exitOverride()
    .configureOutput({
      writeOut: (text) => output.help(text),
      writeErr: (text) => output.complaint(text),
      outputError: (text) => output.complaint(text),
    })
    .showHelpAfterError('(--help says more)')
    .option('--json', 'print the result, or the error, as JSON')
    .addHelpText('after', AFTER_HELP)
  program.commandsGroup('This host:')
  agentCommand(program, setup)
  program.commandsGroup('Models:')
  pullCommand(program, setup)
  planCommand(program, setup)
  modelCommands(program, setup)
  verifyCommand(program, setup)
  program.commandsGroup('Now:')
  nowCommands(program, setup)
  downloadsCommand(program, setup)
  limitsCommand(program, setup)
  program.commandsGroup('Setting up:')
  envCommand(program, setup)
  inviteCommand(program, setup)
  joinCommand(program, setup)
  configCommand(program, setup)
  return program
}
