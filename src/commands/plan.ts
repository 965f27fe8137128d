/** `ddp-launch plan`: what of a model each rank would hold, mesh by mesh, and which to take. */
import { writeFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { LockstepError } from '../errors.js'
import { formatTable } from '../observe/table.js'
import { callFor, describe, formatBytes, planFor, type TrainingPlan } from '../runtime/planner/plan.js'
import { loadSubject, type PlanSubject } from '../runtime/planner/subject.js'
import { quietTensorflow } from '../runtime/quiet-tensorflow.js'
import { runCommand } from './command.js'

const USAGE = `ddp-launch plan MODEL.ts --ranks N --memory 8GiB [--batch B] [--json FILE]

Says what each of N ranks would hold and send with every mesh of data, pipeline and tensor parallelism, and which to take.

  MODEL.ts   export default () => ({ model, loss, optimizer, plan, x, y }): what is given to world.ddp, an example
             batch (of any size) and, for tensor parallelism, how layers are split; optimizer and plan may be left out
  --ranks    of the job
  --memory   that a rank may take: 8GiB, 512MiB, …
  --batch    samples of a step on all ranks together (default: the example's, on each rank)
  --json     writes all figures`

await runCommand(async (argv) => {
  const values = parse(argv)
  if (values === undefined) {
    console.log(USAGE)
    return
  }
  const { file, ranks, limit, json } = values
  quietTensorflow()
  const subject = await loadSubject(file)
  const batch = values.batch ?? ranks * samplesOf(subject)
  const plan = await planFor(file, subject, { ranks, limit, batch })
  console.log(text(plan, ranks))
  if (json !== undefined) writeFileSync(json, `${JSON.stringify({ file, ranks, ...plan }, undefined, 2)}\n`)
})

function text({ meshes, recommended, batch, limit }: TrainingPlan, ranks: number): string {
  const heading = [
    '',
    'fits',
    'parameters',
    'gradients',
    'optimizer',
    'activations',
    'model',
    'a rank',
    'bubble',
    'sent a step',
  ]
  const rows = meshes.map((mesh) => {
    const { parameters, gradients, optimizer, activations, model, total } = mesh.memory
    const bytes = [parameters, gradients, optimizer, activations, model, total].map((each) =>
      formatBytes(each),
    )
    const bubble = mesh.pp > 1 ? `${Math.round(100 * mesh.bubble)} %` : ''
    return [describe(mesh), mesh.fits ? 'yes' : 'no', ...bytes, bubble, formatBytes(mesh.bytesPerStep)]
  })
  return [
    ...formatTable([heading, ...rows]),
    '',
    `a batch of ${batch}, up to ${formatBytes(limit)} a rank, beside what Node.js and onnxruntime take for themselves`,
    `recommended: ${describe(recommended)}`,
    `  ${callFor(recommended)}`,
    `  npx ddp-launch --nproc ${ranks} train.ts`,
  ].join('\n')
}

function parse(argv: readonly string[]) {
  const fail = (what: string, cause?: unknown) => new LockstepError(`plan: ${what} (see --help)`, { cause })
  const options = {
    ranks: { type: 'string' },
    memory: { type: 'string' },
    batch: { type: 'string' },
    json: { type: 'string' },
    help: { type: 'boolean', short: 'h' },
  } as const
  let parsed: ReturnType<typeof parseArgs<{ options: typeof options; allowPositionals: true }>>
  try {
    parsed = parseArgs({ args: [...argv], options, allowPositionals: true })
  } catch (cause) {
    throw fail((cause as Error).message.split('\n')[0]!, cause)
  }
  const { values, positionals } = parsed
  if (values.help) return undefined
  const [file, ...more] = positionals
  if (file === undefined || more.length > 0)
    throw fail(`${positionals.length} files were given: expected one, of a model`)
  const count = (name: 'ranks' | 'batch') => {
    const given = values[name]
    if (given !== undefined && !/^[1-9]\d{0,6}$/.test(given))
      throw fail(`--${name} is "${given}": expected a whole number of at least 1`)
    return given === undefined ? undefined : Number(given)
  }
  const [ranks, batch] = [count('ranks'), count('batch')]
  if (ranks === undefined || values.memory === undefined)
    throw fail(`--${ranks === undefined ? 'ranks' : 'memory'} is missing: expected --ranks N --memory 8GiB`)
  const [, amount, unit] = /^(\d+(?:\.\d+)?) ?([KMGT]iB)$/.exec(values.memory) ?? []
  if (amount === undefined) throw fail(`--memory is "${values.memory}": expected a size as 512MiB or 8GiB`)
  const limit = Number(amount) * 1024 ** (1 + ['KiB', 'MiB', 'GiB', 'TiB'].indexOf(unit!))
  return { file, ranks, batch, limit, json: values.json }
}

function samplesOf({ x }: PlanSubject): number {
  const [first] = [x].flat()
  return (first as { readonly shape: readonly number[] }).shape[0]!
}
