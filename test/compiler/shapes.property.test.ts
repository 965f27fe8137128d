/** Convolution, pooling and matrix products at shapes that nobody would write down, against the cpu backend. */
import * as tf from '@tensorflow/tfjs-core'
import fc from 'fast-check'
import { test } from 'vitest'
import { compare, floats } from './harness.js'
import { avgPoolOracle } from './image.cases.js'
import { avgPool3dOracle, dilatedFilter, maxPool3dOracle } from './window.cases.js'

const int = (min: number, max: number) => fc.integer({ min, max })
const pair = (min: number, max: number) => fc.tuple(int(min, max), int(min, max))
const padding = fc.constantFrom('valid' as const, 'same' as const)

/** An image, the window over it and its strides; with padding 'valid' the window fits. */
const sliding = fc
  .record({
    batch: int(1, 3),
    spare: pair(0, 6),
    channels: fc.oneof(int(1, 4), fc.constant(17)),
    window: pair(1, 4),
    strides: pair(1, 3),
    pad: padding,
  })
  .map(({ batch, spare, channels, window: [height, width], ...rest }) => {
    const [h, w] = rest.pad === 'valid' ? [height + spare[0], width + spare[1]] : [1 + spare[0], 1 + spare[1]]
    const image = [batch, h, w, channels]
    return { image, channels, window: [height, width] as [number, number], ...rest }
  })

const runs = { numRuns: 40 }

test('conv2d', () =>
  fc.assert(
    fc.asyncProperty(sliding, int(1, 4), async ({ image, channels, window, strides, pad }, filters) => {
      const filter = floats([...window, channels, filters])
      await compare([floats(image), filter], (x, w) => tf.conv2d(x, w, strides, pad))
    }),
    runs,
  ))

test('two convolutions with bias and ReLU between', () =>
  fc.assert(
    fc.asyncProperty(sliding, int(1, 3), async ({ image, channels, window, strides, pad }, filters) => {
      const args = [
        floats(image),
        floats([...window, channels, filters]),
        floats([filters]),
        floats([2, 1, filters, 2]),
      ]
      await compare(args, (x, v, b, w) =>
        tf.conv2d(tf.relu(tf.add(tf.conv2d(x, v, strides, pad), b)) as tf.Tensor4D, w, [1, 2], 'same'),
      )
    }),
    { numRuns: 20 },
  ))

test('dilated conv2d', () =>
  fc.assert(
    fc.asyncProperty(sliding, pair(1, 3), async ({ image, channels, window, pad }, dilations) => {
      const [n, h, w, c] = image as [number, number, number, number]
      const larger = [n, h + 6, w + 6, c]
      await compare(
        [floats(larger), floats([...window, channels, 2])],
        (x, w) => tf.conv2d(x, w, 1, pad, 'NHWC', dilations),
        { oracle: (x, w) => tf.conv2d(x, dilatedFilter(w, dilations) as tf.Tensor4D, 1, pad) },
      )
    }),
    { numRuns: 20 },
  ))

test('depthwiseConv2d', () =>
  fc.assert(
    fc.asyncProperty(sliding, int(1, 3), async ({ image, channels, window, strides, pad }, multiplier) => {
      const filter = floats([...window, channels, multiplier])
      await compare([floats(image), filter], (x, w) => tf.depthwiseConv2d(x, w, strides, pad))
    }),
    runs,
  ))

/** A volume, the window over it and its strides. */
const slidingVolume = fc
  .record({
    batch: int(1, 2),
    spare: fc.tuple(int(0, 3), int(0, 3), int(0, 3)),
    channels: int(1, 3),
    window: fc.tuple(int(1, 3), int(1, 3), int(1, 3)),
    strides: fc.tuple(int(1, 2), int(1, 2), int(1, 2)),
    pad: padding,
  })
  .map(({ batch, spare, channels, window, pad, ...rest }) => {
    const pixels = spare.map((n, i) => (pad === 'valid' ? window[i]! + n : 1 + n))
    return { volume: [batch, ...pixels, channels], channels, window, pad, ...rest }
  })
  // Refused: TensorFlow.js then skips the first pixels.
  .filter(({ window, strides, pad }) => pad === 'valid' || strides.every((n, i) => n <= window[i]!))

