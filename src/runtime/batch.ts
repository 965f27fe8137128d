/** The door through which batches enter: arrays or tensors in, checked numbers of a known shape and dtype out. */
import * as tf from '@tensorflow/tfjs-core'
import type { Spec } from '../compiler/graph.js'
import type { NdArray } from '../data/dataset.js'
import { LockstepError } from '../errors.js'

/** What `step`, `evaluate` and `predict` take: numbers with a shape, or a TensorFlow.js tensor (which is only read). */
export type BatchInput = NdArray | tf.Tensor

/** For a model of several inputs or outputs: one for each, in the model's order. */
export type BatchInputs = BatchInput | readonly BatchInput[]

export interface Input {
  /** x, y, or x[0], x[1], … of several: what an error calls it. */
  readonly name: string
  readonly spec: Spec
  readonly data: Float32Array | Int32Array
}

/** Bytes are pixels in a model's input, class numbers in its labels. */
const bytesBecome = { x: 'float32', y: 'int32' } as const

/** What a model says of the batches that it takes. */
export interface BatchShape {
  /** Of each input, null where any size will do; undefined where the model does not say. */
  readonly inputShapes: readonly (readonly (number | null)[] | undefined)[]
  /** Of each output, the classes that labels may name; undefined when its loss takes no class numbers. */
  readonly classes: readonly (number | undefined)[]
}

/** @throws LockstepError when samples and labels are not as many, or not what `model` takes. */
export function readBatch(
  model: BatchShape,
  x: BatchInputs,
  y: BatchInputs,
): [features: Input[], labels: Input[]] {
  const { classes } = model
  const [features, labels] = [readFeatures(model, x), readInputs('y', y, classes.length)]
  const samples = features[0]!.spec.shape[0]!
  const other = [...features, ...labels].find(({ spec }) => spec.shape[0] !== samples)
  if (other !== undefined || samples === 0) {
    const [count, kind] = [other?.spec.shape[0] ?? 0, other?.name.startsWith('x') ? 'of another x' : 'labels']
    throw new LockstepError(
      `the batch has ${samples} samples and ${count} ${kind}: expected as many of each, at least one`,
    )
  }
  labels.forEach((each, i) => {
    if (classes[i] !== undefined) checkLabels(each, classes[i])
  })
  return [features, labels]
}

/** @throws LockstepError when `x` is not what `model` takes. */
export function readFeatures({ inputShapes }: BatchShape, x: BatchInputs): Input[] {
  const features = readInputs('x', x, inputShapes.length)
  features.forEach((each, i) => {
    if (inputShapes[i] !== undefined) checkShape(each, inputShapes[i])
  })
  return features
}

/** @throws LockstepError when there are not `count`, and naming the one whose data does not fill its shape. */
export function readInputs(what: 'x' | 'y', given: BatchInputs, count: number): Input[] {
  const list = Array.isArray(given) ? (given as readonly BatchInput[]) : [given as BatchInput]
  if (list.length === count)
    return list.map((each, i) => readInput(what, count === 1 ? what : `${what}[${i}]`, each))
  const wanted = count === 1 ? 'one' : `an array of ${count}, in the order of the model's`
  throw new LockstepError(
    `the batch has ${list.length} ${what} for ${count} of the model's ${what === 'x' ? 'inputs' : 'outputs'}: expected ${wanted}`,
  )
}

function readInput(what: 'x' | 'y', name: string, given: BatchInput): Input {
  const array = given instanceof tf.Tensor ? { data: given.dataSync(), shape: given.shape } : given
  const { data, shape } = Object(array) as { data: unknown; shape: readonly number[] | undefined }
  const floats = data instanceof Float32Array
  if (!shape || (!floats && !(data instanceof Int32Array) && !(data instanceof Uint8Array))) {
    const given =
      array === undefined ? 'is missing' : `holds ${describe(data)}${shape ? '' : ' without a shape'}`
    throw new LockstepError(
      `${name} ${given}: expected { data, shape } with a Float32Array, Int32Array or Uint8Array, ` +
        'or a tensor',
    )
  }
  const size = shape.reduce((a, b) => a * b, 1)
  if (shape.length === 0 || size !== data.length) {
    throw new LockstepError(
      `${name} has ${data.length} numbers for shape [${shape}]: expected ${size} and a batch dimension`,
    )
  }
  if (!(data instanceof Uint8Array))
    return { name, data, spec: { shape, dtype: floats ? 'float32' : 'int32' } }
  const dtype = bytesBecome[what]
  return {
    name,
    data: dtype === 'float32' ? Float32Array.from(data) : Int32Array.from(data),
    spec: { shape, dtype },
  }
}

function describe(data: unknown): string {
  return data === null || typeof data !== 'object' ? typeof data : (data.constructor?.name ?? 'an object')
}

/** @throws LockstepError when `x` has not the shape of the model's input; null in `expected` stands for any size. */
export function checkShape(x: Input, expected: readonly (number | null)[]): void {
  const { shape } = x.spec
  if (shape.length === expected.length && expected.every((n, i) => n === null || n === shape[i])) return
  const wanted = expected.map((n, i) => n ?? (i === 0 ? 'batch' : 'any'))
  throw new LockstepError(
    `${x.name} has shape [${shape.join(', ')}]: the model's input is [${wanted.join(', ')}]`,
  )
}

/** @throws LockstepError naming the first label outside 0 … classes - 1 and its place in the batch. */
export function checkLabels(labels: Input, classes: number): void {
  if (labels.spec.dtype !== 'int32') return
  const at = labels.data.findIndex((label) => label < 0 || label >= classes)
  if (at === -1) return
  throw new LockstepError(
    `label ${labels.data[at]} of sample ${at} in the batch is out of range: the model has ${classes} classes, ` +
      `so labels go from 0 to ${classes - 1}`,
  )
}
