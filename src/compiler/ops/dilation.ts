/**
 * Morphological dilation (tf.dilation2d): at each position the largest of what a window's taps see, each with a number of
 * its own added. As a max-pooling whose taps are shifted, it shares that one's gradient by taps.
 */
import * as tf from '@tensorflow/tfjs-core'
import type { Builder } from '../builder.js'
import { type KernelNode, sizeOf, type Value } from '../graph.js'
import { FLOAT, type Op } from './op.js'
import { sharesOfTaps, spreadShares, tapValues } from './tap-pooling.js'
import { gradientMisfit, misfit, type Sliding, slidingOf } from './window.js'

type Shape4 = [number, number, number, number]

function sliding([x, filter]: readonly Value[], attrs: unknown): Sliding {
  const { strides, pad, dilations } = attrs as tf.Dilation2DAttrs
  const [image, window] = [x!.shape as Shape4, filter!.shape as [number, number, number]]
  return slidingOf(tf.backend_util.computeDilation2DInfo(image, window, strides, pad, 'NHWC', dilations))
}

/** What each tap brings to the maximum, in NCHW. */
function shifted(b: Builder, x: Value, filter: Value, geometry: Sliding): string[] {
  const channels = filter.shape[2]!
  const shifts = b.reshape(b.plain(filter), [sizeOf(filter.shape) / channels, channels, 1, 1])
  return tapValues(b, x, geometry).map((tap, k) => {
    const shift = b.add('Slice', [shifts, b.ints([k]), b.ints([k + 1]), b.ints([0])])
    return b.add('Add', [tap, shift])
  })
}

/** Of every tap's gradient: `[batch * channels, taps, ...positions]`. */
function shares(b: Builder, { inputs, attrs }: KernelNode): string {
  const [x, filter, dy] = inputs as [Value, Value, Value]
  const geometry = sliding([x, filter], attrs)
  const values = shifted(b, x, filter, geometry)
  return sharesOfTaps(b, values, b.add('Max', values), b.nchw(dy), x, geometry)
}

const refuse: Op['refuse'] = (inputs, attrs) => gradientMisfit(sliding(inputs, attrs), inputs[2]!.shape)

export const dilationOps = {
  Dilation2D: {
    inputs: ['x', 'filter'],
    dtypes: FLOAT,
    refuse: (inputs, attrs) => misfit(sliding(inputs, attrs)),
    infer: (inputs, attrs) => [{ shape: sliding(inputs, attrs).outShape, dtype: 'float32' }],
    lower: (b, { inputs, attrs, outputs }) => {
      const [x, filter] = inputs as [Value, Value]
      b.define(outputs[0]!, b.add('Max', shifted(b, x, filter, sliding([x, filter], attrs))), 'nchw')
    },
  },
  Dilation2DBackpropInput: {
    inputs: ['x', 'filter', 'dy'],
    dtypes: FLOAT,
    refuse,
    infer: ([x]) => [x!],
    lower: (b, node) => {
      const [x, filter] = node.inputs as [Value, Value]
      const gradient = spreadShares(b, shares(b, node), x, sliding([x, filter], node.attrs))
      b.define(node.outputs[0]!, gradient, 'nchw')
    },
  },
  Dilation2DBackpropFilter: {
    inputs: ['x', 'filter', 'dy'],
    dtypes: FLOAT,
    refuse,
    infer: ([, filter]) => [filter!],
    lower: (b, node) => {
      const [x, filter] = node.inputs as [Value, Value]
      const { positions } = sliding([x, filter], node.attrs)
      const [batch, channels] = [x.shape[0]!, filter.shape[2]!]
      const taps = sizeOf(filter.shape) / channels
      const all = { shape: [batch, channels, taps, ...positions], dtype: 'float32' } as const
      const sums = b.reduce('ReduceSum', b.reshape(shares(b, node), all.shape), all, [0, 3, 4])
      b.define(node.outputs[0]!, b.reshape(b.transpose(sums, [1, 0]), filter.shape))
    },
  },
} satisfies Record<string, Op>
