// Which agent a command speaks to: SHOAL_HTTP, else the ready file in the storage path, else the address of the settings.
// Reads settings and that file; opens no connection.
import { join } from 'node:path'
import { ShoalError } from '@shoal/protocol/errors.ts'
import { formatListenAddress } from '@shoal/protocol/listen-address.ts'
import { AGENT_READY_FILE, readReadyFile } from '@shoal/protocol/ready-file.ts'
import { shown } from '@shoal/protocol/settings.ts'
import { loadWhereabouts, type Surroundings } from '../config.ts'
import { DEFAULT_HTTP_PORT } from '../config-keys.ts'

export interface AgentPlace {
  /** Without a trailing slash. */
  readonly url: string
  /** How it was found, for a message when nobody answers there. */
  readonly from: string
}

/** @throws ShoalError `bad-config` */
export async function findAgent(surroundings: Surroundings): Promise<AgentPlace> {
  const named = surroundings.env.SHOAL_HTTP?.trim()
  if (named !== undefined && named !== '') return { url: parseAgentUrl(named), from: 'SHOAL_HTTP' }
  const { storagePath, listen } = await loadWhereabouts(surroundings)
  const path = join(storagePath, AGENT_READY_FILE)
  const ready = await readReadyFile(path)
  if (ready !== undefined) return { url: ready.http.replace(/\/+$/, ''), from: path }
  const host = /^(?:0\.0\.0\.0|::)$/.test(listen.host) ? '127.0.0.1' : listen.host
  const port = listen.port === 0 ? DEFAULT_HTTP_PORT : listen.port
  return {
    url: `http://${formatListenAddress({ host, port })}`,
    from: `${path} is not there, so the configured address was tried`,
  }
}

function parseAgentUrl(text: string): string {
  const url = URL.canParse(text) ? new URL(text) : undefined
  if (url === undefined || !/^https?:$/.test(url.protocol))
    throw new ShoalError(
      'bad-config',
      `SHOAL_HTTP: expected a URL, as in "http://127.0.0.1:8001", received ${shown(text)}`,
    )
  if (url.username !== '' || url.password !== '' || url.search !== '' || url.hash !== '')
    throw new ShoalError('bad-config', 'SHOAL_HTTP: only scheme, host, port and path are expected')
  return `${url.origin}${url.pathname.replace(/\/+$/, '')}`
}
