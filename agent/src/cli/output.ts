// Where a command's words go: results to stdout, everything else to stderr, JSON when asked, nothing that a terminal would obey
// and no secret. Owns exit codes of failures and what happens when the reader of a pipe has gone.
import { asShoalError, messageOf } from '@shoal/protocol/errors.ts'
import { CommanderError } from 'commander'
import { type Edge, EXIT_DONE, EXIT_FAILED, EXIT_WRONG_USE } from './edge.ts'

/** A failure whose exit code is not 1, or that has more to say in JSON. */
export class CommandFailure extends Error {
  readonly code: string
  readonly details: Readonly<Record<string, unknown>>
  readonly exitCode: number

  constructor(
    code: string,
    message: string,
    details: Readonly<Record<string, unknown>> = {},
    exitCode = EXIT_FAILED,
  ) {
    super(message)
    this.code = code
    this.details = details
    this.exitCode = exitCode
  }
}

export class Output {
  readonly json: boolean
  readonly #edge: Edge
  #exitOnClosedPipe = EXIT_DONE

  constructor(edge: Edge) {
    this.#edge = edge
    const end = edge.args.indexOf('--')
    this.json = edge.args.slice(0, end === -1 ? undefined : end).includes('--json')
    edge.stdout.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code !== 'EPIPE') throw error
      edge.exit(this.#exitOnClosedPipe)
    })
    // Nobody reads our remarks: the work goes on.
    edge.stderr.on('error', () => {})
  }

  /** The one result of a command: as JSON, or as text for people. */
  result(value: unknown, text: () => string): void {
    this.#write(this.json ? JSON.stringify(value, undefined, 2) : text())
  }

  /** A part of a result that people read as it comes; JSON has all of it at the end. */
  line(text: string): void {
    if (!this.json) this.#write(text)
  }

  /** A remark: never part of a result. */
  note(text: string): void {
    this.#edge.stderr.write(`${printable(text)}\n`)
  }

  /** From now on a reader that goes away has missed something that matters, such as a verdict. */
  failOnClosedPipe(): void {
    this.#exitOnClosedPipe = EXIT_FAILED
  }

  /** Help and the version, as commander makes them. */
  help(text: string): void {
    this.#edge.stdout.write(text)
  }

  /** Commander's complaints; in JSON the error body says them. */
  complaint(text: string): void {
    if (!this.json) this.#edge.stderr.write(printable(plainComplaint(text)))
  }

  /** Reports whatever a command threw. @returns the exit code */
  failure(thrown: unknown): number {
    if (thrown instanceof CommanderError) return this.#wrongUse(thrown)
    const known = thrown instanceof CommandFailure ? thrown : asShoalError(thrown)
    const code = known?.code ?? 'internal'
    const message = withoutSecrets(messageOf(thrown))
    if (this.json) this.#write(JSON.stringify(errorBody(code, message, known?.details ?? {}), undefined, 2))
    else {
      const unexpected = known === undefined && thrown instanceof Error ? `\n${thrown.stack}` : ''
      this.note(withoutSecrets(`error: ${message} (${code})${unexpected}`))
    }
    return thrown instanceof CommandFailure ? thrown.exitCode : EXIT_FAILED
  }

  #wrongUse(error: CommanderError): number {
    if (error.exitCode === 0) return EXIT_DONE
    if (this.json) {
      const message =
        error.code === 'commander.help'
          ? 'a command is missing'
          : plainComplaint(error.message.replace(/^error: /, ''))
      this.#write(JSON.stringify(errorBody('bad-request', message, {}), undefined, 2))
    }
    return EXIT_WRONG_USE
  }

  #write(text: string): void {
    this.#edge.stdout.write(`${this.json ? text : printable(text)}\n`)
  }
}

function errorBody(code: string, message: string, details: Readonly<Record<string, unknown>>) {
  return { error: { code, message, details } }
}

/** Commander's sentence, without the words that it puts before ours. */
function plainComplaint(text: string): string {
  return withoutSecrets(text.replace(/command-argument value '.*' is invalid for argument '[^']*'\. /s, ''))
}

/** Names and versions come from other hosts: they must not move the cursor or colour the terminal. */
export function printable(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are exactly what is replaced here
  return text.replaceAll(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/g, '\ufffd')
}

/** Whatever was typed wrong may be an invite or a Hub token in the wrong place. */
export function withoutSecrets(text: string): string {
  return text
    .replaceAll(/shoal\d+-[A-Za-z0-9_-]{8,}/g, 'shoal1-[hidden]')
    .replaceAll(/\bhf_[A-Za-z0-9]{8,}/g, 'hf_[hidden]')
}
