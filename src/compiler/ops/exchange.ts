/**
 * A kernel of our own at which a program stops: its value leaves, is exchanged for other numbers (a sum over ranks, say),
 * and the program goes on with those. What the exchange is, only its caller knows.
 */
import { FLOAT, type Op } from './op.js'

export const EXCHANGE = 'LockstepExchange'

export interface ExchangeAttrs {
  /** Exchanges of the same value under one name are the same exchange. */
  readonly name: string
  /** Replaces the numbers in place, every time the program is run. */
  readonly exchange: (data: Float32Array) => Promise<void>
}

const exchange: Op = {
  inputs: ['x'],
  dtypes: FLOAT,
  infer: ([x]) => [x!],
  // A buffer of its own, which the program is cut behind (../exchanges.ts).
  lower: (b, node) => {
    b.define(node.outputs[0]!, b.add('Identity', [b.plain(node.inputs[0]!)]))
  },
}

export const ownExchangeOps = { [EXCHANGE]: exchange } satisfies Record<string, Op>
