/**
 * Arithmetic on the places of tensors in flat buffers: which part may be updated already, what lies in it, where weight
 * decay applies. Computes no update.
 */
import type { DecayMask, Granularity, TensorRange, UpdateArgs } from './optimizer.js'

/**
 * Up to which position an optimizer may update when the first `arrived` of `length` gradients are there.
 * @param tensors the whole model's, in ascending order
 */
export function updatable(
  granularity: Granularity,
  tensors: readonly TensorRange[],
  arrived: number,
  length: number,
): number {
  if (granularity === 'element' || arrived === length) return arrived
  if (granularity === 'model') return 0
  return tensors.find(({ end }) => end > arrived)?.start ?? arrived
}

/** What of `tensors` lies in [from, to), with positions relative to `from`. */
export function cut(tensors: readonly TensorRange[], from: number, to: number): TensorRange[] {
  return tensors
    .filter(({ start, end }) => start < to && end > from)
    .map((tensor) => ({
      ...tensor,
      start: Math.max(tensor.start, from) - from,
      end: Math.min(tensor.end, to) - from,
    }))
}

/** The part [from, to) of an update. */
export function partOf(args: UpdateArgs, from: number, to: number): UpdateArgs {
  const part = (buffer: Float32Array) => buffer.subarray(from, to)
  const { params, grads, slots, tensors } = args
  return {
    ...args,
    params: part(params),
    grads: part(grads),
    slots: slots.map(part),
    tensors: cut(tensors, from, to),
  }
}

/**
 * Calls `update` on the longest parts of `args` with the same weight decay: once for everything without a mask.
 * Padding goes with the tensor before it: its gradients are zero, and so are its parameters.
 */
export function eachDecay(
  args: UpdateArgs,
  weightDecay: number,
  mask: DecayMask | undefined,
  update: (args: UpdateArgs, weightDecay: number) => void,
): void {
  if (mask === undefined || weightDecay === 0) {
    update(args, weightDecay)
    return
  }
  const decays = args.tensors.map(({ name, shape }) => (mask(name, shape) ? weightDecay : 0))
  const starts = args.tensors.flatMap(({ start }, i) => (decays[i] === decays[i - 1] ? [] : [{ start, i }]))
  for (const [run, { start, i }] of starts.entries()) {
    update(partOf(args, start, starts[run + 1]?.start ?? args.params.length), decays[i]!)
  }
}
