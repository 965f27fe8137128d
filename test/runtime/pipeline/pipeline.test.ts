/** Pipelines against one rank: the same losses and parameters for every schedule, and what cannot be cut says why. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import {
  input,
  type LayersModel,
  layers,
  model,
  regularizers,
  type SymbolicTensor,
  sequential,
} from '@tensorflow/tfjs-layers'
import { describe, expect, test } from 'vitest'
import type { Communicator } from '../../../src/collectives/communicator.js'
import { fillUniform } from '../../../src/compiler/uniform.js'
import { gpt } from '../../../src/models/gpt.js'
import { residualBlocks } from '../../../src/models/resnet.js'
import { glorotFrom } from '../../../src/models/seeds.js'
import { adam, clipByGlobalNorm, type Optimizer, sgd } from '../../../src/runtime/optimizers/index.js'
import type { PipelineOptions } from '../../../src/runtime/pipeline/options.js'
import type { World } from '../../../src/runtime/world.js'
import { GROUPS } from '../../collectives/groups.js'
import { asRanks, failures, samples, tinyModel } from '../ranks.js'

const loss = 'softmaxCrossEntropy'
const [vocabulary, context] = [11, 8]
const smallGpt = (seed = 3) => gpt({ vocabulary, context, width: 16, heads: 2, depth: 4, seed })

/** Sequences `from` … `to` - 1 of an endless set in which each token follows from the one before. */
function sequences(from: number, to: number) {
  const length = (to - from) * context
  const token = (i: number, t: number) => (i * 5 + t * 3 + (i % 3) * t) % vocabulary
  const each = (shift: number) =>
    Int32Array.from({ length }, (_, k) => token(from + Math.floor(k / context), (k % context) + shift))
  const shape = [to - from, context]
  return { x: { data: each(0), shape }, y: { data: each(1), shape } }
}

const STEPS = 10
const BATCH = 8

/** Losses and the final parameters' checksum of one rank without a pipeline. */
async function alone(optimizer: Optimizer, steps = STEPS): Promise<number[]> {
  const [losses] = await asRanks(1, async (world) => {
    const ddp = await world.ddp(smallGpt(), { loss, optimizer, engine: 'onnx', overlap: 1 })
    const losses: number[] = []
    for (let step = 0; step < steps; step++) {
      const { x, y } = sequences(step * BATCH, (step + 1) * BATCH)
      losses.push((await ddp.step(x, y)).loss)
    }
    return losses
  })
  return losses!
}

async function piped(world: World, options: Partial<PipelineOptions> = {}, steps = STEPS) {
  // Ranks that were not given rank 0's weights would show.
  const pipeline = await world.pipeline(smallGpt(world.rank === 0 ? 3 : 4), {
    loss,
    optimizer: adam(0.01),
    microBatches: 4,
    ...options,
  })
  const { rank, size } = pipeline.replica
  const share = BATCH / size
  const losses: number[] = []
  let bubbleFraction = 0
  for (let step = 0; step < steps; step++) {
    const from = step * BATCH + rank * share
    const { x, y } = sequences(from, from + share)
    const result = await pipeline.step(x, y)
    expect(result.samples).toBe(BATCH)
    losses.push(result.loss)
    bubbleFraction = result.bubbleFraction
  }
  return {
    losses,
    bubbleFraction,
    sha256: await pipeline.paramsSha256(),
    inFlight: await pipeline.mostInFlight(),
    stateBytes: pipeline.stateBytes,
    layers: pipeline.layers,
    pipeline,
  }
}

function expectClose(given: readonly number[], expected: readonly number[]): void {
  given.forEach((loss, i) => {
    expect(Math.abs(loss / expected[i]! - 1)).toBeLessThan(1e-4)
  })
}

describe('a GPT of four layers trains as on one rank', () => {
  test.each([
    ['gpipe', 4, {}, 4],
    ['1f1b', 4, {}, 4],
    ['interleaved', 4, { stagesPerRank: 2 }, 4],
    ['1f1b', 4, { dp: 2 }, 2],
    ['1f1b', 1, {}, 1],
    ['1f1b', 2, { microBatches: 8 }, 2],
  ] as const)('%s on %d ranks, %j', async (schedule, ranks, options, inFlight) => {
    const expected = await alone(adam(0.01))
    const results = await asRanks(ranks, (world) => piped(world, { schedule, ...options }))
    for (const { losses, sha256 } of results) {
      expectClose(losses, expected)
      expect(losses).toEqual(results[0]!.losses)
      expect(sha256).toBe(results[0]!.sha256)
    }
    expect(expected.at(-1)).toBeLessThan(expected[0]! * 0.9)
    expect(results[0]!.inFlight).toBe(inFlight)
  })
})

