/**
 * How long does one update of each optimizer take, with SIMD kernels and with their scalar twins, on one thread?
 *
 *   npx tsx bench/optimizers.ts [--floats 25000000] [--runs 7] [--json] [--save]
 *
 * The least of some runs, and the median too. Buffers in an arena go to SIMD, plain ones to the twins; both are measured in turn, so that they see the same machine.
 */
import { parseArgs } from 'node:util'
import { Arena } from '../src/collectives/kernels/arena.js'
import {
  adagrad,
  adam,
  adamw,
  clipByGlobalNorm,
  clipByValue,
  lamb,
  lion,
  momentum,
  type Optimizer,
  rmsprop,
  sgd,
} from '../src/runtime/optimizers/index.js'
import { circumstances, median, rounded, saveResult } from './record.js'

const rows: Readonly<Record<string, Optimizer>> = {
  sgd: sgd(1e-3),
  momentum: momentum(1e-3),
  nesterov: momentum(1e-3, { nesterov: true, weightDecay: 1e-4 }),
  adam: adam(1e-3),
  adamw: adamw(1e-3),
  'adamw, masked': adamw(1e-3, { mask: (_name, shape) => shape.length > 1 }),
  adagrad: adagrad(1e-3),
  rmsprop: rmsprop(1e-3),
  'rmsprop, centered, momentum': rmsprop(1e-3, { centered: true, momentum: 0.9 }),
  lamb: lamb(1e-3),
  lion: lion(1e-3),
  'sgd, clipped by value': clipByValue(sgd(1e-3), 1),
  'sgd, clipped by norm': clipByGlobalNorm(sgd(1e-3), 1),
}

const { values } = parseArgs({
  options: {
    floats: { type: 'string', default: '25000000' },
    runs: { type: 'string', default: '7' },
    json: { type: 'boolean', default: false },
    save: { type: 'boolean', default: false },
  },
})
const floats = Number(values.floats)
const lengths = Array<number>(5).fill(floats) // parameters, gradients, and the most slots that one has: three
const arena = new Arena(Arena.bytesFor(lengths))
const simd = lengths.map((length) => arena.alloc(length))
const scalar = lengths.map((length) => new Float32Array(length))
const tensors = layersOf(floats)

const measured = Object.entries(rows).map(([name, optimizer]) => {
  const times: Record<'simd' | 'scalar', number[]> = { simd: [], scalar: [] }
  for (let run = -1; run < Number(values.runs); run++) {
    for (const [kind, buffers] of [['simd', simd] as const, ['scalar', scalar] as const]) {
      if (kind === 'scalar' && run > 2) continue
      const ms = time(optimizer, buffers, run + 2)
      if (run >= 0) times[kind].push(ms) // the first is not counted: it compiles, and touches the memory
    }
  }
  const of = (kind: 'simd' | 'scalar') => rounded(Math.min(...times[kind]), 1)
  return { name, simdMs: of('simd'), medianSimdMs: rounded(median(times.simd), 1), scalarMs: of('scalar') }
})
const result = { floats, ...circumstances(`npx tsx bench/optimizers.ts --floats ${floats}`), measured }
if (values.json) console.log(JSON.stringify(result))
else console.table(measured)
if (values.save) saveResult('optimizers', result)

/** Milliseconds of one update, gradients fresh. */
function time(
  optimizer: Optimizer,
  [params, grads, ...slots]: readonly Float32Array[],
  step: number,
): number {
  const args = { params: params!, grads: grads!, slots: slots.slice(0, optimizer.slots.length), tensors }
  for (let i = 0; i < floats; i++) grads![i] = ((i * 17) % 101) / 64 - 0.75
  if (step === 1) for (const buffer of [params!, ...slots]) buffer.fill(0.01)
  const start = performance.now()
  optimizer.update({ ...args, step, gradScale: 0.5 })
  return performance.now() - start
}

/** A model of that many floats: matrices of a million, each with a bias of a thousand. */
function layersOf(floats: number) {
  const tensors = []
  for (let start = 0; start < floats; start += 1_001_024) {
    const middle = Math.min(floats, start + 1_000_000)
    tensors.push({ name: `dense${start}/kernel`, shape: [1000, 1000], start, end: middle })
    if (middle === floats) break
    tensors.push({
      name: `dense${start}/bias`,
      shape: [1000],
      start: middle,
      end: Math.min(floats, middle + 1000),
    })
  }
  return tensors
}
