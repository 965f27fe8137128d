/**
 * How idle are the ranks of a pipeline, and how fast are two ranks that share a model's layers (pp2) or their matrices (tp2),
 * beside two replicas of it (dp2), plain or sharded? One thread a rank.
 *
 *   npm run -s bench:pipeline -- [--steps 20] [--micro-batches 8] [--width 256] [--depth 4] [--batch 16] [--peers] [--save]
 *
 * `bubbles`: equal stages (dense layers), the share of time in which ranks computed no pass, from the job's timeline, beside the
 * formula; and `withoutDelays`, what the same passes would leave idle if each began as soon as it could, which is above the
 * formula as far as their lengths differ. `throughput`: a GPT, whose stages are cut by time, the same sequences a step, all in
 * turn, step by step, so that a noisy machine is noisy for all: `relative` is the median of dp2's time by the other's. With
 * --peers PyTorch's DDP, ZeroRedundancyOptimizer, FSDP, pipelining and parallelize_module over Gloo, on each Python of PYTHONS.
 */
import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { pythons, torchVersion } from './peers.js'
import { idleShare, passesOf, withoutDelays } from './pipeline-timeline.js'
import { circumstances, median, rounded, saveResult } from './record.js'

interface Held {
  readonly schedule: string
  readonly stagesPerRank: number
  readonly microBatchesHeld: number
}

const WARM_UP = 2

const { values } = parseArgs({
  options: {
    steps: { type: 'string', default: '20' },
    'micro-batches': { type: 'string', default: '8' },
    width: { type: 'string', default: '256' },
    depth: { type: 'string', default: '4' },
    batch: { type: 'string', default: '16' },
    peers: { type: 'boolean', default: false },
    save: { type: 'boolean', default: false },
  },
})
const sizes = [values.steps, values['micro-batches'], values.width, values.depth, values.batch]
const path = (name: string) => fileURLToPath(new URL(name, import.meta.url))
const launcher = ['--import', 'tsx', path('../launcher/main.ts'), '--nproc', '2', '--threads', '1']
function launched(options: readonly string[], script: string, args: readonly string[]): string {
  const argv = [...launcher, ...options, path(script), ...args]
  return execFileSync(process.execPath, argv, { encoding: 'utf8' })
}

const printed = launched([], 'pipeline-rank.ts', sizes)
const result = { bubbles: bubbles(), ...(JSON.parse(printed.slice(printed.indexOf('{'))) as object) }

function bubbles() {
  const directory = mkdtempSync(join(tmpdir(), 'bench-'))
  const file = join(directory, 'timeline.json')
  const [p, m] = [2, Number(values['micro-batches'])]
  const steps = WARM_UP + Math.ceil(Number(values.steps) * 0.3)
  try {
    const text = launched(['--timeline', file], 'pipeline-bubbles-rank.ts', [`${steps}`, `${m}`])
    const held = JSON.parse(text.slice(text.indexOf('[{'))) as Held[]
    const passes = passesOf(file, p)
    return held.map(({ schedule, stagesPerRank: v, microBatchesHeld }) => {
      const taken = passes.map((own) => own.splice(0, steps * 2 * m * v))
      const each = Array.from({ length: steps }, (_, i) =>
        taken.map((own) => own.slice(i * 2 * m * v, (i + 1) * 2 * m * v)),
      ).slice(WARM_UP)
      const shares = each.map(idleShare)
      const formula = (p - 1) / (v * m + p - 1)
      const measured = median(shares)
      return {
        schedule,
        formula: rounded(formula, 4),
        measured: rounded(measured, 4),
        ratio: rounded(measured / formula, 3),
        least: rounded(Math.min(...shares), 4),
        withoutDelays: rounded(median(each.map((step) => idleShare(withoutDelays(step)))), 4),
        computeMs: taken.map((_, rank) =>
          rounded(median(each.map((step) => step[rank]!.reduce((sum, { ms }) => sum + ms, 0)))),
        ),
        microBatchesHeld,
      }
    })
  } finally {
    rmSync(directory, { recursive: true })
  }
}

const peers = pythons().flatMap((python) => {
  const version = values.peers ? torchVersion(python) : undefined
  if (version === undefined) return []
  const text = execFileSync(python, [path('torch_parallel.py'), ...sizes], { encoding: 'utf8' })
  return [{ peer: `torch ${version}, Gloo`, ...(JSON.parse(text) as object) }]
})

const [steps, microBatches, width, depth, batch] = sizes.map(Number)
const whole = { worldSize: 2, steps, microBatches, width, depth, batch, ...result, peers }
console.log(JSON.stringify(whole, undefined, 2))
const command = `npm run -s bench:pipeline -- ${process.argv.slice(2).join(' ')}`
if (values.save) saveResult('pipeline', { ...circumstances(command), ...whole })
