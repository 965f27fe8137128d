/** Max and average pooling of images and volumes, and their gradients. */
import * as tf from '@tensorflow/tfjs-core'
import { type Builder, channelsSecond } from '../builder.js'
import { type KernelNode, sizeOf, type Value } from '../graph.js'
import { cornerMax, defineTiledGrad, tiles } from './blocked-pooling.js'
import { positive } from './elementwise.js'
import { FLOAT, type Op } from './op.js'
import { gradientByTaps } from './tap-pooling.js'
import { gradientMisfit, misfit, type Sliding, slidingOf, unreached } from './window.js'

/** Of an image [batch, height, width, channels] or a volume, by the rank of `shape`. */
function pool(shape: readonly number[], attrs: unknown): Sliding {
  const { backend_util } = tf
  if (shape.length === 4) {
    const { filterSize, strides, pad, dimRoundingMode } = attrs as tf.MaxPoolAttrs
    const image = shape as [number, number, number, number]
    return slidingOf(
      backend_util.computePool2DInfo(image, filterSize, strides, 1, pad as 'valid', dimRoundingMode),
    )
  }
  const { filterSize, strides, pad, dimRoundingMode } = attrs as tf.MaxPool3DAttrs
  const volume = shape as [number, number, number, number, number]
  return slidingOf(backend_util.computePool3DInfo(volume, filterSize, strides, 1, pad, dimRoundingMode))
}

/** ONNX's attributes; pooling has no dilations here. */
function attributes({ window: { kernel_shape, strides, pads } }: Sliding) {
  return { kernel_shape, strides, pads }
}

/** Pooled values and, per value, the flat position of the maximum. Made once for the forward and backward pass. */
function maxPool(b: Builder, x: Value, sliding: Sliding, output: 'values' | 'indices'): string {
  const window = attributes(sliding)
  const key = `MaxPool ${x.id} ${JSON.stringify(window)}`
  const values = b.once(key, () => b.add('MaxPool', [b.nchw(x)], window))
  if (output === 'values') return values
  return b.once(`${key} indices`, () => {
    const indices = `${values}_indices`
    const at = b.nodes.findIndex((node) => node.outputs[0] === values)
    b.nodes[at] = { ...b.nodes[at]!, outputs: [values, indices] }
    return indices
  })
}

/** The attributes of a max-pooling's gradient, of which simplify.ts may say more than TensorFlow.js. */
export interface MaxPoolGradAttrs {
  /** Only the gradients of windows whose maximum is positive are wanted: what was pooled had gone through a ReLU. */
  readonly onlyPositive?: boolean
}

/** Adds each output's gradient to the input position that was its maximum, the first one of several. */
function maxPoolGrad(b: Builder, node: KernelNode): void {
  const [dy, input] = node.inputs as [Value, Value]
  const [output] = node.outputs as [Value]
  const sliding = pool(input.shape, node.attrs)
  const { onlyPositive } = node.attrs as MaxPoolGradAttrs
  const wanted = (gradient: string, values: string) =>
    onlyPositive ? b.add('Mul', [gradient, positive(b, values)]) : gradient
  if (tiles(b, input, sliding)) {
    defineTiledGrad(b, output, wanted(b.blockedAsFour(dy), cornerMax(b, input, sliding)), input, sliding)
    return
  }
  const maxima = maxPool(b, input, sliding, 'values')
  const gradient = wanted(b.nchw(dy), maxima)
  if (b.portable) {
    b.define(output, gradientByTaps(b, gradient, maxima, input, sliding), 'nchw')
    return
  }
  const indices = b.reshape(maxPool(b, input, sliding, 'indices'), [-1])
  const zeros = b.add('ConstantOfShape', [b.ints([sizeOf(input.shape)])])
  const flat = b.add('ScatterElements', [zeros, indices, b.reshape(gradient, [sizeOf(dy.shape)])], {
    axis: 0,
    reduction: 'add',
  })
  b.define(output, b.reshape(flat, channelsSecond(input.shape)), 'nchw')
}

