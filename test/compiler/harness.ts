/**
 * Runs one TensorFlow.js function twice, compiled and eagerly on TensorFlow.js' own cpu backend, and compares all
 * outputs and gradients. The cpu backend is the oracle: it is slow and obvious, and computes with doubles.
 */
import '@tensorflow/tfjs-backend-cpu'
// Registers TensorFlow.js' gradient functions, which tfjs-core leaves out.
import '@tensorflow/tfjs-layers'
import * as tf from '@tensorflow/tfjs-core'
import { expect } from 'vitest'
import { type DType, type Numbers, sizeOf } from '../../src/compiler/graph.js'
import type { Layer } from '../../src/compiler/layers/index.js'
import { Program } from '../../src/compiler/program.js'
import { simplify } from '../../src/compiler/simplify.js'
import { type TraceRequest, trace } from '../../src/compiler/trace.js'

/** An argument of the compared function: a variable when it is differentiable, otherwise an input. */
export interface Argument {
  readonly data: Numbers
  readonly shape: readonly number[]
  readonly dtype: DType
  readonly trainable: boolean
}

// Tensor4D is assignable to what every op asks for; the shapes are those of the arguments.
export type TensorFunction = (...args: tf.Tensor4D[]) => tf.Tensor | tf.Tensor[]

/** Numbers that look random and are the same in every run: no ties, no zeros, no special values. */
function noise(count: number, low: number, high: number, seed: number): number[] {
  return Array.from({ length: count }, (_, i) => {
    const x = Math.sin((i + 1) * 12.9898 + seed * 78.233) * 43758.5453
    return low + (x - Math.floor(x)) * (high - low)
  })
}

let seed = 0

/** A float32 variable with values in [low, high). */
export function floats(shape: readonly number[], low = -1, high = 1): Argument {
  const data = Float32Array.from(noise(sizeOf(shape), low, high, ++seed))
  return { data, shape, dtype: 'float32', trainable: true }
}

/** A float32 variable with exactly these values. */
export function values(data: readonly number[], shape: readonly number[] = [data.length]): Argument {
  return { data: Float32Array.from(data), shape, dtype: 'float32', trainable: true }
}

/** An int32 input with values in [low, high). */
export function ints(shape: readonly number[], low = 0, high = 5): Argument {
  const data = Int32Array.from(noise(sizeOf(shape), low, high, ++seed).map(Math.floor))
  return { data, shape, dtype: 'int32', trainable: false }
}

export function bools(shape: readonly number[]): Argument {
  const data = Uint8Array.from(noise(sizeOf(shape), 0, 2, ++seed).map(Math.floor))
  return { data, shape, dtype: 'bool', trainable: false }
}

/** `arg` as an input instead of a variable: the function need not be differentiable in it. */
export const fixed = (arg: Argument): Argument => ({ ...arg, trainable: false })

export interface Results {
  readonly outputs: { readonly data: Numbers; readonly shape: readonly number[]; readonly dtype: string }[]
  readonly gradients: Float32Array[]
}

export interface Options {
  readonly layers?: readonly Layer[]
  readonly key?: readonly number[]
}

/** All kernels that were lowered by comparisons so far. */
export const lowered = new Set<string>()

/** Any number of outputs as one scalar in which every element has a weight of its own. */
function scalarOf(outputs: readonly tf.Tensor[]): tf.Scalar {
  const terms = outputs
    .filter(({ dtype }) => dtype === 'float32')
    .map((y, i) => {
      const weights = tf.tensor(Float32Array.from(noise(y.size, 0.5, 1.5, i)), y.shape)
      return tf.sum(tf.mul(y, weights))
    })
  return terms.reduce((a, b) => tf.add(a, b)) as tf.Scalar
}

const listed = (result: tf.Tensor | tf.Tensor[]): tf.Tensor[] => (Array.isArray(result) ? result : [result])

const arrays = { float32: Float32Array, int32: Int32Array, bool: Uint8Array } as const

/** Eagerly, on the cpu backend. */
export function runEagerly(args: readonly Argument[], f: TensorFunction): Results {
  const backend = tf.getBackend()
  void tf.setBackend('cpu')
  const tensors = args.map(tensorOf)
  tf.engine().startScope()
  try {
    let outputs: Results['outputs'] = []
    const call = () => {
      const results = listed(f(...(tensors as tf.Tensor4D[])))
      outputs = results.map((y) => {
        // A float32 tensor of the cpu backend may hold a plain array or doubles.
        const data = arrays[y.dtype as DType].from(y.dataSync())
        return { data, shape: y.shape, dtype: y.dtype }
      })
      return results
    }
    const variables = tensors.filter((t): t is tf.Variable => t instanceof tf.Variable)
    if (variables.length === 0) {
      call()
      return { outputs, gradients: [] }
    }
    const { grads } = tf.variableGrads(() => scalarOf(call()), variables)
    const gradients = variables.map((v) => {
      const gradient = grads[v.name]
      return gradient == null ? new Float32Array(v.size) : Float32Array.from(gradient.dataSync())
    })
    return { outputs, gradients }
  } finally {
    tf.engine().endScope()
    tf.dispose(tensors)
    void tf.setBackend(backend || 'cpu')
  }
}

