/** The reference models, and batches of made-up data for them. */
import type { LayersModel } from '@tensorflow/tfjs-layers'
import { LockstepError } from '../errors.js'
import { cnn } from '../models/cnn.js'
import { gpt } from '../models/gpt.js'
import { mlp } from '../models/mlp.js'
import { residualBlocks, resnet18 } from '../models/resnet.js'
import type { BatchInputs } from '../runtime/batch.js'

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

/** @throws LockstepError naming the models when `name` is none of them. */
export function referenceModel(name: string): LayersModel {
  return referenceOf(name).make({ seed: 1 })
}

/** `batch` samples for it. */
export function madeUpBatch(
  name: string,
  batch: number,
): { readonly x: BatchInputs; readonly y: BatchInputs } {
  const { input, label, classes, whole } = referenceOf(name)
  const [shape, labels] = [input, label].map((sample) => [batch, ...sample]) as [number[], number[]]
  const sizeOf = (shape: readonly number[]) => shape.reduce((a, b) => a * b)
  const below = (_: unknown, i: number) => (i * 7) % classes
  const data = whole
    ? Int32Array.from({ length: sizeOf(shape) }, below)
    : Float32Array.from({ length: sizeOf(shape) }, () => Math.random())
  return {
    x: { data, shape },
    y: { data: Int32Array.from({ length: sizeOf(labels) }, below), shape: labels },
  }
}

function referenceOf(name: string): Reference {
  const model = MODELS[name]
  if (model !== undefined) return model
  throw new LockstepError(`no model ${name}: expected one of ${Object.keys(MODELS).join(', ')}`)
}