/**
 * Spreads each output's gradient evenly over its window: a transposed convolution, channel by channel, with a filter
 * of ones, after dividing by the number of real pixels in each window (padding is not counted).
 */
function avgPoolGrad(b: Builder, node: KernelNode): void {
  const [dy, input] = node.inputs as [Value, Value]
  const sliding = pool(input.shape, node.attrs)
  const { positions, window } = sliding
  const counts = b.constant('float32', [1, 1, ...positions], windowCounts(sliding))
  const images = input.shape[0]! * input.shape.at(-1)!
  const shares = b.reshape(b.add('Div', [b.nchw(dy), counts]), [images, 1, ...positions])
  const size = window.kernel_shape
  const ones = b.constant('float32', [1, 1, ...size], new Float32Array(sizeOf(size)).fill(1))
  const spread = b.add('ConvTranspose', [shares, ones], {
    ...attributes(sliding),
    output_padding: unreached(sliding),
  })
  b.define(node.outputs[0]!, b.reshape(spread, channelsSecond(input.shape)), 'nchw')
}

/** How many pixels of the image each pooling window covers, in the shape of the window's positions. */
function windowCounts({ image, positions, window: { strides, kernel_shape, pads } }: Sliding): Float32Array {
  const counts = positions.reduce<number[]>(
    (product, count, axis) =>
      product.flatMap((n) =>
        Array.from({ length: count }, (_, i) => {
          const start = i * strides[axis]! - pads[axis]!
          return n * (Math.min(start + kernel_shape[axis]!, image[axis]!) - Math.max(start, 0))
        }),
      ),
    [1],
  )
  return Float32Array.from(counts)
}

function refuse(inputs: readonly Value[], attrs: unknown): string | undefined {
  const sliding = pool(inputs[0]!.shape, attrs)
  const { kernel_shape, pads } = sliding.window
  // Such a window may lie outside the image as a whole: a maximum or mean of nothing.
  if (pads.some((pad, i) => pad >= kernel_shape[i % kernel_shape.length]!)) {
    return `was given a window of ${kernel_shape.join('×')} and paddings as large: use a smaller padding`
  }
  return misfit(sliding)
}

const forward = (lower: (b: Builder, x: Value, output: Value, sliding: Sliding) => void): Op => ({
  inputs: ['x'],
  dtypes: FLOAT,
  refuse,
  infer: ([x], attrs) => [{ shape: pool(x!.shape, attrs).outShape, dtype: 'float32' }],
  lower: (b, node) => {
    const [x] = node.inputs as [Value]
    lower(b, x, node.outputs[0]!, pool(x.shape, node.attrs))
  },
})

const gradient = (lower: Op['lower']): Op => ({
  inputs: ['dy', 'input'],
  dtypes: FLOAT,
  refuse: ([dy, input], attrs) => gradientMisfit(pool(input!.shape, attrs), dy!.shape),
  infer: ([, input]) => [{ shape: input!.shape, dtype: 'float32' }],
  lower,
})

const avgPool = forward((b, x, output, sliding) => {
  const window = { ...attributes(sliding), count_include_pad: 0 }
  b.define(output, b.add('AveragePool', [b.nchw(x)], window), 'nchw')
})
const maxPooling = forward((b, x, output, sliding) => {
  if (tiles(b, x, sliding)) b.defineBlocked(output, cornerMax(b, x, sliding))
  else b.define(output, maxPool(b, x, sliding, 'values'), 'nchw')
})

export const poolingOps = {
  AvgPool: avgPool,
  AvgPool3D: avgPool,
  AvgPool3DGrad: gradient(avgPoolGrad),
  AvgPoolGrad: gradient(avgPoolGrad),
  MaxPool: maxPooling,
  MaxPool3D: maxPooling,
  MaxPool3DGrad: gradient(maxPoolGrad),
  MaxPoolGrad: gradient(maxPoolGrad),
} satisfies Record<string, Op>
