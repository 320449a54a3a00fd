// PURE. Which directories the agent would harm by taking them as its own. Looks at the text of a path only.
import { resolve } from 'node:path'

const WHOLE_SYSTEM = ['/proc', '/sys', '/etc', '/boot', '/bin', '/sbin', '/usr/bin', '/usr/sbin', '/usr/lib']
const SYSTEM_FOLDERS = new Set([
  ...[
    '/',
    '/dev',
    '/dev/shm',
    '/home',
    '/lib',
    '/lib64',
    '/media',
    '/mnt',
    '/opt',
    '/root',
    '/run',
    '/srv',
    '/tmp',
    '/usr',
  ],
  ...[
    '/usr/local',
    '/usr/share',
    '/var',
    '/var/lib',
    '/var/log',
    '/var/tmp',
    '/Users',
    '/Library',
    '/System',
    '/Applications',
  ],
])

/** Why a directory cannot be the storage path, or undefined. It must be one that the agent has to itself. */
export function storagePathProblem(path: string, home: string): string | undefined {
  if (path === '/') return 'the root of the file system cannot be the storage path'
  if (path === resolve(home)) return 'a home directory cannot be the storage path; name a directory in it'
  const system =
    SYSTEM_FOLDERS.has(path) || WHOLE_SYSTEM.some((root) => path === root || path.startsWith(`${root}/`))
  return system ? 'a directory of the system cannot be the storage path; name one of its own' : undefined
}
