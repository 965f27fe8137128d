/** Trained models as files for others: ONNX read by onnxruntime here and in Python, TensorFlow.js' own, and the way back. */
import { spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import * as tf from '@tensorflow/tfjs-core'
import {
  input,
  type LayersModel,
  layers,
  loadLayersModel,
  model,
  type SymbolicTensor,
  sequential,
} from '@tensorflow/tfjs-layers'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { singleRank } from '../../src/collectives/single.js'
import { adam, cnn, gpt, loadModel, mlp, type NdArray, resnet18 } from '../../src/index.js'
import type { Ddp } from '../../src/runtime/ddp.js'
import { World } from '../../src/runtime/world.js'
import { asRanks, failures, samples, tinyModel } from './ranks.js'

const directory = mkdtempSync(join(tmpdir(), 'lockstep-export-'))
afterAll(() => rmSync(directory, { recursive: true, force: true }))
const file = (name: string) => join(directory, name)

const floats = (shape: number[]): NdArray => ({
  shape,
  data: Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, (_, i) => Math.sin(i + 1)),
})
const ints = (shape: number[], below: number): NdArray => ({
  shape,
  data: Int32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, (_, i) => (i * 7) % below),
})

function lstm(): LayersModel {
  return sequential({
    layers: [
      layers.embedding({ inputDim: 11, outputDim: 8, inputLength: 7 }),
      layers.lstm({ units: 6, returnSequences: true }),
      layers.bidirectional({ layer: layers.gru({ units: 4 }) as layers.RNN, mergeMode: 'concat' }),
      layers.dense({ units: 2 }),
    ],
  })
}

function severalInputsAndOutputs(): LayersModel {
  const [a, b] = [input({ shape: [6], name: 'left' }), input({ shape: [4], name: 'right' })]
  const both = layers.concatenate().apply([layers.dense({ units: 5 }).apply(a) as SymbolicTensor, b])
  const outputs = ['first', 'second'].map((name, i) => layers.dense({ units: i + 2, name }).apply(both))
  return model({ inputs: [a, b], outputs: outputs as SymbolicTensor[] })
}

/** Models, and a batch of n samples for each. */
const models: Record<string, [() => LayersModel, (n: number) => NdArray[]]> = {
  mlp: [mlp, (n) => [floats([n, 28, 28, 1])]],
  cnn: [() => cnn({ dropout: 0.5 }), (n) => [floats([n, 28, 28, 1])]],
  resnet18: [resnet18, (n) => [floats([n, 32, 32, 3])]],
  gpt: [() => gpt({ depth: 1, context: 16 }), (n) => [ints([n, 16], 256)]],
  lstm: [lstm, (n) => [ints([n, 7], 11)]],
  several: [severalInputsAndOutputs, (n) => [floats([n, 6]), floats([n, 4])]],
}

const world = new World(singleRank(), 0, 1)
afterAll(() => world.close())
const trainer = (source: LayersModel) =>
  world.ddp(source, { loss: 'meanSquaredError', optimizer: adam(0.01) })

/** Relative to the largest number, or to 1. */
function largestDifference(a: NdArray, b: NdArray): number {
  expect(a.shape).toEqual(b.shape)
  const largest = Math.max(1, ...Array.from(b.data, Math.abs))
  return Math.max(...Array.from(a.data, (n, i) => Math.abs(n - b.data[i]!))) / largest
}

const onnx = new Map<string, { path: string; x: NdArray[]; expected: NdArray[] }>()

describe.each(Object.keys(models))('%s', (name) => {
  const [make, batch] = models[name]!
  let ddp: Ddp

  beforeAll(async () => {
    ddp = await trainer(make())
    if (name === 'cnn') await ddp.step(batch(4)[0]!, floats([4, 10]))
  })

  test('ONNX, for any batch, predicts what ddp does', async () => {
    const path = await ddp.exportOnnx(file(`${name}.onnx`))
    expect(readFileSync(path).includes('com.microsoft'), 'an operator of onnxruntime alone').toBe(false)
    const predictor = await loadModel(path as `${string}.onnx`, { threads: 1 })
    // ddp compiles for each size, which takes its time for a ResNet.
    for (const n of name === 'resnet18' ? [2] : [1, 3]) {
      const x = batch(n)
      const [expected, actual] = [await ddp.predictAll(x), await predictor.predictAll(x)]
      expect(actual).toHaveLength(expected.length)
      actual.forEach((each, i) => {
        expect(largestDifference(each, expected[i]!)).toBeLessThan(1e-5)
      })
      onnx.set(name, { path, x, expected })
    }
    expect(predictor.inputs.every(({ shape }) => shape[0] === 'N')).toBe(true)
    await predictor.release()
  })

  test('model.json comes back bit by bit', async () => {
    const path = join(await ddp.exportTensorflow(file(name)), 'model.json')
    const loaded = await loadModel(path as `${string}.json`)
    const again = await trainer(loaded)
    expect(again.paramsSha256()).toBe(ddp.paramsSha256())
    loaded.dispose()
  })
})