test.each(['1f1b', 'interleaved', 'gpipe'] as const)('the same over shared memory: %s', async (schedule) => {
  const run = async (links?: Communicator[]) =>
    (await asRanks(2, (world) => piped(world, { schedule, stages: 'layers' }, 3), links)).map(
      ({ losses, sha256 }) => ({ losses, sha256 }),
    )
  const links = await GROUPS.find(({ name }) => name === 'shared memory')!.connect(2)
  expect(await run(links)).toEqual(await run())
})

test('an optimizer that clips by the norm of all stages', async () => {
  const optimizer = clipByGlobalNorm(sgd(0.5), 0.1)
  const expected = await alone(optimizer, 5)
  for (const { losses } of await asRanks(3, (world) => piped(world, { optimizer }, 5)))
    expectClose(losses, expected)
})

describe('what a rank holds', () => {
  test('parameters, gradients and slots of its own layers', async () => {
    const results = await asRanks(4, (world) => piped(world, { stages: 'layers' }, 1))
    const floats = smallGpt().countParams()
    const bytes = results.reduce((sum, { stateBytes }) => sum + stateBytes, 0)
    // 4 buffers: parameters, gradients, and adam's two; padding to 64 bytes a tensor, and the stats.
    expect(bytes).toBeGreaterThanOrEqual(4 * 4 * floats)
    expect(bytes).toBeLessThan(4 * 4 * floats * 1.1)
    const names = results.flatMap(({ layers }) => layers.flat())
    const model = smallGpt()
    expect(new Set(names)).toEqual(
      new Set(model.layers.map(({ name }) => name).filter((n) => n !== 'tokens')),
    )
  })

  /** Beside them, the losses and times: four float64 to all. */
  test.each([
    ['1f1b', 3, 1],
    ['gpipe', 2, 1],
    ['interleaved', 2, 2],
  ] as const)(
    '%s on %d ranks sends activations and their gradients at the borders, once',
    async (schedule, ranks, v) => {
      const sent = await asRanks(ranks, async (world) => {
        const { pipeline } = await piped(world, { schedule, stages: 'layers' }, 1)
        const { x, y } = sequences(0, BATCH)
        const before = world.collectives.bytesSent
        await pipeline.step(x, y)
        return world.collectives.bytesSent - before
      })
      const border = BATCH * context * 16 * Float32Array.BYTES_PER_ELEMENT
      const stages = ranks * v
      for (const [rank, bytes] of sent.entries()) {
        const own = Array.from({ length: v }, (_, i) => i * ranks + rank)
        const borders = own.flatMap((stage) => [stage > 0, stage < stages - 1]).filter(Boolean).length
        expect(bytes).toBeGreaterThan(borders * border)
        expect(bytes).toBeLessThanOrEqual(borders * border + (ranks - 1) * 4 * 8)
      }
    },
  )

  test('the bubble is a share of the step', async () => {
    for (const { bubbleFraction } of await asRanks(2, (world) => piped(world, {}, 3))) {
      expect(bubbleFraction).toBeGreaterThan(0)
      expect(bubbleFraction).toBeLessThan(1)
    }
  })
})

/** 6 → 8 → dropout of nothing → 8, with a weight penalty → 3. */
function penalized(): LayersModel {
  const glorot = glorotFrom(5)
  const dense = (units: number, name: string, rest = {}) =>
    layers.dense({ units, name, kernelInitializer: glorot(), ...rest })
  return sequential({
    layers: [
      dense(8, 'a', { inputShape: [6], activation: 'tanh', kernelRegularizer: regularizers.l2({ l2: 0.1 }) }),
      dense(8, 'b', { activation: 'relu', kernelRegularizer: regularizers.l1({ l1: 0.01 }) }),
      dense(3, 'c'),
    ],
  })
}