test('conv3d', () =>
  fc.assert(
    fc.asyncProperty(
      slidingVolume,
      int(1, 3),
      async ({ volume, channels, window, strides, pad }, filters) => {
        await compare([floats(volume), floats([...window, channels, filters])], (x, w) =>
          tf.conv3d(x as unknown as tf.Tensor5D, w as unknown as tf.Tensor5D, strides, pad),
        )
      },
    ),
    runs,
  ))

test('pooling of volumes', () =>
  fc.assert(
    fc.asyncProperty(slidingVolume, async ({ volume, window, strides, pad }) => {
      const as5 = (x: tf.Tensor) => x as tf.Tensor5D
      await compare([floats(volume)], (x) => tf.maxPool3d(as5(x), window, strides, pad), {
        oracle: (x) => maxPool3dOracle(as5(x), window, strides, pad),
      })
      await compare([floats(volume)], (x) => tf.avgPool3d(as5(x), window, strides, pad), {
        oracle: (x) => avgPool3dOracle(as5(x), window, strides, pad),
      })
    }),
    runs,
  ))

test('conv2dTranspose', () =>
  fc.assert(
    fc.asyncProperty(sliding, int(1, 3), async ({ image, channels, window, strides, pad }, filters) => {
      const large = image as [number, number, number, number]
      const { outHeight, outWidth } = tf.backend_util.computeConv2DInfo(
        large,
        [...window, channels, filters],
        strides,
        1,
        pad,
      )
      const args = [floats([large[0], outHeight, outWidth, filters]), floats([...window, channels, filters])]
      await compare(args, (x, w) => tf.conv2dTranspose(x, w, large, strides, pad))
    }),
    { numRuns: 20 },
  ))

test('maxPool', () =>
  fc.assert(
    fc.asyncProperty(sliding, fc.boolean(), async ({ image, window, strides, pad }, ties) => {
      const x = floats(image, 0, 4)
      const data = ties ? x.data.map(Math.floor) : x.data
      await compare([{ ...x, data }], (x) => tf.maxPool(x, window, strides, pad))
    }),
    runs,
  ))

test('avgPool', () =>
  fc.assert(
    fc.asyncProperty(sliding, async ({ image, window, strides, pad }) => {
      await compare([floats(image)], (x) => tf.avgPool(x, window, strides, pad), {
        oracle: (x) => avgPoolOracle(x, window, strides, pad),
      })
    }),
    runs,
  ))

test('matMul', () =>
  fc.assert(
    fc.asyncProperty(
      fc.array(int(1, 3), { maxLength: 2 }),
      fc.tuple(int(1, 6), int(1, 6), int(1, 6)),
      fc.boolean(),
      fc.boolean(),
      async (batch, [rows, inner, columns], transposeA, transposeB) => {
        const a = [...batch, ...(transposeA ? [inner, rows] : [rows, inner])]
        const b = [...batch, ...(transposeB ? [columns, inner] : [inner, columns])]
        await compare([floats(a), floats(b)], (x, y) => tf.matMul(x, y, transposeA, transposeB))
      },
    ),
    runs,
  ))

/** A shape, and the same with some dimensions made 1 and some leading ones left out. */
const broadcastable = fc
  .array(int(1, 4), { maxLength: 4 })
  .chain((shape) =>
    fc.tuple(
      fc.constant(shape),
      fc.array(fc.boolean(), { minLength: shape.length, maxLength: shape.length }),
      int(0, shape.length),
    ),
  )
  .map(([shape, ones, drop]) => [shape, shape.map((n, i) => (ones[i] ? 1 : n)).slice(drop)] as const)

test('broadcast arithmetic', () =>
  fc.assert(
    fc.asyncProperty(broadcastable, fc.boolean(), async ([large, small], swap) => {
      const args = [floats(large, 0.5, 2), floats(small, 0.5, 2)]
      await compare(swap ? args.reverse() : args, (a, b) => tf.div(tf.mul(tf.add(a, b), b), a))
    }),
    runs,
  ))

test('reductions', () =>
  fc.assert(
    fc.asyncProperty(
      fc.array(int(1, 4), { maxLength: 4 }),
      int(0, 15),
      fc.boolean(),
      async (shape, bits, keepDims) => {
        const axes = shape.map((_, i) => i).filter((i) => bits & (1 << i))
        await compare([floats(shape)], (x) => [
          tf.sum(x, axes, keepDims),
          tf.max(x, axes, keepDims),
          tf.mean(x, axes),
        ])
      },
    ),
    runs,
  ))