const CANDIDATES = [process.env.LOCKSTEP_PYTHON, 'python3', '/opt/torchenv/bin/python'].filter(
  (p) => p !== undefined,
)
const pythonWith = (module: string) =>
  CANDIDATES.find((p) => spawnSync(p, ['-c', `import ${module}`]).status === 0)

/** Reads [{path, x: [{data, shape}], expected}] and prints the largest difference of each, relative likewise. */
const RUN = `
import json, sys, numpy as np, onnxruntime
array = lambda a: np.array(a["data"]).reshape(a["shape"])
for case in json.load(sys.stdin):
    session = onnxruntime.InferenceSession(case["path"])
    feeds = {i.name: array(x).astype(np.int32 if "int32" in i.type else np.float32) for i, x in zip(session.get_inputs(), case["x"])}
    results = session.run(None, feeds)
    print(max(float(np.abs(r - array(e)).max() / max(1, np.abs(r).max())) for r, e in zip(results, case["expected"])))
`
const CHECK = 'import onnx, sys\nfor path in sys.argv[1:]: onnx.checker.check_model(path, full_check=True)'

const checker = pythonWith('onnx')
test.skipIf(!checker)(
  `onnx' own checker accepts them${checker ? '' : ' (no Python with onnx: LOCKSTEP_PYTHON)'}`,
  () => {
    const paths = [...onnx.values()].map(({ path }) => path)
    const { status, stderr } = spawnSync(checker!, ['-c', CHECK, ...paths], { encoding: 'utf8' })
    expect(status, stderr).toBe(0)
  },
)

const runner = pythonWith('onnxruntime')
test.skipIf(!runner)(
  `Python’s onnxruntime predicts the same${runner ? '' : ' (no Python with onnxruntime: LOCKSTEP_PYTHON)'}`,
  () => {
    const cases = [...onnx.values()].map((each) => ({
      ...each,
      x: each.x.map(plain),
      expected: each.expected.map(plain),
    }))
    const { stdout, stderr } = spawnSync(runner!, ['-c', RUN], {
      input: JSON.stringify(cases),
      encoding: 'utf8',
    })
    const differences = stdout.trim().split('\n').map(Number)
    expect(differences, stderr).toHaveLength(cases.length)
    for (const difference of differences) expect(difference).toBeLessThan(1e-5)
  },
)
const plain = ({ data, shape }: NdArray) => ({ data: [...data], shape })

describe('functional code', () => {
  const w = tf.variable(
    tf.tensor2d([
      [1, 2],
      [3, 4],
      [5, 6],
    ]),
  )
  const functional = { params: { w }, loss: () => tf.mean(w), predict: (x: tf.Tensor) => tf.matMul(x, w) }

  test('is exported with an example', async () => {
    const ddp = await world.ddp(functional, { optimizer: adam(0.01) })
    await expect(ddp.exportOnnx(file('f.onnx'))).rejects.toThrow('pass { example: x }')
    const path = await ddp.exportOnnx(file('f.onnx'), { example: floats([1, 3]) })
    const predictor = await loadModel(path as `${string}.onnx`)
    const x = floats([5, 3])
    expect(await predictor.predict(x)).toEqual(await ddp.predict(x))
    await expect(ddp.exportTensorflow(file('f'))).rejects.toThrow('exportOnnx() exports both')
    await predictor.release()
  })
})

test('rank 0 writes, every rank waits; both formats hold the trained values', async () => {
  await asRanks(2, async (world) => {
    const ddp = await world.ddp(tinyModel(), { loss: 'softmaxCrossEntropy', optimizer: adam(0.01) })
    const { x, y } = samples(world.rank * 8, world.rank * 8 + 8)
    await ddp.step(x, y)
    const path = await ddp.exportOnnx(file('ranks/deep/tiny.onnx'))
    const predictor = await loadModel(path as `${string}.onnx`, { threads: 1 })
    expect(largestDifference(await predictor.predict(x), await ddp.predict(x))).toBeLessThan(1e-6)
    await predictor.release()
    const folder = await ddp.exportTensorflow(file('ranks/tiny'))
    const loaded = await loadModel(`${folder}/model.json`)
    const scores = loaded.predict(tf.tensor(x.data, x.shape)) as tf.Tensor
    const expected = await ddp.predict(x)
    expect(
      largestDifference({ data: scores.dataSync() as Float32Array, shape: scores.shape }, expected),
    ).toBeLessThan(1e-6)
    await world.barrier()
  })
  expect(readdirSync(file('ranks'))).toEqual(['deep', 'tiny'])
  expect(readdirSync(file('ranks/deep'))).toEqual(['tiny.onnx'])
})

