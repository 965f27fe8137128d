/** 2-D max and average pooling and their gradients. */
import * as tf from '@tensorflow/tfjs-core'
import type { Builder } from '../builder.js'
import { type KernelNode, sizeOf, type Value } from '../graph.js'
import { FLOAT, type Op } from './op.js'
import { gradientMisfit, type Image, type Info, misfit, unreached, windowOf } from './window.js'

function poolInfo(inputShape: readonly number[], attrs: unknown): Info {
  const { filterSize, strides, pad, dimRoundingMode } = attrs as tf.MaxPoolAttrs
  return tf.backend_util.computePool2DInfo(
    inputShape as Image,
    filterSize,
    strides,
    1,
    pad as 'valid',
    dimRoundingMode,
  )
}

function window(info: Info) {
  const { kernel_shape, strides, pads } = windowOf(info)
  return { kernel_shape, strides, pads }
}

/** Pooled values and, per value, the flat position of the maximum. Made once for the forward and backward pass. */
function maxPool(b: Builder, x: Value, attrs: unknown, output: 'values' | 'indices'): string {
  const info = poolInfo(x.shape, attrs)
  const key = `MaxPool ${x.id} ${JSON.stringify(window(info))}`
  const values = b.once(key, () => b.add('MaxPool', [b.nchw(x)], window(info)))
  if (output === 'values') return values
  return b.once(`${key} indices`, () => {
    const indices = `${values}_indices`
    const at = b.nodes.findIndex((node) => node.outputs[0] === values)
    b.nodes[at] = { ...b.nodes[at]!, outputs: [values, indices] }
    return indices
  })
}

/** Adds each output's gradient to the input position that was its maximum. */
function maxPoolGrad(b: Builder, node: KernelNode): string {
  const [dy, input] = node.inputs as [Value, Value]
  const [n, h, w, c] = input.shape as Image
  const indices = b.reshape(maxPool(b, input, node.attrs, 'indices'), [-1])
  const zeros = b.add('ConstantOfShape', [b.ints([n * c * h * w])])
  const flat = b.add('ScatterElements', [zeros, indices, b.reshape(b.nchw(dy), [sizeOf(dy.shape)])], {
    axis: 0,
    reduction: 'add',
  })
  return b.reshape(flat, [n, c, h, w])
}

/**
 * Spreads each output's gradient evenly over its window: a transposed convolution, channel by channel, with a filter
 * of ones, after dividing by the number of real pixels in each window (padding is not counted).
 */
function avgPoolGrad(b: Builder, node: KernelNode): string {
  const [dy, input] = node.inputs as [Value, Value]
  const [n, h, w, c] = input.shape as Image
  const info = poolInfo(input.shape, node.attrs)
  const { kernel_shape, strides, pads } = window(info)
  const counts = b.constant('float32', [1, 1, info.outHeight, info.outWidth], windowCounts(info))
  const [, outHeight, outWidth] = dy.shape as Image
  const shares = b.reshape(b.add('Div', [b.nchw(dy), counts]), [n * c, 1, outHeight, outWidth])
  const ones = b.constant('float32', [1, 1, ...kernel_shape], new Float32Array(sizeOf(kernel_shape)).fill(1))
  const output_padding = unreached(info)
  const spread = b.add('ConvTranspose', [shares, ones], { kernel_shape, strides, pads, output_padding })
  return b.reshape(spread, [n, c, h, w])
}

/** How many pixels of the image each pooling window covers, [outHeight, outWidth]. */
function windowCounts(info: Info): Float32Array {
  const along = (out: number, stride: number, size: number, before: number, length: number) =>
    Array.from({ length: out }, (_, i) => {
      const start = i * stride - before
      return Math.min(start + size, length) - Math.max(start, 0)
    })
  const rows = along(info.outHeight, info.strideHeight, info.filterHeight, info.padInfo.top, info.inHeight)
  const columns = along(info.outWidth, info.strideWidth, info.filterWidth, info.padInfo.left, info.inWidth)
  return Float32Array.from(rows.flatMap((r) => columns.map((column) => r * column)))
}

const inferPool: Op['infer'] = ([x], attrs) => [
  { shape: poolInfo(x!.shape, attrs).outShape, dtype: 'float32' },
]
const refuse: Op['refuse'] = ([x], attrs) => {
  const info = poolInfo(x!.shape, attrs)
  const { kernel_shape, pads } = windowOf(info)
  // Such a window may lie outside the image as a whole: a maximum or mean of nothing.
  if (pads.some((pad, i) => pad >= kernel_shape[i % 2]!)) {
    return `was given a window of ${kernel_shape.join('×')} and paddings as large: use a smaller padding`
  }
  return misfit(info)
}

const inferGrad: Op['infer'] = ([, input]) => [{ shape: input!.shape, dtype: 'float32' }]
const refuseGrad: Op['refuse'] = ([dy, input], attrs) =>
  gradientMisfit(poolInfo(input!.shape, attrs), dy!.shape)

export const poolingOps = {
  MaxPool: {
    inputs: ['x'],
    dtypes: FLOAT,
    refuse,
    infer: inferPool,
    lower: (b, node) => b.define(node.outputs[0]!, maxPool(b, node.inputs[0]!, node.attrs, 'values'), 'nchw'),
  },
  MaxPoolGrad: {
    inputs: ['dy', 'input'],
    dtypes: FLOAT,
    refuse: refuseGrad,
    infer: inferGrad,
    lower: (b, node) => b.define(node.outputs[0]!, maxPoolGrad(b, node), 'nchw'),
  },
  AvgPool: {
    inputs: ['x'],
    dtypes: FLOAT,
    refuse,
    infer: inferPool,
    lower: (b, node) => {
      const [x] = node.inputs as [Value]
      const pooled = b.add('AveragePool', [b.nchw(x)], {
        ...window(poolInfo(x.shape, node.attrs)),
        count_include_pad: 0,
      })
      b.define(node.outputs[0]!, pooled, 'nchw')
    },
  },
  AvgPoolGrad: {
    inputs: ['dy', 'input'],
    dtypes: FLOAT,
    refuse: refuseGrad,
    infer: inferGrad,
    lower: (b, node) => b.define(node.outputs[0]!, avgPoolGrad(b, node), 'nchw'),
  },
} satisfies Record<string, Op>
