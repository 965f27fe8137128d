/**
 * The trained layers model as TensorFlow.js' own files: `model.json` and weight shards, for tf.loadLayersModel in browsers
 * and Node. TensorFlow.js makes and reads their content; here they meet the file system.
 */
import { readFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { io, serialization } from '@tensorflow/tfjs-core'
import { LayersModel, loadLayersModel } from '@tensorflow/tfjs-layers'
import { LockstepError } from '../errors.js'
import { isSystemError } from './checkpoint/storage.js'
import { writeFolderWhole, writing } from './export-files.js'
import type { FunctionalModel } from './model.js'

/** As large as TensorFlow.js' converter makes them: what browsers cache. */
const SHARD_BYTES = 4 * 2 ** 20
const OWN_FILES = /^(model\.json|group1-shard\d+of\d+\.bin)$/

/** @throws LockstepError for functional code, for a directory that holds something else, and when it cannot write. */
export async function writeTensorflow(
  directory: string,
  model: LayersModel | FunctionalModel,
): Promise<void> {
  if (!(model instanceof LayersModel)) {
    throw new LockstepError(
      'exportTensorflow() was given a functional model, of which TensorFlow.js has no file format: expected a layers ' +
        'model (tf.sequential, tf.model); exportOnnx() exports both',
    )
  }
  let artifacts: io.ModelArtifacts | undefined
  await model.save(
    io.withSaveHandler(async (given) => {
      artifacts = given
      return { modelArtifactsInfo: { dateSaved: new Date(), modelTopologyType: 'JSON' } }
    }),
  )
  await writing(directory, () => writeFolderWhole(directory, filesOf(artifacts!), OWN_FILES))
}

function filesOf(artifacts: io.ModelArtifacts): Map<string, Uint8Array> {
  const weights = new Uint8Array(io.CompositeArrayBuffer.join(artifacts.weightData))
  const count = Math.max(1, Math.ceil(weights.length / SHARD_BYTES))
  const paths = Array.from({ length: count }, (_, i) => `group1-shard${i + 1}of${count}.bin`)
  const { modelTopology, format, generatedBy, convertedBy, weightSpecs = [] } = artifacts
  const weightsManifest = [{ paths, weights: weightSpecs }]
  const json = JSON.stringify({ format, generatedBy, convertedBy, modelTopology, weightsManifest })
  const shards = paths.map((path, i): [string, Uint8Array] => [
    path,
    weights.subarray(i * SHARD_BYTES, (i + 1) * SHARD_BYTES),
  ])
  return new Map([...shards, ['model.json', new TextEncoder().encode(json)]])
}

/** Reads `model.json` at `path` and the shards beside it. @throws LockstepError naming the file that is missing or damaged. */
export async function readTensorflow(path: string): Promise<LayersModel> {
  const folder = dirname(path)
  const load = async () => {
    const json = parse(await read(path), path)
    return io.getModelArtifactsForJSON(json, async (manifest) => {
      const shards = await Promise.all(
        manifest.flatMap((group) => group.paths).map((name) => read(join(folder, name))),
      )
      const specs = manifest.flatMap((group) => group.weights)
      const buffers = shards.map((shard) =>
        shard.buffer.slice(shard.byteOffset, shard.byteOffset + shard.length),
      )
      return [specs, buffers as ArrayBuffer[]] as [io.WeightsManifestEntry[], io.WeightData]
    })
  }
  // TensorFlow.js looks names of activations up in camel case, and has this one under another.
  const { classNameMap } = serialization.SerializationMap.getMap()
  classNameMap.geluNew ??= classNameMap.gelu_new!
  try {
    return await loadLayersModel({ load })
  } catch (cause) {
    if (cause instanceof LockstepError) throw cause
    throw new LockstepError(
      `${path} does not load (${(cause as Error).message.split('\n')[0]}): expected what exportTensorflow() or ` +
        'model.save() wrote; a layer class of your own must be registered first (tf.serialization.registerClass)',
      { cause },
    )
  }
}

function parse(bytes: Uint8Array, path: string): io.ModelJSON {
  try {
    const json = JSON.parse(new TextDecoder().decode(bytes)) as io.ModelJSON
    if (json.modelTopology != null && Array.isArray(json.weightsManifest)) return json
  } catch {}
  throw new LockstepError(
    `${path} is not a TensorFlow.js layers model: expected JSON with modelTopology and weightsManifest`,
  )
}

/** @throws LockstepError when the file is not there or cannot be read. */
export async function read(path: string): Promise<Buffer> {
  try {
    return await readFile(path)
  } catch (cause) {
    if (!isSystemError(cause)) throw cause
    throw new LockstepError(`cannot read ${path}: ${cause.message}; expected a file that was exported`, {
      cause,
    })
  }
}
