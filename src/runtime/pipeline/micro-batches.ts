/** Cuts a batch into equal micro-batches: views of its numbers, nothing is copied. */
import { LockstepError } from '../../errors.js'
import type { Input } from '../batch.js'

/** @throws LockstepError with the division, when the samples cannot be shared out evenly. */
export function microBatchesOf(inputs: readonly Input[], count: number): Input[][] {
  const samples = inputs[0]!.spec.shape[0]!
  const each = samples / count
  if (!Number.isInteger(each))
    throw new LockstepError(
      `the batch has ${samples} samples for ${count} micro-batches, ${samples} / ${count} = ${+each.toFixed(3)}: ` +
        `expected a multiple of ${count}, or another number of microBatches`,
    )
  return Array.from({ length: count }, (_, i) =>
    inputs.map(({ name, spec, data }) => {
      const length = data.length / count
      return {
        name,
        spec: { ...spec, shape: [each, ...spec.shape.slice(1)] },
        data: data.subarray(i * length, (i + 1) * length),
      }
    }),
  )
}
