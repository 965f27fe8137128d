/** The trained model as an ONNX file: which inputs, under which names, for which batch. Encoding is the compiler's part. */
import type * as tf from '@tensorflow/tfjs-core'
import { LayersModel } from '@tensorflow/tfjs-layers'
import { type ExportRequest, exportModel } from '../compiler/export.js'
import type { Spec } from '../compiler/graph.js'
import { LockstepError } from '../errors.js'
import { type BatchInputs, readInputs } from './batch.js'
import { writeFileWhole, writing } from './export-files.js'
import type { FunctionalModel, Model } from './model.js'
import type { Parameters } from './parameters.js'

export interface ExportOnnxOptions {
  /** How many samples the file takes at once: any number, or always this one. */
  readonly batch?: 'dynamic' | number
  /** A batch of features as for `predict`, of which shapes and dtypes are taken: where the model does not say them. */
  readonly example?: BatchInputs
}

/** A model and its trained values. */
export interface Trained {
  readonly source: LayersModel | FunctionalModel
  readonly model: Model
  readonly parameters: Parameters
}

/** Beyond it protobuf cannot encode a message. */
const LARGEST_FILE = 2 ** 31 - 2 ** 20

/** Writes the file at `path`. @throws LockstepError in one line, see `Ddp.exportOnnx`. */
export async function writeOnnx(path: string, trained: Trained, options: ExportOnnxOptions): Promise<void> {
  const request = exportRequest(trained, options)
  const bytes = request.weights.reduce((sum, { data }) => sum + data.byteLength, 0)
  if (bytes > LARGEST_FILE) {
    throw new LockstepError(
      `cannot export to ${path}: the weights take ${bytes} bytes, and an ONNX file holds 2 GiB; use exportTensorflow()`,
    )
  }
  const encoded = exportModel(request)
  await writing(path, () => writeFileWhole(path, encoded))
}

function exportRequest({ source, model, parameters }: Trained, options: ExportOnnxOptions): ExportRequest {
  const { predict } = model
  if (predict === undefined) {
    throw new LockstepError(
      'exportOnnx() needs a predict function: pass { params, loss, predict: (x) => tf.Tensor }',
    )
  }
  const inputs = inputsOf(source, model, options.example)
  const outputNames = source instanceof LayersModel ? source.outputNames : ['output']
  const tensors = parameters.modelTensors()
  const weights = model.parameters.map(({ name, variable }, i) => ({
    name,
    variable,
    data: tensors[i]!.data,
  }))
  return {
    weights,
    layers: model.layers,
    inputs,
    outputNames,
    batch: batchOf(source, options.batch),
    body: (x: tf.Tensor[]) => predict(x),
  }
}

function inputsOf(
  source: LayersModel | FunctionalModel,
  model: Model,
  example: BatchInputs | undefined,
): ExportRequest['inputs'] {
  const names = source instanceof LayersModel ? source.inputNames : ['x']
  if (example !== undefined) {
    const given = readInputs('x', example, model.inputShapes.length)
    return given.map(({ spec }, i) => ({ ...spec, name: names[i]! }))
  }
  if (!(source instanceof LayersModel)) {
    throw new LockstepError(
      'exportOnnx() cannot know what a functional model takes: pass { example: x }, a batch as for predict()',
    )
  }
  return source.inputs.map(({ shape, dtype }, i) => {
    const unknown = shape.slice(1).includes(null)
    if (!unknown)
      return { name: names[i]!, shape: [1, ...(shape.slice(1) as number[])], dtype: dtype as Spec['dtype'] }
    const sizes = shape.map((n, k) => n ?? (k === 0 ? 'batch' : 'any'))
    throw new LockstepError(
      `the model's input ${names[i]} is [${sizes.join(', ')}]: an ONNX file fixes all sizes but the batch; pass ` +
        '{ example: x }, a batch that has them',
    )
  })
}

/** A layers model may have been made for one batch size. */
function batchOf(
  source: LayersModel | FunctionalModel,
  batch: ExportOnnxOptions['batch'],
): 'dynamic' | number {
  const fixed = source instanceof LayersModel ? source.inputs[0]!.shape[0] : null
  const wanted = batch ?? fixed ?? 'dynamic'
  const valid = wanted === 'dynamic' || (Number.isInteger(wanted) && wanted > 0)
  if (!valid)
    throw new LockstepError(`batch is ${wanted}: expected 'dynamic' or a number of samples of at least 1`)
  if (fixed != null && wanted !== fixed) {
    throw new LockstepError(
      `batch is ${wanted}: the model was made for batches of ${fixed} (batchInputShape)`,
    )
  }
  return wanted
}
