/**
 * How long does one training step (forward and backward) of a reference model take, without other ranks?
 *
 *   npm run -s bench:step -- --model mlp|cnn|resnet|resnet18|gpt --threads 1 --json [--peers DIR] [--rounds N] [--save]
 *
 * With --peers, DIR/torch_step.py (for resnet18 torch_resnet18.py beside this file) runs after every round on each Python
 * given by PYTHONS (default: python3), so that both see the same machine; the ratio is to the fastest PyTorch. A Python
 * without torch is left out, visibly.
 */
import { execFileSync } from 'node:child_process'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import * as tf from '@tensorflow/tfjs-core'
import type { LayersModel } from '@tensorflow/tfjs-layers'
import { type Spec, sizeOf } from '../src/compiler/graph.js'
import { Program } from '../src/compiler/program.js'
import { cnn } from '../src/models/cnn.js'
import { gpt } from '../src/models/gpt.js'
import { mlp } from '../src/models/mlp.js'
import { residualBlocks, resnet18 } from '../src/models/resnet.js'
import { quietTensorflow } from '../src/runtime/quiet-tensorflow.js'
import { pythons, torchVersion } from './peers.js'
import { circumstances, median, rounded, saveResult } from './record.js'

/** DESIGN's reference shapes: what each model is measured with. Labels are one-hot rows, one per prediction. */
const models: Record<string, { make: () => LayersModel; input: Spec; rows: number; classes: number }> = {
  mlp: { make: mlp, input: { shape: [128, 28, 28, 1], dtype: 'float32' }, rows: 128, classes: 10 },
  cnn: { make: cnn, input: { shape: [32, 28, 28, 1], dtype: 'float32' }, rows: 32, classes: 10 },
  resnet: {
    make: residualBlocks,
    input: { shape: [32, 32, 32, 16], dtype: 'float32' },
    rows: 32,
    classes: 10,
  },
  resnet18: { make: resnet18, input: { shape: [32, 32, 32, 3], dtype: 'float32' }, rows: 32, classes: 10 },
  gpt: { make: gpt, input: { shape: [16, 64], dtype: 'int32' }, rows: 1024, classes: 256 },
}

const { values } = parseArgs({
  options: {
    model: { type: 'string', default: 'cnn' },
    threads: { type: 'string', default: '1' },
    rounds: { type: 'string', default: '1' },
    json: { type: 'boolean', default: false },
    peers: { type: 'string' },
    save: { type: 'boolean', default: false },
  },
})
const reference = models[values.model]
if (reference === undefined) {
  console.error(`--model is ${values.model}: expected ${Object.keys(models).join(', ')}`)
  process.exit(2)
}
const threads = Number(values.threads)
quietTensorflow()

const candidates =
  values.peers === undefined ? [] : pythons().filter((python) => torchVersion(python) !== undefined)
const program = await compile(reference)
const ours: number[] = []
const peers = new Map<string, number[]>()
for (let round = 0; round < Number(values.rounds); round++) {
  ours.push(...(await time(program, values.model === 'resnet18' ? 5 : 15)))
  for (const python of candidates) {
    peers.set(python, [...(peers.get(python) ?? []), torchMinimum(python, values.peers!)])
  }
}

const result = {
  model: values.model,
  engine: 'onnx',
  provider: 'cpu',
  threads,
  medianMs: rounded(median(ours)),
  minMs: rounded(Math.min(...ours)),
}
if (values.json) console.log(JSON.stringify(result))
else console.log(`${values.model}: min ${result.minMs} ms, median ${result.medianMs} ms (${threads} threads)`)

if (peers.size > 0) {
  const torch = Object.fromEntries(
    [...peers].map(([python, minima]) => [`PyTorch ${torchVersion(python)}`, rounded(Math.min(...minima))]),
  )
  const ratio = rounded(result.minMs / Math.min(...Object.values(torch)))
  console.error(`PyTorch, minimum ms: ${JSON.stringify(torch)}; ours / faster PyTorch: ${ratio}`)
  if (values.save) {
    const command = `npm run -s bench:step -- ${process.argv.slice(2).join(' ')}`
    saveResult(`step-${values.model}`, {
      ...circumstances(command),
      ...result,
      torchMinMs: torch,
      ratioOfMinima: ratio,
    })
  }
}

async function compile({ make, input, rows, classes }: (typeof models)[string]): Promise<Program> {
  const model = make()
  const trainable = model.trainableWeights.map((weight) => weight.read() as tf.Variable)
  const frozen = model.nonTrainableWeights.map((weight) => weight.read() as tf.Variable)
  return Program.compile(
    {
      trainable,
      frozen,
      layers: [model],
      inputs: [input, { shape: [rows, classes], dtype: 'float32' }],
      body: ([x, y]) => {
        const logits = tf.reshape(model.apply(x!, { training: true }) as tf.Tensor, [rows, classes])
        return [tf.losses.softmaxCrossEntropy(y!, logits)]
      },
      params: [...trainable, ...frozen].map((variable) => Float32Array.from(variable.dataSync())),
      gradients: trainable.map((variable) => new Float32Array(sizeOf(variable.shape))),
    },
    { threads },
  )
}

async function time(compiled: Program, steps: number): Promise<number[]> {
  const { input, rows, classes } = reference!
  const size = sizeOf(input.shape)
  const x =
    input.dtype === 'int32'
      ? Int32Array.from({ length: size }, (_, i) => (i * 7919) % classes)
      : Float32Array.from({ length: size }, () => Math.random() - 0.5)
  const y = new Float32Array(rows * classes)
  for (let row = 0; row < rows; row++) y[row * classes + (row % classes)] = 1
  const run = async () => {
    const start = performance.now()
    await compiled.run([x, y], [])
    return performance.now() - start
  }
  for (let i = 0; i < 3; i++) await run()
  const times: number[] = []
  for (let i = 0; i < steps; i++) times.push(await run())
  return times
}

function torchMinimum(python: string, directory: string): number {
  const here = fileURLToPath(new URL('torch_resnet18.py', import.meta.url))
  const script =
    values.model === 'resnet18' ? [here, directory] : [join(directory, 'torch_step.py'), values.model]
  // torch.set_num_threads does not reach Debian's OpenBLAS, which would use every core.
  const env = { ...process.env, OPENBLAS_NUM_THREADS: values.threads, OMP_NUM_THREADS: values.threads }
  const printed = execFileSync(python, [...script, values.threads], { encoding: 'utf8', env })
  return Number(/min ([\d.]+)/.exec(printed)![1])
}
