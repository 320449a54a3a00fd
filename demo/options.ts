// The demo's command line. Parses and explains; does nothing else.
import { parseArgs } from 'node:util'

export interface DemoOptions {
  /** End by itself after the verdict. */
  readonly once: boolean
  /** Of the generated model, which the embedded Hub serves. */
  readonly generatedBytes: number
  /** A real Hub instead of the embedded one, and the repo to take from it. */
  readonly real: { readonly upstream: string; readonly repo: string } | undefined
}

export const USAGE = `npm start -- [--once] [--upstream URL --repo ORG/NAME]

  --once          end after the verdict: exit code 0 when it is good, 1 when it is not
  --size-mb N     size of the generated model in MB, 4 to 100000 (default 268)
  --upstream URL  take the model from a real Hub, for example https://huggingface.co
  --repo NAME     the model repo to take from it, for example openai-community/gpt2

Without --upstream an embedded Hub serves a real small model and a generated sharded one: no network is needed.`

/** @throws Error with a sentence for the user */
export function parseOptions(args: readonly string[]): DemoOptions | 'help' {
  const { values } = parseArgs({
    args: [...args],
    options: {
      once: { type: 'boolean', default: false },
      'size-mb': { type: 'string', default: '268' },
      upstream: { type: 'string' },
      repo: { type: 'string' },
      help: { type: 'boolean', short: 'h', default: false },
    },
  })
  if (values.help) return 'help'
  if ((values.upstream === undefined) !== (values.repo === undefined))
    throw new Error('--upstream and --repo go together')
  const megabytes = Number(values['size-mb'])
  if (!(megabytes >= 4 && megabytes <= 100_000))
    throw new Error(`--size-mb needs a number from 4 to 100000, and got ${values['size-mb']}`)
  const options = { once: values.once, generatedBytes: Math.round(megabytes * 1e6) }
  if (values.upstream === undefined || values.repo === undefined) return { ...options, real: undefined }
  if (!/^https?:\/\/[^/]/.test(values.upstream))
    throw new Error(`--upstream needs a URL, and got ${values.upstream}`)
  if (!/^[\w.-]+(\/[\w.-]+)?$/.test(values.repo))
    throw new Error(`--repo needs ORG/NAME, and got ${values.repo}`)
  return { ...options, real: { upstream: values.upstream.replace(/\/+$/, ''), repo: values.repo } }
}
