// Whether the agent that answers is the one whose files these settings name: a secret read from one agent's files must not be
// taken for another agent's.
import type { StatusShape } from '../http/node-shapes.ts'
import { CommandFailure } from './output.ts'

/** @throws CommandFailure `conflict` */
export function checkSameStorage(status: StatusShape, storagePath: string): void {
  if (status.storage.path === storagePath) return
  throw new CommandFailure(
    'conflict',
    `the agent at ${status.http} keeps its files in ${status.storage.path}, but the settings here name ${storagePath}. Say which one is meant with --storage, --config or SHOAL_STORAGE_PATH.`,
    { agent: status.storage.path, settings: storagePath },
  )
}
