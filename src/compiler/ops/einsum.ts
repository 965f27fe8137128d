/** Sums of products in Einstein's notation, explicit form: 'ij,jk->ik'. */
import type * as tf from '@tensorflow/tfjs-core'
import type { Value } from '../graph.js'
import { FLOAT, type Op } from './op.js'

export interface Equation {
  /** The letters of each operand's dimensions, and of the output's. */
  readonly operands: readonly string[]
  readonly output: string
}

/** TensorFlow.js has checked the equation; it allows blanks. */
export function parseEquation(equation: string): Equation {
  const [left, right] = equation.replace(/\s/g, '').split('->') as [string, string]
  return { operands: left.split(','), output: right }
}

/** The size that each letter stands for. */
export function letterSizes(
  { operands }: Equation,
  shapes: readonly (readonly number[])[],
): Map<string, number> {
  return new Map(operands.flatMap((letters, i) => [...letters].map((letter, k) => [letter, shapes[i]![k]!])))
}

const einsum: Op = {
  inputs: 'list',
  dtypes: FLOAT,
  refuse: (inputs, attrs) => {
    const { equation } = attrs as tf.EinsumAttrs
    const wrong =
      !/^[a-z\s,]*->[a-z\s]*$/i.test(equation) || parseEquation(equation).operands.length !== inputs.length
    return wrong
      ? `was given the equation '${equation}': write it as 'ij,jk->ik', one operand a tensor`
      : undefined
  },
  infer: (inputs, attrs) => {
    const equation = parseEquation((attrs as tf.EinsumAttrs).equation)
    const sizes = letterSizes(
      equation,
      inputs.map((v) => v.shape),
    )
    return [{ shape: [...equation.output].map((letter) => sizes.get(letter)!), dtype: 'float32' }]
  },
  lower: (b, node) => {
    const { operands, output } = parseEquation((node.attrs as tf.EinsumAttrs).equation)
    const inputs = (node.inputs as Value[]).map((v) => b.plain(v))
    b.define(node.outputs[0]!, b.add('Einsum', inputs, { equation: `${operands.join(',')}->${output}` }))
  },
}

export const einsumOps = { Einsum: einsum } satisfies Record<string, Op>
