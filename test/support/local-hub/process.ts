// Starts the local Hub in a process of its own, for tests that must not share their event loop with it.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import type { NetHost } from '../netns.ts'
import { type HubControl, remoteControl } from './control.ts'
import type { HubProcessOptions } from './main.ts'

export interface HubProcess extends AsyncDisposable {
  readonly url: string
  readonly cdnUrl: string
  readonly mirrorUrl: string
  readonly controlUrl: string
  readonly pid: number
  readonly control: HubControl
  stop(): Promise<void>
}

/** @param launch how a command is started elsewhere, for example in a namespace; default: as it is */
export async function spawnLocalHub(
  options: HubProcessOptions = {},
  launch: NetHost['launch'] = (command, args) => ({ command, args }),
): Promise<HubProcess> {
  const program = fileURLToPath(new URL('./main.ts', import.meta.url))
  const { command, args } = launch(process.execPath, [program, JSON.stringify(options)])
  const child = spawn(command, args, {
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  const exited = once(child, 'exit')
  const lines = createInterface({ input: child.stdout })
  const first = await Promise.race([once(lines, 'line'), exited.then(() => undefined)])
  if (first === undefined) throw new Error('the local Hub ended before it listened')
  const urls = JSON.parse(String(first[0])) as Pick<
    HubProcess,
    'url' | 'cdnUrl' | 'mirrorUrl' | 'controlUrl' | 'pid'
  >
  const stop = async () => {
    child.stdin.end()
    if (child.exitCode === null && child.signalCode === null) child.kill('SIGTERM')
    await exited
  }
  return { ...urls, control: remoteControl(urls.controlUrl), stop, [Symbol.asyncDispose]: stop }
}
