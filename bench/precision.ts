/**
 * What does a precision bring and cost? The reference models, trained from the same weights on the same batches in each: time and
 * processor time of a step, the process's peak memory, and how far losses are from float32's.
 *
 *   npm run -s bench:precision -- [--model mlp|cnn|gpt] [--provider cpu|webgpu|cuda] [--steps 100] [--json] [--save]
 *
 * Without --model all three. Digits are generated, the text is the GPT example's. A precision that the provider has not is left
 * out, and said. Runs take turns in processes of their own, on one thread.
 */
import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { PROVIDERS } from '../src/compiler/onnxruntime.js'
import { PRECISIONS } from '../src/compiler/precision.js'
import { formatTable, LockstepError } from '../src/index.js'
import { circumstances, rounded, saveResult } from './record.js'

const BATCH = { mlp: 128, cnn: 32, gpt: 16 } as const
const { values } = parseArgs({
  options: {
    model: { type: 'string' },
    provider: { type: 'string', default: 'cpu' },
    steps: { type: 'string', default: '100' },
    json: { type: 'boolean', default: false },
    save: { type: 'boolean', default: false },
  },
})
const { provider, steps } = values
const models = (Object.keys(BATCH) as (keyof typeof BATCH)[]).filter(
  (name) => values.model === undefined || name === values.model,
)
if (models.length === 0)
  throw new LockstepError(`--model is "${values.model}": expected ${Object.keys(BATCH).join(', ')}`)
if (!PROVIDERS.some((name) => name === provider))
  throw new LockstepError(`--provider is "${provider}": expected ${PROVIDERS.join(', ')}`)

interface Run {
  readonly precision: string
  readonly medianMs: number
  readonly cpuMs: number
  readonly peakMiB: number
  readonly skipped: number
  readonly lossScale?: number
  readonly losses: readonly number[]
}

const rows = models.flatMap((model) => {
  const runs = PRECISIONS.flatMap((precision) => measure(model, precision))
  const [plain] = runs
  return runs.map(({ losses, ...run }) => ({
    ...{ model, batch: BATCH[model], ...run },
    ...{ firstLoss: rounded(losses[0]!, 4), lastLoss: rounded(lastTen(losses), 4) },
    /** The largest of a step, and that of the last ten steps' means. */
    apart: rounded(Math.max(...losses.map((loss, i) => Math.abs(loss - plain!.losses[i]!))), 5),
    lastApart: rounded(lastTen(losses) - lastTen(plain!.losses), 5),
    slower: rounded(run.cpuMs / plain!.cpuMs, 3),
  }))
})
const result = { provider, steps: Number(steps), threads: 1, rows }
if (values.json) console.log(JSON.stringify(result, undefined, 2))
else {
  const heading = [
    'model',
    'precision',
    'ms',
    'cpu ms',
    '× float32',
    'peak MiB',
    'skipped',
    'last loss',
    'from float32',
  ]
  const cells = rows.map((row) =>
    [
      ...[row.model, row.precision, row.medianMs, row.cpuMs, row.slower, row.peakMiB, row.skipped],
      ...[row.lastLoss, row.lastApart],
    ].map(String),
  )
  console.log(formatTable([heading, ...cells]).join('\n'))
}
const command = `npm run -s bench:precision -- ${process.argv.slice(2).join(' ')}`
if (values.save) saveResult(`precision-${provider}`, { ...circumstances(command), ...result })

/** @returns none where the provider has no such precision */
function measure(model: keyof typeof BATCH, precision: string): Run[] {
  const script = fileURLToPath(new URL('precision-rank.ts', import.meta.url))
  const args = ['--import', 'tsx', script, model, precision, String(BATCH[model]), steps, provider]
  const env = { ...process.env, OMP_NUM_THREADS: '1' }
  const { status, stdout, stderr } = spawnSync(process.execPath, args, { encoding: 'utf8', env })
  if (status === 0) return [JSON.parse(stdout) as Run]
  console.error(`${model} in ${precision}: ${stderr.trim().split('\n').at(-1)}`)
  if (precision === 'float32') throw new LockstepError(`${model} does not train on provider ${provider}`)
  return []
}

function lastTen(losses: readonly number[]): number {
  const ten = losses.slice(-10)
  return ten.reduce((sum, loss) => sum + loss, 0) / ten.length
}
