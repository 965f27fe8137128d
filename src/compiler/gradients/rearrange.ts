/** Ops that put values in another order, and sums along axes. */
import * as tf from '@tensorflow/tfjs-core'
import { letterSizes, parseEquation } from '../ops/einsum.js'
import { mirrored } from '../ops/rearrange.js'
import { type Gradient, gradient } from './gradient.js'

/** TensorFlow.js fails where there is one part only: it is then not given a list. */
const unpack: Gradient = {
  gradFunc: (dys, _, attrs) => ({
    value: () => tf.stack([dys].flat(), (attrs as unknown as tf.UnpackAttrs).axis),
  }),
}

const split: Gradient = {
  gradFunc: (dys, _, attrs) => ({
    x: () => tf.concat([dys].flat(), (attrs as unknown as tf.SplitVAttrs).axis),
  }),
}

/** TensorFlow.js transposes its result where the axis is not the last. */
const cumsum = gradient<tf.CumsumAttrs>([], (dy, _, { axis, exclusive, reverse }) => ({
  x: () => tf.cumsum(dy, axis, exclusive, !reverse),
}))

/** The product of all other factors: those before times those after. */
const prod = gradient<tf.ProdAttrs>(['x'], (dy, saved, { axis }) => {
  const [x] = saved as [tf.Tensor]
  return {
    x: () => {
      const axes = tf.util.parseAxisParam(axis, x.shape)
      const others = x.shape.map((_, i) => i).filter((i) => !axes.includes(i))
      const perm = [...others, ...axes]
      const kept = others.map((i) => x.shape[i]!)
      const factors = tf.reshape(tf.transpose(x, perm), [...kept, -1])
      const last = kept.length
      const rest = tf.mul(tf.cumprod(factors, last, true), tf.cumprod(factors, last, true, true))
      const dx = tf.mul(rest, tf.reshape(dy, [...kept, 1]))
      const moved = tf.reshape(
        dx,
        perm.map((i) => x.shape[i]!),
      )
      return tf.transpose(
        moved,
        x.shape.map((_, i) => perm.indexOf(i)),
      )
    },
  }
})

/** What was mirrored from a row is added to it; TensorFlow.js drops it. */
const mirrorPad = gradient<tf.MirrorPadAttrs>(['x'], (dy, saved, { paddings, mode }) => {
  const [x] = saved as [tf.Tensor]
  return {
    x: () =>
      x.shape.reduce((folded, size, axis) => {
        if (folded.shape[axis] === size) return folded
        const places = tf.tensor1d(mirrored(size, paddings[axis]!, mode), 'int32')
        const perm = x.shape.map((_, i) => (i === 0 ? axis : i === axis ? 0 : i))
        return tf.transpose(tf.unsortedSegmentSum(tf.transpose(folded, perm), places, size), perm)
      }, dy),
  }
})

const depthToSpace = gradient<tf.DepthToSpaceAttrs>(['x'], (dy, saved, { blockSize }) => {
  const [x] = saved as [tf.Tensor4D]
  return {
    x: () => {
      const [n, h, w, c] = x.shape
      const blocks = tf.reshape(dy, [n, h, blockSize, w, blockSize, c / blockSize ** 2])
      return tf.reshape(tf.transpose(blocks, [0, 1, 3, 2, 4, 5]), x.shape)
    },
  }
})

/**
 * The gradient of one operand is the sum over the others and dy; along letters that stand in that operand alone it is
 * the same everywhere.
 */
const einsum: Gradient = {
  saveAllInputs: true,
  gradFunc: (dy, saved, attrs) => {
    const equation = parseEquation((attrs as unknown as tf.EinsumAttrs).equation)
    const sizes = letterSizes(
      equation,
      saved.map(({ shape }) => shape),
    )
    const gradientOf = (own: string, at: number): tf.Tensor => {
      const others = equation.operands.map((letters, i) => ({ letters, tensor: saved[i]! }))
      const factors = [{ letters: equation.output, tensor: dy as tf.Tensor }, ...others.toSpliced(at, 1)]
      const shared = [...own].filter((letter) => factors.some(({ letters }) => letters.includes(letter)))
      const sum = tf.einsum(
        `${factors.map(({ letters }) => letters)}->${shared.join('')}`,
        ...factors.map(({ tensor }) => tensor),
      )
      const shape = [...own].map((letter) => sizes.get(letter)!)
      const withOnes = [...own].map((letter, i) => (shared.includes(letter) ? shape[i]! : 1))
      return tf.broadcastTo(tf.reshape(sum, withOnes), shape)
    }
    return Object.fromEntries(equation.operands.map((own, i) => [i, () => gradientOf(own, i)]))
  },
}

export const rearrangeGradients = {
  Cumsum: cumsum,
  DepthToSpace: depthToSpace,
  Einsum: einsum,
  MirrorPad: mirrorPad,
  Prod: prod,
  SplitV: split,
  Unpack: unpack,
}