test('an error of rank 0 reaches every rank', async () => {
  writeFileSync(file('a-file'), '')
  const errors = await failures(2, async (world) => {
    const ddp = await world.ddp(tinyModel(), { loss: 'softmaxCrossEntropy', optimizer: adam(0.01) })
    await ddp.exportOnnx(file('a-file/tiny.onnx'))
  })
  for (const { message, name } of errors) {
    expect(name).toBe('LockstepError')
    expect(message).toMatch(/cannot export to .*a-file.*: .*; give a path that can be written to/)
  }
})

describe('one rank', () => {
  let ddp: Ddp
  beforeAll(async () => {
    ddp = await trainer(tinyModel())
  })

  test('an earlier export is replaced, a folder of other things is not', async () => {
    await ddp.exportTensorflow(file('again'))
    await ddp.exportTensorflow(file('again'))
    expect(readdirSync(file('again'))).toEqual(['group1-shard1of1.bin', 'model.json'])
    mkdirSync(file('photos'))
    writeFileSync(file('photos/holiday.jpg'), '')
    await expect(ddp.exportTensorflow(file('photos'))).rejects.toThrow('it holds holiday.jpg')
    expect(readdirSync(file('photos'))).toEqual(['holiday.jpg'])
    expect(readdirSync(directory).filter((name) => /tmp|old/.test(name))).toEqual([])
  })

  test('weights are cut into shards that browsers cache', async () => {
    const large = await trainer(sequential({ layers: [layers.dense({ units: 1200, inputShape: [1000] })] }))
    await large.exportTensorflow(file('large'))
    const { weightsManifest } = JSON.parse(readFileSync(file('large/model.json'), 'utf8'))
    expect(weightsManifest[0].paths).toEqual(['group1-shard1of2.bin', 'group1-shard2of2.bin'])
    const loaded = await loadModel(`${file('large')}/model.json`)
    expect((await trainer(loaded)).paramsSha256()).toBe(large.paramsSha256())
  })

  test('browsers load it as they load any model: by HTTP', async () => {
    await ddp.exportTensorflow(file('served'))
    const server = createServer((request, response) => {
      const type = request.url!.endsWith('.json') ? 'application/json' : 'application/octet-stream'
      response.setHeader('content-type', type).end(readFileSync(file(`served${request.url}`)))
    })
    await new Promise<void>((listening) => server.listen(0, '127.0.0.1', listening))
    const { port } = server.address() as AddressInfo
    const loaded = await loadLayersModel(`http://127.0.0.1:${port}/model.json`)
    expect((await trainer(loaded)).paramsSha256()).toBe(ddp.paramsSha256())
    server.closeAllConnections()
    server.close()
  })

  test('a batch of one size', async () => {
    const path = await ddp.exportOnnx(file('four.onnx'), { batch: 4 })
    const predictor = await loadModel(path as `${string}.onnx`)
    expect(predictor.inputs).toMatchObject([{ name: expect.stringMatching(/^hidden_input/), shape: [4, 6] }])
    expect(predictor.outputs).toEqual([{ name: 'scores', dtype: 'float32', shape: [4, 3] }])
    await expect(predictor.predict(floats([3, 6]))).rejects.toThrow(
      /x has shape \[3, 6\]: input hidden_input\S* of .*four\.onnx is \[4, 6\]/,
    )
    await expect(ddp.exportOnnx(file('zero.onnx'), { batch: 0 })).rejects.toThrow(
      "batch is 0: expected 'dynamic'",
    )
    await predictor.release()
  })

  test('what does not load says why', async () => {
    writeFileSync(file('broken.onnx'), 'not a model')
    writeFileSync(file('broken.json'), '{}')
    await expect(loadModel(file('broken.onnx'))).rejects.toThrow(
      /broken.onnx does not load .*: expected an ONNX model/,
    )
    await expect(loadModel(file('broken.json'))).rejects.toThrow('is not a TensorFlow.js layers model')
    await expect(loadModel(file('missing.json'))).rejects.toThrow(/cannot read .*missing.json: ENOENT/)
    await expect(loadModel(file('model.h5'))).rejects.toThrow('expected a path that ends in .json')
    await ddp.exportTensorflow(file('cut'))
    writeFileSync(file('cut/group1-shard1of1.bin'), 'abc')
    await expect(loadModel(file('cut/model.json'))).rejects.toThrow(/cut\/model.json does not load/)
  })
})