function tensorOf({ data, shape, dtype, trainable }: Argument): tf.Tensor {
  const tensor = tf.tensor(data.slice(), [...shape], dtype)
  if (!trainable) return tensor
  const variable = tf.variable(tensor)
  tensor.dispose()
  return variable
}

/** Compiled, on onnxruntime; one thread. */
export async function runCompiled(
  args: readonly Argument[],
  f: TensorFunction,
  { layers = [], key = [1] }: Options = {},
): Promise<Results> {
  const tensors = args.map(tensorOf)
  const isTrainable = args.some(({ trainable }) => trainable)
  const given = args.filter(({ trainable }) => !trainable)
  const trained = args.filter(({ trainable }) => trainable)
  const request: TraceRequest = {
    trainable: tensors.filter((t): t is tf.Variable => t instanceof tf.Variable),
    frozen: [],
    layers,
    inputs: given.map(({ shape, dtype }) => ({ shape, dtype })),
    body: (inputs) => {
      let next = 0
      const given = tensors.map((t) => (t instanceof tf.Variable ? t : inputs[next++]!))
      const outputs = listed(f(...(given as tf.Tensor4D[])))
      return isTrainable ? [scalarOf(outputs), ...outputs] : outputs
    },
  }
  try {
    const graph = simplify(trace(request))
    for (const { kernel } of graph.nodes) lowered.add(kernel)
    const gradients = trained.map(({ data }) => new Float32Array(data.length).fill(Number.NaN))
    const params = trained.map(({ data }) => data.slice())
    const program = await Program.compile({ ...request, params, gradients }, { threads: 1 })
    await program.run(
      given.map(({ data }) => data),
      key,
    )
    await program.release()
    const specs = graph.outputs.slice(0, program.outputs.length)
    const outputs = program.outputs.map((output, i) => ({ ...output, dtype: specs[i]!.dtype }))
    return { outputs: isTrainable ? outputs.slice(1) : outputs, gradients }
  } finally {
    tf.dispose(tensors)
  }
}

/**
 * Compares compiled and eager outputs and gradients: shapes and dtypes exactly, numbers within `tolerance`.
 * `oracle` is run eagerly instead of `f`, where TensorFlow.js' cpu backend itself has it wrong.
 */
export async function compare(
  args: readonly Argument[],
  f: TensorFunction,
  options: Options & { readonly tolerance?: number; readonly oracle?: TensorFunction | undefined } = {},
): Promise<void> {
  const expected = runEagerly(args, options.oracle ?? f)
  const actual = await runCompiled(args, f, options)
  expect(actual.outputs.map(({ shape, dtype }) => ({ shape, dtype }))).toEqual(
    expected.outputs.map(({ shape, dtype }) => ({ shape, dtype })),
  )
  actual.outputs.forEach(({ data }, i) => {
    expectClose(data, expected.outputs[i]!.data, `output ${i}`, options.tolerance)
  })
  actual.gradients.forEach((data, i) => {
    expectClose(data, expected.gradients[i]!, `gradient ${i}`, options.tolerance)
  })
}

/** The largest absolute value, infinities and NaN left out. */
export const largestOf = (data: Float32Array): number =>
  data.reduce((max, x) => (Number.isFinite(x) ? Math.max(max, Math.abs(x)) : max), 0)

/** Within `tolerance` of `largest`, the largest expected number; integers, infinities and NaN exactly. */
export function expectClose(
  actual: Numbers,
  expected: Numbers,
  what: string,
  tolerance = 1e-5,
  largest = expected instanceof Float32Array ? Math.max(largestOf(expected), 1e-3) : 0,
): void {
  expect(actual.length, what).toBe(expected.length)
  if (!(expected instanceof Float32Array)) {
    expect([...actual], what).toEqual([...expected])
    return
  }
  actual.forEach((x, i) => {
    const y = expected[i]!
    const close = Number.isFinite(y) ? Math.abs(x - y) <= tolerance * largest : Object.is(x, y)
    if (!close)
      expect.fail(`${what}: element ${i} of ${actual.length} is ${x}, expected ${y} (largest ${largest})`)
  })
}
