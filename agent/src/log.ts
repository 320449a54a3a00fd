// What the rest of the agent asks of a logger: fields first, then constant text, as pino takes them. Never a secret.

type Write = (fields: Readonly<Record<string, unknown>>, message: string) => void

export interface Log {
  readonly debug: Write
  readonly info: Write
  readonly warn: Write
  readonly error: Write
}

/** Keeps nothing: for tests and for parts that run without a program around them. */
export const silentLog: Log = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} }
