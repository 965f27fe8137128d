/** Which parts of a rank's flat buffers belong to each of its stages. It computes nothing. */
import type * as tf from '@tensorflow/tfjs-core'
import type { Parameters } from '../parameters.js'
import type { Stage } from './stage.js'

export interface StageBuffers {
  readonly trainable: readonly tf.Variable[]
  readonly frozen: readonly tf.Variable[]
  /** Values of the trainable variables, then of the frozen ones. */
  readonly values: readonly Float32Array[]
  /** Of the trainable variables. */
  readonly gradients: readonly Float32Array[]
  /** All of these gradients. */
  readonly gradient: Float32Array
}

/** @param parameters of all `stages`, in their order */
export function stageBuffers(stages: readonly Stage[], parameters: Parameters): StageBuffers[] {
  const all = stages.flatMap((stage) => stage.parameters)
  const trainable = all.filter((parameter) => parameter.trainable)
  const ordered = [...trainable, ...all.filter((parameter) => !parameter.trainable)]
  const views = parameters.views()
  const gradients = parameters.gradientViews()
  // A stage's trainable tensors lie together.
  const starts = stages.map(({ parameters: own }) => {
    const first = trainable.findIndex((parameter) => own.includes(parameter))
    return first === -1 ? undefined : parameters.tensors[first]!.start
  })
  return stages.map((stage, i) => {
    const own = ordered.filter((parameter) => stage.parameters.includes(parameter))
    const variables = (kind: boolean) => own.filter((p) => p.trainable === kind).map((p) => p.variable)
    const start = starts[i] ?? 0
    const end =
      starts[i] === undefined
        ? 0
        : (starts.slice(i + 1).find((next) => next !== undefined) ?? parameters.gradients.length)
    return {
      trainable: variables(true),
      frozen: variables(false),
      values: own.map((parameter) => views[ordered.indexOf(parameter)]!),
      gradients: own.filter((p) => p.trainable).map((parameter) => gradients[trainable.indexOf(parameter)]!),
      gradient: parameters.gradients.subarray(start, end),
    }
  })
}
