/** The way back from exported files to something that predicts: the ending of the name says what it is. */
import { availableParallelism } from 'node:os'
import type { LayersModel } from '@tensorflow/tfjs-layers'
import { LockstepError } from '../errors.js'
import { Predictor } from './export-predictor.js'
import { read, readTensorflow } from './export-tensorflow.js'

/**
 * Reads what `exportTensorflow` or `exportOnnx` wrote, or another program: a `.json` file becomes a TensorFlow.js layers
 * model, to predict with or to train on; an `.onnx` file a `Predictor`.
 * @param threads that a predictor may use
 * @throws LockstepError naming the file that is missing, damaged or of another kind.
 */
export function loadModel(path: `${string}.json`): Promise<LayersModel>
export function loadModel(path: `${string}.onnx`, options?: { readonly threads?: number }): Promise<Predictor>
export function loadModel(
  path: string,
  options?: { readonly threads?: number },
): Promise<LayersModel | Predictor>
export async function loadModel(
  path: string,
  { threads = availableParallelism() }: { readonly threads?: number } = {},
): Promise<LayersModel | Predictor> {
  if (path.endsWith('.json')) return readTensorflow(path)
  if (path.endsWith('.onnx')) return Predictor.read(path, await read(path), threads)
  throw new LockstepError(
    `cannot load ${path}: expected a path that ends in .json (a TensorFlow.js model) or .onnx; ` +
      'checkpoints are read by ddp.load()',
  )
}
