/**
 * How much faster is a training step (forward, backward, SGD) of Lockstep than plain TensorFlow.js on each of its
 * backends? One thread each, alternating; processor time, and the ratio of its minima.
 *
 *   npm run -s bench:engines -- [--tfjs DIR] [--models mlp,cnn] [--backends cpu,wasm,tensorflow] [--rounds N] [--save]
 *
 * --save replaces the rows measured here, and no others.
 * --tfjs: a project in which @tensorflow/tfjs-node and @tensorflow/tfjs-backend-wasm are installed. What does not run
 * (wasm has no gradients of convolutions) is left out, visibly.
 */
import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { formatTable } from '../src/observe/table.js'
import { circumstances, median, rounded, saveResult } from './record.js'

const { values } = parseArgs({
  options: {
    tfjs: { type: 'string', default: '.' },
    models: { type: 'string', default: 'mlp,cnn,resnet,gpt' },
    backends: { type: 'string', default: 'tensorflow,wasm,cpu' },
    rounds: { type: 'string', default: '3' },
    save: { type: 'boolean', default: false },
  },
})

const ONE_THREAD = {
  OMP_NUM_THREADS: '1',
  TF_NUM_INTRAOP_THREADS: '1',
  TF_NUM_INTEROP_THREADS: '1',
  TF_CPP_MIN_LOG_LEVEL: '3',
}

interface Times {
  readonly minMs: number
  readonly medianMs: number
  readonly steps: number
}

interface Row {
  readonly model: string
  readonly backend: string
  readonly lockstep: Times
  readonly tfjs: Times
  readonly ratioOfMinima: number
}

const rows = values.models
  .split(',')
  .flatMap((model) => values.backends.split(',').flatMap((backend) => compare(model, backend)))
const table = rows.map(({ model, backend, lockstep, tfjs, ratioOfMinima }) =>
  [model, backend, lockstep.minMs, tfjs.minMs, ratioOfMinima, tfjs.steps].map(String),
)
const heading = ['model', 'backend', 'Lockstep, min ms', 'TensorFlow.js, min ms', 'ratio', 'steps']
console.log(formatTable([heading, ...table]).join('\n'))
if (values.save) {
  const command = `npm run -s bench:engines -- ${process.argv.slice(2).join(' ')}`
  const fresh = rows.map((row) => ({ ...row, command }))
  const all = [...savedRows().filter((old) => !rows.some((row) => isSame(row, old))), ...fresh]
  saveResult('engines', { ...circumstances(command), threads: 1, unit: 'ms of processor time', rows: all })
}

type SavedRow = Row & { readonly command?: string }

function isSame(a: Row, b: Row): boolean {
  return a.model === b.model && a.backend === b.backend
}

/** Rows of earlier runs: a run of some models and backends replaces those, and no others. */
function savedRows(): SavedRow[] {
  const path = new URL('results/engines.json', import.meta.url)
  return existsSync(path) ? (JSON.parse(readFileSync(path, 'utf8')) as { rows: SavedRow[] }).rows : []
}

/** Over all rounds; a backend that takes seconds a step gets one round. */
function compare(model: string, backend: string): Row[] {
  const ours: number[] = []
  const theirs: number[] = []
  for (let round = 0; round < Number(values.rounds); round++) {
    ours.push(...steps(model, 'onnx')!)
    const measured = steps(model, backend)
    if (measured === undefined) return []
    theirs.push(...measured)
    if (median(theirs) > 1000) break
  }
  const [lockstep, tfjs] = [summary(ours), summary(theirs)]
  const row = { model, backend, lockstep, tfjs, ratioOfMinima: rounded(tfjs.minMs / lockstep.minMs) }
  console.error(JSON.stringify(row))
  return [row]
}

function summary(times: readonly number[]): Times {
  return { minMs: rounded(Math.min(...times)), medianMs: rounded(median(times)), steps: times.length }
}

function steps(model: string, backend: string): number[] | undefined {
  const script = fileURLToPath(new URL('engine-step.ts', import.meta.url))
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    ['--import', import.meta.resolve('tsx'), script, model, backend, values.tfjs],
    { encoding: 'utf8', env: { ...process.env, ...ONE_THREAD } },
  )
  if (status === 0) return JSON.parse(stdout.trim().split('\n').at(-1)!)
  const reason = stderr.split('\n').find((line) => /^\w*Error: /.test(line)) ?? `exit code ${status}`
  console.error(`left out: ${model} on ${backend}: ${reason}`)
  return undefined
}
