// `shoal config init|validate|show`: the settings file, without an agent.
import { writeFile } from 'node:fs/promises'
import { resolve } from 'node:path'
import { ShoalError } from '@shoal/protocol/errors.ts'
import type { Command } from 'commander'
import { type LoadedSettings, loadSettings, starterConfig } from '../config.ts'
import { type PlaceOptions, type Setup, surroundings, withJson, withPlace } from './command.ts'
import { table } from './format.ts'

export function configCommand(program: Command, { edge, output }: Setup): void {
  const config = withJson(program.command('config')).description('write, check and show settings')

  withJson(config.command('init'))
    .description('write a settings file with every default; never replaces a file')
    .argument('[file]', 'where to', 'shoal.json')
    .action(async (file: string) => {
      const path = resolve(edge.cwd, file)
      await writeNew(path, `${JSON.stringify(starterConfig(), undefined, 2)}\n`)
      output.result(
        { file: path },
        () => `Wrote ${path}: every setting with its default. Keep the lines you change.`,
      )
    })

  withJson(config.command('validate'))
    .description('check a settings file, and the environment with it, and report all problems at once')
    .argument('[file]', 'settings file (default: the one an agent would use here)')
    .option('--config <file>', 'the same')
    .action(async (file: string | undefined, options: PlaceOptions) => {
      const loaded = await loadSettings(
        surroundings(edge, { ...options, ...(file === undefined ? {} : { config: file }) }),
      )
      remark(loaded)
      const path = loaded.settings.configPath
      output.result({ file: path ?? null, problems: [], warnings: loaded.warnings }, () =>
        path === undefined
          ? 'There is no settings file; the defaults and the environment are right.'
          : `${path}: no problems.`,
      )
    })

  withPlace(config.command('show'))
    .description('show every setting, its value and where that comes from; secrets are hidden')
    .action(async (options: PlaceOptions) => {
      const loaded = await loadSettings(surroundings(edge, options))
      remark(loaded)
      output.result({ file: loaded.settings.configPath ?? null, settings: loaded.shown }, () => {
        const rows = loaded.shown.map((one) => [
          one.key,
          one.value === null ? '' : JSON.stringify(one.value),
          one.from,
        ])
        return table([{ title: 'SETTING' }, { title: 'VALUE' }, { title: 'FROM' }], rows)
      })
    })

  function remark(loaded: LoadedSettings): void {
    for (const warning of loaded.warnings) output.note(`warning: ${warning}`)
  }
}

async function writeNew(path: string, text: string): Promise<void> {
  try {
    await writeFile(path, text, { flag: 'wx', mode: 0o644 })
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code
    if (code === 'EEXIST')
      throw new ShoalError('conflict', `${path} is there already and is never replaced`, { path }, error)
    if (code === 'ENOENT')
      throw new ShoalError('bad-config', `${path}: there is no such directory`, { path }, error)
    throw new ShoalError('bad-config', `${path} cannot be written`, { path }, error)
  }
}
