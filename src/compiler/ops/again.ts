/**
 * A kernel of our own that gives a value back, but not before another one is there: where recomputation begins. To
 * onnxruntime it is a value of its own; otherwise it would see the same computed twice, and keep the first.
 */
import type { Op } from './op.js'

export const AGAIN = 'LockstepAgain'

const again: Op = {
  inputs: ['x', 'after'],
  infer: ([x]) => [x!],
  lower: (b, { inputs: [x, after], outputs: [output] }) => b.after(x!, after!, output!),
}

export const ownAgainOps = { [AGAIN]: again } satisfies Record<string, Op>
