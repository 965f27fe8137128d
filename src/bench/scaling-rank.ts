/**
 * One rank of `ddp-launch bench scaling`: steps of a reference model on made-up data. Started like any training script, with
 * a model's name, its batch, the number of steps and a compressor; it measures nothing, since its timeline is read.
 */
import type { LayersModel } from '@tensorflow/tfjs-layers'
import { LockstepError } from '../errors.js'
import { cnn } from '../models/cnn.js'
import { gpt } from '../models/gpt.js'
import { mlp } from '../models/mlp.js'
import { residualBlocks, resnet18 } from '../models/resnet.js'
import { adam } from '../runtime/optimizers/index.js'
import { init } from '../runtime/world.js'

interface Reference {
  readonly make: (options: { readonly seed: number }) => LayersModel
  /** Of one sample. */
  readonly input: readonly number[]
  readonly label: readonly number[]
  /** Labels are below; inputs too, where they are whole numbers. */
  readonly classes: number
  readonly whole?: boolean
}

const MODELS: Readonly<Record<string, Reference>> = {
  mlp: { make: mlp, input: [28, 28, 1], label: [], classes: 10 },
  cnn: { make: cnn, input: [28, 28, 1], label: [], classes: 10 },
  resnet: { make: residualBlocks, input: [32, 32, 16], label: [], classes: 10 },
  resnet18: { make: resnet18, input: [32, 32, 3], label: [], classes: 10 },
  gpt: { make: gpt, input: [64], label: [64], classes: 256, whole: true },
}

/** The first compile, and fill caches. */
const WARM_UP = 3
/** Before, over a network, as many as it takes to find out when gradients are best exchanged. */
const TUNING = 15

const [name = '', batch, steps, compression = 'none'] = process.argv.slice(2)
const model = MODELS[name]
if (model === undefined)
  throw new LockstepError(`no model ${name}: expected one of ${Object.keys(MODELS).join(', ')}`)
const { make, input, label, classes, whole } = model

const world = await init()
const ddp = await world.ddp(make({ seed: 1 }), {
  ...{ loss: 'softmaxCrossEntropy', optimizer: adam(1e-3), compression },
})
const shapeOf = (sample: readonly number[]) => [Number(batch), ...sample]
const sizeOf = (sample: readonly number[]) => shapeOf(sample).reduce((a, b) => a * b)
const below = (_: unknown, i: number) => (i * 7 + world.rank) % classes
const x = whole
  ? { data: Int32Array.from({ length: sizeOf(input) }, below), shape: shapeOf(input) }
  : { data: Float32Array.from({ length: sizeOf(input) }, () => Math.random()), shape: shapeOf(input) }
const y = { data: Int32Array.from({ length: sizeOf(label) }, below), shape: shapeOf(label) }

const tuned = world.size > 1 && world.collectives.share === undefined && compression === 'none'
const all = WARM_UP + (tuned ? TUNING : 0) + Number(steps)
for (let step = 0; step < all; step++) await ddp.step(x, y)
await world.close()
