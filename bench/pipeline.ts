/**
 * How idle are the ranks of a pipeline, and how fast are two ranks that share a model's layers (pp2) or their matrices (tp2),
 * beside two replicas of it (dp2), plain or sharded? One thread a rank.
 *
 *   npm run -s bench:pipeline -- [--steps 20] [--micro-batches 8] [--width 256] [--depth 4] [--batch 16] [--peers] [--save]
 *
 * `bubbles`: equal stages (dense layers), the share of time in which ranks computed no pass, beside the formula.
 * `throughput`: a GPT, the same sequences a step, all in turn, step by step, so that a noisy machine is noisy for all: the median
 * of dp2's time by the other's. With --peers PyTorch's DDP, ZeroRedundancyOptimizer, FSDP, pipelining and parallelize_module over
 * Gloo, on each Python of PYTHONS.
 */
import { execFileSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { pythons, torchVersion } from './peers.js'
import { circumstances, saveResult } from './record.js'

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
const printed = execFileSync(process.execPath, [...launcher, path('pipeline-rank.ts'), ...sizes], {
  encoding: 'utf8',
})
const result = JSON.parse(printed.slice(printed.indexOf('{'))) as object

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
