/**
 * What an optimizer is: a pure update rule over flat buffers. It refuses to own state: whoever calls it allocates the
 * slots (zeroed), saves them and counts the steps, so that any contiguous part of a model can be updated by itself.
 */

export interface Optimizer {
  readonly name: string
  /** What a checkpoint records of it. */
  readonly hyper: Settings
  /** Names of its per-parameter state buffers, e.g. ['m', 'v']; each as long as the parameters and zero at the start. */
  readonly slots: readonly string[]
  readonly granularity: Granularity
  /** What it may be given instead where `gradNorm` is given, too. */
  readonly givenNorm?: Granularity | undefined
  /** Updates `params` and `slots` in place; `grads` may be overwritten. */
  update(args: UpdateArgs): void
}

/**
 * The smallest part of a model that one `update` call may be given: any range of elements, whole tensors only (LAMB's
 * trust ratio), or all of the model at once (a global gradient norm).
 */
export type Granularity = 'element' | 'tensor' | 'model'

/** Buffers of one length: a whole model's or a contiguous part of it that `granularity` allows, the same of each. */
export interface UpdateArgs {
  readonly params: Float32Array
  readonly grads: Float32Array
  readonly slots: readonly Float32Array[]
  /** What lies in the buffers, in ascending order; between two tensors there may be padding, where gradients are zero. */
  readonly tensors: readonly TensorRange[]
  /** 1 at the first update. */
  readonly step: number
  /** Gradients are multiplied by it before use (the mean over ranks or accumulated batches, loss scaling). */
  readonly gradScale: number
  /** The L2 norm of the whole model's gradients, before `gradScale`, where the buffers hold only part of them. */
  readonly gradNorm?: number | undefined
}

/** A parameter, or the part of it that lies in the buffers of one update: positions `start` to `end` - 1, in floats. */
export interface TensorRange {
  readonly name: string
  /** Of the whole parameter. */
  readonly shape: readonly number[]
  readonly start: number
  readonly end: number
}

/** Says of a parameter whether weight decay applies to it, e.g. `(_name, shape) => shape.length > 1`. */
export type DecayMask = (name: string, shape: readonly number[]) => boolean

/** Weight decay is `weightDecay` where the mask says so, by default everywhere. */
export interface DecayOptions {
  readonly weightDecay?: number | undefined
  readonly mask?: DecayMask | undefined
}

/** Numbers, names, and what they nest in: plain JSON. */
export interface Settings {
  readonly [key: string]: number | string | Settings
}
