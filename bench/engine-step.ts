/**
 * One row of engines.ts, in a process of its own: `engine-step.ts MODEL BACKEND PROJECT` prints the milliseconds of
 * training steps (forward, backward, SGD) as a JSON array: of processor time, all threads together, which a busy machine
 * stretches less than the clock. BACKEND onnx is Lockstep; others are plain TensorFlow.js.
 */
import { createRequire } from 'node:module'
import { resolve } from 'node:path'
import * as tf from '@tensorflow/tfjs-core'
import type { LayersModel } from '@tensorflow/tfjs-layers'
import { sizeOf } from '../src/compiler/graph.js'
import { cnn } from '../src/models/cnn.js'
import { gpt } from '../src/models/gpt.js'
import { mlp } from '../src/models/mlp.js'
import { residualBlocks } from '../src/models/resnet.js'
import { sgd } from '../src/runtime/optimizers/index.js'
import { init } from '../src/runtime/world.js'

/** The reference shapes of bench:step. Labels are one-hot. */
const models: Record<string, { make: () => LayersModel; x: number[]; y: number[] }> = {
  mlp: { make: mlp, x: [128, 28, 28, 1], y: [128, 10] },
  cnn: { make: cnn, x: [32, 28, 28, 1], y: [32, 10] },
  resnet: { make: residualBlocks, x: [32, 32, 32, 16], y: [32, 10] },
  gpt: { make: gpt, x: [16, 64], y: [16, 64, 256] },
}
const RATE = 0.01
/** A slow backend is given fewer steps. */
const STEPS = 20
const PATIENCE_MS = 20_000

const [model = '', backend = '', project = '.'] = process.argv.slice(2)
const { make, x, y } = models[model]!
const features =
  model === 'gpt'
    ? Int32Array.from({ length: sizeOf(x) }, (_, i) => (i * 7919) % 256)
    : Float32Array.from({ length: sizeOf(x) }, (_, i) => ((i * 7919) % 1000) / 1000 - 0.5)
const labels = new Float32Array(sizeOf(y))
const classes = y.at(-1)!
for (let row = 0; row < labels.length / classes; row++) labels[row * classes + (row % classes)] = 1

const step = backend === 'onnx' ? await compiled() : await eager()
const started = performance.now()
const first = await timed()
const times: number[] = []
const isOver = () => times.length === STEPS || performance.now() - started > PATIENCE_MS
while (!isOver()) times.push(await timed())
// A first step that slow was no warm-up, but all there is.
if (times.length === 0) times.push(first)
console.log(JSON.stringify(times))
process.exit()

async function timed(): Promise<number> {
  const start = process.cpuUsage()
  await step()
  const { user, system } = process.cpuUsage(start)
  return (user + system) / 1000
}

async function compiled(): Promise<() => Promise<unknown>> {
  const world = await init()
  const ddp = await world.ddp(make(), { loss: 'softmaxCrossEntropy', optimizer: sgd(RATE), engine: 'onnx' })
  return () => ddp.step({ data: features, shape: x }, { data: labels, shape: y })
}

/** As its users write it; the loss is read at every step, as Lockstep does. */
async function eager(): Promise<() => Promise<unknown>> {
  const require = createRequire(resolve(project, 'package.json'))
  if (backend === 'tensorflow') require('@tensorflow/tfjs-node')
  if (backend === 'wasm') require('@tensorflow/tfjs-backend-wasm').setThreadsCount(1)
  if (backend === 'cpu') await import('@tensorflow/tfjs-backend-cpu')
  if (!(await tf.setBackend(backend))) throw new Error(`TensorFlow.js backend ${backend} does not start`)
  const network = make()
  const variables = network.trainableWeights.map((weight) => weight.read() as tf.Variable)
  const [input, target] = [
    tf.tensor(features, x, model === 'gpt' ? 'int32' : 'float32'),
    tf.tensor(labels, y),
  ]
  const optimizer = tf.train.sgd(RATE)
  const loss = () =>
    tf.losses.softmaxCrossEntropy(target, network.apply(input, { training: true }) as tf.Tensor) as tf.Scalar
  return async () => {
    const cost = optimizer.minimize(loss, true, variables)!
    cost.dataSync()
    cost.dispose()
  }
}
