/**
 * Makes a lowered pass add to what its gradients' buffers hold, instead of replacing it: what a node has just made is
 * added while it is in the cache, and is never written by itself. It runs nothing.
 */
import type { Lowered } from './lower.js'

/** The graph's input for what the buffer of output `name` holds before the pass. */
export const heldBefore = (name: string) => `${name}_before`

/**
 * @param gradients names of outputs; each becomes the sum of itself and of the input `heldBefore(name)`, which may be bound
 *   to the same buffer: nothing else reads that one
 */
export function accumulating(lowered: Lowered, gradients: ReadonlySet<string>): Lowered {
  const { onnx, ends } = lowered
  const isSum = (name: string) => gradients.has(name)
  const before = onnx.outputs
    .filter(({ name }) => isSum(name))
    .map((output) => ({ ...output, name: heldBefore(output.name) }))
  return {
    ...lowered,
    onnx: { ...onnx, inputs: [...onnx.inputs, ...before] },
    ends: ends.map((end) => {
      const [name] = end.outputs as [string]
      return isSum(name) ? { ...end, op: 'Add', inputs: [...end.inputs, heldBefore(name)] } : end
    }),
  }
}
