/**
 * What a recurrent layer keeps in JavaScript from one call to the next: its cells' dropout masks, which a trace redraws,
 * and a stateful layer's state, which a trace cannot carry over.
 */
import * as tf from '@tensorflow/tfjs-core'
import { UntraceableError } from '../recorder.js'
import { droppedOut } from './dropout.js'
import type { Layer, Uniform } from './layer.js'

type Mask = tf.Tensor | tf.Tensor[] | null

interface Cell {
  dropoutMask: Mask
  recurrentDropoutMask: Mask
  /** TensorFlow.js' hook for drawing masks; undefined: it draws them itself. */
  dropoutFunc?: (x: tf.Tensor, rate: number) => tf.Tensor
}

const isCell = (layer: Layer): layer is Layer & Cell => 'dropoutMask' in layer

/** Makes a cell draw its masks from random inputs of the step. @returns what puts it back as it was. */
export function redrawMasks(layer: Layer, uniform: Uniform): () => void {
  if (!isCell(layer)) return () => {}
  const { dropoutMask, recurrentDropoutMask, dropoutFunc } = layer
  layer.dropoutMask = null
  layer.recurrentDropoutMask = null
  layer.dropoutFunc ??= (x, rate) => droppedOut(x, rate, uniform)
  return () => {
    tf.dispose([layer.dropoutMask ?? [], layer.recurrentDropoutMask ?? []])
    layer.dropoutMask = dropoutMask
    layer.recurrentDropoutMask = recurrentDropoutMask
    if (dropoutFunc === undefined) delete layer.dropoutFunc
    else layer.dropoutFunc = dropoutFunc
  }
}

/** @throws UntraceableError for a recurrent layer that carries its state from batch to batch. */
export function refuseStateful(layer: Layer): void {
  if (!('cell' in layer) || !layer.stateful) return
  throw new UntraceableError(
    `layer ${layer.name} is stateful: it keeps its state in JavaScript from batch to batch, which a recorded step ` +
      'cannot; build it with stateful: false',
  )
}
