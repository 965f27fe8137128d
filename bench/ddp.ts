/**
 * What does training together cost, and bring? The reference CNN with Adam, one thread a rank:
 * bare session and optimizer against a world of one; then 1 rank against 2 (weak scaling: the same batch per rank).
 *
 *   npm run -s bench:ddp -- [--batch 64] [--steps 30] [--rounds 5] [--peers DIR] [--save]
 *
 * The contenders take turns, so that a noisy machine is noisy for all; ratios are medians over rounds. With --peers,
 * DIR/ddp_scaling.py (PyTorch DDP over Gloo, batch 32) takes its turns too, on the first of PYTHONS that has torch.
 */
import { execFileSync } from 'node:child_process'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import * as tf from '@tensorflow/tfjs-core'
import { Arena } from '../src/collectives/kernels/arena.js'
import { singleRank } from '../src/collectives/single.js'
import { Program } from '../src/compiler/program.js'
import { cnn } from '../src/models/cnn.js'
import { adam } from '../src/runtime/optimizers/index.js'
import { quietTensorflow } from '../src/runtime/quiet-tensorflow.js'
import { World } from '../src/runtime/world.js'
import { pythons, torchVersion } from './peers.js'
import { circumstances, median, rounded, saveResult } from './record.js'

const { values } = parseArgs({
  options: {
    batch: { type: 'string', default: '64' },
    steps: { type: 'string', default: '30' },
    rounds: { type: 'string', default: '5' },
    peers: { type: 'string' },
    save: { type: 'boolean', default: false },
  },
})
const [batch, steps, rounds] = [Number(values.batch), Number(values.steps), Number(values.rounds)]
quietTensorflow()

const x = { data: Float32Array.from({ length: batch * 784 }, () => Math.random()), shape: [batch, 28, 28, 1] }
const y = { data: Int32Array.from({ length: batch }, (_, i) => i % 10), shape: [batch] }

const bare = await bareStep()
const ddp = await new World(singleRank(), 0, 1).ddp(cnn({ seed: 1 }), {
  loss: 'softmaxCrossEntropy',
  optimizer: adam(1e-3),
})
const contenders: Record<string, () => Promise<number>> = {
  bare: () => medianOf(bare),
  worldOfOne: () => medianOf(() => ddp.step(x, y)),
  oneRank: async () => launched(1),
  twoRanks: async () => launched(2),
  ...(values.peers === undefined ? {} : peerContenders(values.peers)),
}

const times: Record<string, number[]> = {}
for (let round = 0; round < rounds; round++) {
  for (const [name, measure] of Object.entries(contenders)) {
    const ms = await measure()
    times[name] = [...(times[name] ?? []), ms]
    console.error(`round ${round + 1}: ${name} ${ms.toFixed(1)} ms a step`)
  }
}

const ratio = (a: string, b: string) => rounded(median(times[a]!.map((ms, i) => ms / times[b]![i]!)), 3)
const result = {
  model: 'cnn',
  batchPerRank: batch,
  medianMs: Object.fromEntries(Object.entries(times).map(([name, all]) => [name, rounded(median(all))])),
  worldOfOneOverBare: ratio('worldOfOne', 'bare'),
  speedUpOfTwoRanks: rounded(2 * ratio('oneRank', 'twoRanks'), 3),
  ...(times.torchTwo && { torchSpeedUpOfTwoRanks: rounded(2 * ratio('torchOne', 'torchTwo'), 3) }),
}
console.log(JSON.stringify(result, undefined, 2))
const command = `npm run -s bench:ddp -- ${process.argv.slice(2).join(' ')}`
if (values.save) saveResult('ddp', { ...circumstances(command), ...result })

/** Forward, backward and Adam with nothing around them: what a user without Lockstep's runtime would write. */
async function bareStep(): Promise<() => Promise<void>> {
  const model = cnn({ seed: 1 })
  const variables = model.trainableWeights.map((weight) => weight.read() as tf.Variable)
  const sizes = variables.map(({ size }) => Math.ceil(size / 16) * 16)
  const total = sizes.reduce((a, b) => a + b)
  const arena = new Arena(Arena.bytesFor([total, total, total, total]))
  const [params, grads, m, v] = [
    arena.alloc(total),
    arena.alloc(total),
    arena.alloc(total),
    arena.alloc(total),
  ]
  const views = (buffer: Float32Array) => {
    let offset = 0
    return variables.map(({ size }, i) => {
      offset += sizes[i]!
      return buffer.subarray(offset - sizes[i]!, offset - sizes[i]! + size)
    })
  }
  views(params).forEach((view, i) => {
    view.set(variables[i]!.dataSync() as Float32Array)
  })
  const program = await Program.compile(
    {
      trainable: variables,
      frozen: [],
      layers: [model],
      inputs: [
        { shape: x.shape, dtype: 'float32' },
        { shape: y.shape, dtype: 'int32' },
      ],
      body: ([images, labels]) => {
        const oneHot = tf.oneHot(labels as tf.Tensor1D, 10)
        return [tf.losses.softmaxCrossEntropy(oneHot, model.apply(images!, { training: true }) as tf.Tensor)]
      },
      params: views(params),
      gradients: views(grads),
    },
    { threads: 1 },
  )
  let end = 0
  const tensors = variables.map(({ name, shape, size }, i) => {
    end += sizes[i]!
    return { name, shape, start: end - sizes[i]!, end: end - sizes[i]! + size }
  })
  const optimizer = adam(1e-3)
  let step = 0
  return async () => {
    await program.run([x.data, y.data], [])
    optimizer.update({ params, grads, slots: [m, v], tensors, step: ++step, gradScale: 1 })
  }
}

async function medianOf(step: () => Promise<unknown>): Promise<number> {
  for (let i = 0; i < 3; i++) await step()
  const measured: number[] = []
  for (let i = 0; i < steps; i++) {
    const start = performance.now()
    await step()
    measured.push(performance.now() - start)
  }
  return median(measured)
}

function launched(nproc: number): number {
  const path = (name: string) => fileURLToPath(new URL(name, import.meta.url))
  const args = ['--import', 'tsx', path('../launcher/main.ts'), '--nproc', String(nproc), '--threads', '1']
  const script = [path('ddp-rank.ts'), String(batch), String(steps)]
  const printed = execFileSync(process.execPath, [...args, ...script], { encoding: 'utf8' })
  return (JSON.parse(printed.slice(printed.indexOf('{'))) as { medianMs: number }).medianMs
}

function peerContenders(directory: string): Record<string, () => Promise<number>> {
  const python = pythons().find((candidate) => torchVersion(candidate) !== undefined)
  if (python === undefined) return {}
  const script = join(directory, 'ddp_scaling.py')
  const run = (nproc: number) => async () => {
    const args = [
      '-m',
      'torch.distributed.run',
      '--standalone',
      '--nproc-per-node',
      String(nproc),
      script,
      String(steps),
    ]
    const env = { ...process.env, OMP_NUM_THREADS: '1', OPENBLAS_NUM_THREADS: '1' }
    return Number(/step ([\d.]+) ms/.exec(execFileSync(python, args, { encoding: 'utf8', env }))![1])
  }
  return { torchOne: run(1), torchTwo: run(2) }
}
