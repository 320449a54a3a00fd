// `shoal ls`, `shoal show` and `shoal rm`: what is kept on this host.
import { createInterface } from 'node:readline/promises'
import type { Command } from 'commander'
import type { ModelDetailsShape, ModelsShape } from '../http/node-shapes.ts'
import { agentClient, type PlaceOptions, repoOnly, type Setup, withPlace } from './command.ts'
import { EXIT_FAILED } from './edge.ts'
import { count, fields, formatBytes, percent, table } from './format.ts'

export function modelCommands(program: Command, { edge, output, exitWith }: Setup): void {
  withPlace(program.command('ls'))
    .description('list the models kept on this host')
    .action(async (options: PlaceOptions) => {
      const answer = await (await agentClient(edge, options)).models()
      output.result(answer, () => listText(answer))
    })

  withPlace(program.command('show'))
    .description('show the files of one model and how much of each is here')
    .argument('<repo>', 'org/name, datasets/org/name or spaces/org/name', repoOnly)
    .action(async (repo: string, options: PlaceOptions) => {
      const answer = await (await agentClient(edge, options)).model(repo)
      output.result(answer, () => detailsText(answer))
    })

  withPlace(program.command('rm'))
    .description('remove a model from this host; other hosts keep theirs')
    .argument('<repo>', 'org/name, datasets/org/name or spaces/org/name', repoOnly)
    .option('-y, --yes', 'do not ask (nothing is asked without a terminal)')
    .action(async (repo: string, options: PlaceOptions & { readonly yes?: boolean }) => {
      const client = await agentClient(edge, options)
      if (!options.yes && !output.json && edge.stdin.isTTY && edge.stderr.isTTY) {
        const model = await client.model(repo)
        const question = `Remove ${repo} (${formatBytes(model.heldBytes)}) from this host? [y/N] `
        const lines = createInterface({ input: edge.stdin, output: edge.stderr })
        const reply = await lines.question(question).finally(() => lines.close())
        if (!/^y(es)?$/i.test(reply.trim())) {
          output.note('Nothing was removed.')
          return exitWith(EXIT_FAILED)
        }
      }
      const removed = await client.remove(repo)
      output.result(
        { repo, ...removed },
        () => `Removed ${repo}: ${formatBytes(removed.freedBytes)} freed (${count(removed.blobs, 'blob')}).`,
      )
    })
}

function listText({ models }: ModelsShape): string {
  if (models.length === 0) return 'No models are kept here yet. Fetch one with: shoal pull org/name'
  const rows = models.map((model) => [
    model.repo,
    model.revisions.map(({ revision, commit }) => named(revision, commit)).join(', '),
    `${model.completeFiles}/${model.files}`,
    formatBytes(model.heldBytes),
    percent(model.heldBytes, model.sizeBytes),
    model.access === 'public' ? '' : model.access,
  ])
  const heldBytes = models.reduce((sum, model) => sum + model.heldBytes, 0)
  const columns = [
    { title: 'REPO' },
    { title: 'REVISIONS' },
    { title: 'FILES', right: true },
    { title: 'HERE', right: true },
    { title: 'DONE', right: true },
    { title: 'ACCESS' },
  ]
  return `${table(columns, rows)}\n${count(models.length, 'model')}, ${formatBytes(heldBytes)} here.`
}

function detailsText(model: ModelDetailsShape): string {
  const head = fields([
    ['Repo', model.repo],
    ['Kind', `${model.kind}, ${model.access}`],
    [
      'Revisions',
      model.revisions.map(({ revision, commit }) => named(revision, commit)).join(', ') || 'none',
    ],
    [
      'Here',
      `${formatBytes(model.heldBytes)} of ${formatBytes(model.sizeBytes)}, ${model.completeFiles} of ${count(model.files, 'file')} complete`,
    ],
  ])
  const commits = model.commits.map(({ commit, files }) => {
    const rows = files.map((file) => [
      file.path,
      formatBytes(file.sizeBytes),
      file.complete
        ? 'complete'
        : file.heldBytes === 0
          ? 'not here'
          : percent(file.heldBytes, file.sizeBytes),
      file.blob,
    ])
    const columns = [{ title: 'FILE' }, { title: 'SIZE', right: true }, { title: 'HERE' }, { title: 'BLOB' }]
    return `\nCommit ${commit}\n${table(columns, rows)}`
  })
  return [head, ...commits].join('\n')
}

/** `main (0123456)`; a commit asked for by its own name is not said twice. */
function named(revision: string, commit: string): string {
  return revision === commit ? commit.slice(0, 7) : `${revision} (${commit.slice(0, 7)})`
}