describe('other models', () => {
  test.each(['parameters', 'layers', 'time', ['a', 'b']] as const)(
    'regularisers, cut by %s',
    async (stages) => {
      const [expected] = await asRanks(1, async (world) => {
        const ddp = await world.ddp(penalized(), { loss, optimizer: sgd(0.1), engine: 'onnx' })
        const losses = []
        for (let i = 0; i < 5; i++) {
          const { x, y } = samples(i * 6, i * 6 + 6)
          losses.push((await ddp.step(x, y)).loss)
        }
        return { losses, sha: ddp.paramsSha256() }
      })
      const results = await asRanks(3, async (world) => {
        const options = { loss, optimizer: sgd(0.1), microBatches: 3, stages } as const
        const pipeline = await world.pipeline(penalized(), options)
        const losses = []
        for (let i = 0; i < 5; i++) {
          const { x, y } = samples(i * 6, i * 6 + 6)
          losses.push((await pipeline.step(x, y)).loss)
        }
        return losses
      })
      for (const losses of results) expectClose(losses, expected!.losses)
    },
  )

  test('residual blocks: moving averages see each micro-batch, and are the same on all replicas', async () => {
    const batch = (from: number) => {
      const data = new Float32Array(4 * 32 * 32 * 16)
      fillUniform(data, [from])
      const labels = Int32Array.from({ length: 4 }, (_, i) => (from + i) % 10)
      return { x: { data, shape: [4, 32, 32, 16] }, y: { data: labels, shape: [4] } }
    }
    const results = await asRanks(4, async (world) => {
      const pipeline = await world.pipeline(residualBlocks({ seed: 1 }), {
        loss,
        optimizer: sgd(0.05),
        microBatches: 2,
        dp: 2,
      })
      const losses = []
      for (let i = 0; i < 3; i++) {
        const { x, y } = batch(pipeline.replica.rank)
        losses.push((await pipeline.step(x, y)).loss)
      }
      const { samples } = await pipeline.evaluate([batch(pipeline.replica.rank)])
      return { losses, sha: await pipeline.paramsSha256(), samples }
    })
    for (const { losses, sha, samples } of results) {
      expect(losses).toEqual(results[0]!.losses)
      expect(losses[2]).toBeLessThan(losses[0]!)
      expect(sha).toBe(results[0]!.sha)
      expect(samples).toBe(8)
    }
  })

  test('evaluation, prediction and the trained model are those of one rank', async () => {
    const train = samples(0, 12)
    const test = [samples(20, 25), samples(25, 27)]
    const [expected] = await asRanks(1, async (world) => {
      const ddp = await world.ddp(tinyModel(), { loss, optimizer: sgd(0.1), engine: 'onnx' })
      await ddp.step(train.x, train.y)
      return { evaluation: await ddp.evaluate(test), predicted: await ddp.predict(test[0]!.x) }
    })
    const results = await asRanks(2, async (world) => {
      const own = tinyModel()
      const pipeline = await world.pipeline(own, { loss, optimizer: sgd(0.1), microBatches: 4 })
      await pipeline.step(train.x, train.y)
      const evaluation = await pipeline.evaluate(test)
      const predicted = await pipeline.predict(test[0]!.x)
      await pipeline.updateModel()
      return { evaluation, predicted, weights: own.getWeights().flatMap((w) => [...w.dataSync()]) }
    })
    for (const { evaluation, predicted, weights } of results) {
      expect(evaluation.loss).toBeCloseTo(expected!.evaluation.loss, 5)
      expect(evaluation.accuracy).toBe(expected!.evaluation.accuracy)
      expect(predicted.shape).toEqual([5, 3])
      predicted.data.forEach((n, i) => {
        expect(n).toBeCloseTo(expected!.predicted.data[i]!, 5)
      })
      expect(weights).toEqual(results[0]!.weights)
    }
  })

  test('dropout draws anew for each micro-batch and step, and again the same from the same seed', async () => {
    const run = () =>
      asRanks(2, async (world) => {
        const pipeline = await world.pipeline(tinyModel({ dropout: 0.5 }), {
          loss,
          optimizer: sgd(0),
          microBatches: 2,
          seed: 7,
        })
        const { x, y } = samples(0, 4)
        return [(await pipeline.step(x, y)).loss, (await pipeline.step(x, y)).loss]
      })
    const [first, second] = [await run(), await run()]
    expect(first).toEqual(second)
    expect(first[0]![0]).not.toBe(first[0]![1])
  })
})

test('a checkpoint of a pipeline goes on without one, and one of none in a pipeline', async ({
  onTestFinished,
}) => {
  const directory = await mkdtemp(join(tmpdir(), 'lockstep-pipeline-'))
  onTestFinished(() => rm(directory, { recursive: true }))
  const { x, y } = sequences(0, BATCH)
  const optimizer = adam(0.01)
  const [expected] = await asRanks(1, async (world) => {
    const ddp = await world.ddp(smallGpt(), { loss, optimizer, engine: 'onnx' })
    await ddp.step(x, y)
    await ddp.save(join(directory, 'ddp'), { epoch: 1 })
    return [(await ddp.step(x, y)).loss, (await ddp.step(x, y)).loss]
  })
  await asRanks(4, async (world) => {
    const options = { loss, optimizer, microBatches: 2, dp: 2 } as const
    const pipeline = await world.pipeline(smallGpt(9), options)
    expect(await pipeline.load(join(directory, 'ddp'))).toEqual({ epoch: 1 })
    const { rank } = pipeline.replica
    const half = sequences(rank * 4, rank * 4 + 4)
    expectClose([(await pipeline.step(half.x, half.y)).loss], expected!)
    expect(pipeline.stepCount).toBe(2)
    await pipeline.save(join(directory, 'pipeline'), { epoch: 2 }, { background: true })
  })
  await asRanks(1, async (world) => {
    const ddp = await world.ddp(smallGpt(8), { loss, optimizer, engine: 'onnx' })
    expect(await ddp.load(join(directory, 'pipeline'))).toEqual({ epoch: 2 })
    expectClose([(await ddp.step(x, y)).loss], expected!.slice(1))
  })
})

