// `shoal env`: the variables that make stock Hugging Face clients use this agent, as shell text for `eval`.
import { constants } from 'node:fs'
import { access } from 'node:fs/promises'
import { isLoopbackHost } from '@shoal/protocol/listen-address.ts'
import type { Command } from 'commander'
import { agentClient, type PlaceOptions, type Setup, withPlace } from './command.ts'
import type { Edge } from './edge.ts'

/** huggingface_hub gives up after 10 s by default; a first answer may wait for the Hub, and a first byte for a peer. */
const ETAG_TIMEOUT_SECONDS = 60
const DOWNLOAD_TIMEOUT_SECONDS = 120

export function envCommand(program: Command, { edge, output }: Setup): void {
  withPlace(program.command('env'))
    .description('print the variables for Hugging Face clients: eval "$(shoal env)"')
    .action(async (options: PlaceOptions) => {
      const client = await agentClient(edge, options)
      const status = await client.status()
      const endpoint = client.place.url
      const host = new URL(endpoint).hostname
      const variables: Record<string, string> = {
        HF_ENDPOINT: endpoint,
        HF_HUB_ETAG_TIMEOUT: String(ETAG_TIMEOUT_SECONDS),
        HF_HUB_DOWNLOAD_TIMEOUT: String(DOWNLOAD_TIMEOUT_SECONDS),
        ...withoutProxy(edge, host),
      }
      if (!isLoopbackHost(host))
        output.note('HF_HUB_CACHE is left as it is: that agent may be on another machine.')
      else if (await mayWrite(status.storage.hubCache)) variables.HF_HUB_CACHE = status.storage.hubCache
      else
        output.note(
          `HF_HUB_CACHE is left as it is: this user may not write in ${status.storage.hubCache}, and clients need to.`,
        )
      output.result(variables, () =>
        Object.entries(variables)
          .map(([name, value]) => `export ${name}=${shellQuoted(value)}`)
          .join('\n'),
      )
    })
}

/** Loopback requests must not go through a proxy. Clients read the lower-case name first where both are set. */
function withoutProxy({ env }: Edge, host: string): Record<string, string> {
  const names = env.no_proxy === undefined ? ['NO_PROXY'] : ['NO_PROXY', 'no_proxy']
  const known = (env.no_proxy ?? env.NO_PROXY ?? '').split(',').map((name) => name.trim())
  const hosts = [...new Set([...known, host, 'localhost'])].filter((name) => name !== '')
  const value = known.includes('*') ? '*' : hosts.join(',')
  return Object.fromEntries(names.map((name) => [name, value]))
}

async function mayWrite(path: string): Promise<boolean> {
  try {
    await access(path, constants.W_OK)
    return true
  } catch (error) {
    // What is not there yet, the client makes.
    return (error as NodeJS.ErrnoException).code === 'ENOENT'
  }
}

function shellQuoted(text: string): string {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`
}
