/**
 * Layer normalization over the last dimension (Ba, Kiros & Hinton 2016), forward and backward: kernels of our own.
 */
import { type KernelNode, sizeOf, type Value } from '../graph.js'
import { FLOAT, type Op } from './op.js'

export interface LayerNormAttrs {
  readonly epsilon: number
}

const perRow = (x: Value) => ({ shape: [...x.shape.slice(0, -1), 1], dtype: 'float32' as const })
const perColumn = (x: Value) => ({ shape: [x.shape.at(-1)!], dtype: 'float32' as const })

/** (x, gamma, beta) → y, mean, 1/sqrt(variance + epsilon). */
const forward: Op = {
  inputs: ['x', 'gamma', 'beta'],
  list: true,
  dtypes: FLOAT,
  infer: ([x]) => [x!, perRow(x!), perRow(x!)],
  lower: (b, node) => {
    const { epsilon } = node.attrs as LayerNormAttrs
    const inputs = (node.inputs as Value[]).map((value) => b.plain(value))
    const names = b.addMany('LayerNormalization', inputs, 3, { axis: -1, epsilon: { float: epsilon } })
    node.outputs.forEach((output, i) => {
      b.define(output, names[i]!)
    })
  },
}

/**
 * (dy, x, gamma, mean, scale) → dx, dgamma, dbeta. With h = (x - mean) scale and g = gamma dy, means taken along a row:
 * dx = scale (g - mean(g) - h mean(g h)), dgamma = Σ dy h, dbeta = Σ dy.
 */
const gradient: Op = {
  inputs: ['dy', 'x', 'gamma', 'mean', 'scale'],
  list: true,
  dtypes: FLOAT,
  infer: ([, x]) => [x!, perColumn(x!), perColumn(x!)],
  lower: (b, node: KernelNode) => {
    const [dy, x, gamma, mean, scale] = (node.inputs as Value[]).map((value) => b.plain(value)) as [
      string,
      string,
      string,
      string,
      string,
    ]
    const shape = node.inputs[1]!.shape
    const [rows, width] = [sizeOf(shape) / shape.at(-1)!, shape.at(-1)!]
    const alongRow = (name: string) => b.add('ReduceMean', [name, b.ints([-1])], { keepdims: 1 })
    const overRows = (name: string) => b.sumRows(name, rows, [width])
    const normalized = b.add('Mul', [b.add('Sub', [x, mean]), scale])
    const weighted = b.add('Mul', [dy, gamma])
    const correction = b.add('Mul', [normalized, alongRow(b.add('Mul', [weighted, normalized]))])
    const residual = b.add('Sub', [b.add('Sub', [weighted, alongRow(weighted)]), correction])
    const [dx, dgamma, dbeta] = node.outputs as [Value, Value, Value]
    b.define(dx, b.add('Mul', [residual, scale]))
    b.define(dgamma, overRows(b.add('Mul', [dy, normalized])))
    b.define(dbeta, overRows(dy))
  },
}

export const ownLayerNormOps = {
  LockstepLayerNorm: forward,
  LockstepLayerNormGrad: gradient,
} satisfies Record<string, Op>