/** a → b, and a's output goes to the sum, too. */
function skipping(): LayersModel {
  const x = input({ shape: [6], name: 'features' })
  const a = layers.dense({ units: 6, name: 'a' }).apply(x) as SymbolicTensor
  const b = layers.dense({ units: 6, name: 'b' }).apply(a) as SymbolicTensor
  const sum = layers.add({ name: 'sum' }).apply([a, b]) as SymbolicTensor
  const y = layers.dense({ units: 3, name: 'c' }).apply(sum) as SymbolicTensor
  return model({ inputs: x, outputs: y })
}

/** twice → middle → twice → other. */
function tied(): LayersModel {
  const x = input({ shape: [6], name: 'features' })
  const shared = layers.dense({ units: 6, name: 'twice' })
  const dense = (units: number, name: string) => layers.dense({ units, name })
  const all = [shared, dense(6, 'middle'), shared, dense(3, 'other')]
  const outputs = all.reduce((value, layer) => layer.apply(value) as SymbolicTensor, x)
  return model({ inputs: x, outputs })
}

describe('refused, on every rank alike', () => {
  const plain = { loss, optimizer: sgd(0.1), microBatches: 2 } as const
  test.each<[string, () => LayersModel, Partial<PipelineOptions>, string]>([
    [
      'more stages than layers',
      tinyModel,
      { schedule: 'interleaved' },
      'the model cannot be cut into 4 stages (ranks of the pipeline * stages on each): it has 2 layers, and a single ' +
        'tensor crosses at 1 of the places between them, which makes at most 2: use fewer ranks, or a deeper model',
    ],
    [
      'a cut through a skip connection',
      skipping,
      { stages: ['b'] },
      'the model cannot be cut after layer b: expected one float tensor to cross there, and it is 2 (the output of a, ' +
        'float32[any,6], the output of b, float32[any,6]); the nearest such place is after a',
    ],
    [
      'a layer that is not there',
      skipping,
      { stages: ['d'] },
      'stages names layer "d", which the model has not: expected some of a, sum',
    ],
    [
      'too many names',
      skipping,
      { stages: ['a', 'sum'] },
      'stages names 2 layers to cut after, which makes 3 stages',
    ],
    [
      'another way to balance',
      skipping,
      { stages: 'size' as 'time' },
      'stages is "size": expected parameters, layers',
    ],
    [
      'an unknown schedule',
      tinyModel,
      { schedule: 'zigzag' as '1f1b' },
      'unknown schedule "zigzag": expected gpipe',
    ],
    [
      'a dp that does not divide',
      tinyModel,
      { dp: 3 },
      'world size (2) != dp (3) * pp * tp (1): expected a product that divides it',
    ],
    [
      'weights that two stages of one rank share',
      tied,
      { schedule: 'interleaved', stages: 'layers' },
      'weight twice/kernel is used in stages 0 and 2, of which two are on rank 0 of a pipeline',
    ],
  ])('%s', async (_, build, options, message) => {
    const errors = await failures(2, (world) => world.pipeline(build(), { ...plain, ...options }))
    for (const error of errors) {
      expect(error.name).toBe('LockstepError')
      expect(error.message).toContain(message)
      expect(error.message).not.toContain('\n')
    }
  })

  test('micro-batches that do not divide the batch', async () => {
    const errors = await failures(2, async (world) => {
      const pipeline = await world.pipeline(tinyModel(), { ...plain, microBatches: 4 })
      const { x, y } = samples(0, 6)
      await pipeline.step(x, y)
    })
    for (const { message } of errors)
      expect(message).toBe(
        'the batch has 6 samples for 4 micro-batches, 6 / 4 = 1.5: expected a multiple of 4, or another number of microBatches',
      )
  })

  test('a loss that is not finite: parameters stay', async () => {
    const results = await asRanks(2, async (world) => {
      const pipeline = await world.pipeline(tinyModel(), plain)
      const before = await pipeline.paramsSha256()
      const { x, y } = samples(0, 4)
      x.data[3] = Number.NaN
      const message = await pipeline.step(x, y).then(
        () => '',
        (error: Error) => error.message,
      )
      return { message, same: before === (await pipeline.paramsSha256()) }
    })
    for (const { message, same } of results) {
      expect(message).toContain(
        'the loss of step 1 is not finite on rank 1 (replica 0, NaN): lower the learning rate',
      )
      expect(same).toBe(true)
    }
  })
})
