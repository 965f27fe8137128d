/** Distributed data parallelism against the same training done by hand, or by one rank on everybody's samples. */
import * as tf from '@tensorflow/tfjs-core'
import { layers, sequential } from '@tensorflow/tfjs-layers'
import { describe, expect, test } from 'vitest'
import type { Ddp } from '../../src/runtime/ddp.js'
import { countCorrect } from '../../src/runtime/evaluation.js'
import { adam, momentum, sgd } from '../../src/runtime/optimizers/index.js'
import { asRanks, failures, samples, tinyModel } from './ranks.js'

const loss = 'softmaxCrossEntropy'

/** How the first prediction looks: a short description of all parameters. */
const scores = async (ddp: Ddp): Promise<number[]> => [...(await ddp.predict(samples(0, 4).x)).data]

function expectClose(actual: readonly number[], expected: readonly number[], tolerance = 1e-6): void {
  const scale = Math.max(...expected.map(Math.abs))
  actual.forEach((n, i) => {
    expect(Math.abs(n - expected[i]!) / scale).toBeLessThan(tolerance)
  })
}

describe('a step', () => {
  test('that is not awaited is an error, not another training on each rank; and so is one after close', async () => {
    const said = await asRanks(2, async (world) => {
      const ddp = await world.ddp(tinyModel(), { loss, optimizer: sgd(0.1) })
      const { x, y } = samples(0, 4)
      const first = ddp.step(x, y)
      const messages = await Promise.all([
        ddp.step(x, y).catch((error: Error) => error.message),
        world.close().catch((error: Error) => error.message),
      ])
      await first
      await world.close()
      return [...messages, await ddp.step(x, y).catch((error: Error) => error.message), ddp.stepCount]
    })
    const expected = [
      'step() was called before step() had ended: await every call of a trainer before the next',
      'close() was called before step() had ended: await every call of a trainer before the next',
      'step() was called after close(): call it before, or init() a new world',
      1,
    ]
    expect(said).toEqual([expected, expected])
  })

  test('is plain gradient descent on the mean loss, as TensorFlow.js computes it', async () => {
    const { x, y } = samples(0, 5)
    const expected = tf.tidy(() => {
      const model = tinyModel()
      const variables = model.trainableWeights.map((weight) => weight.read() as tf.Variable)
      const { value, grads } = tf.variableGrads(() => {
        const logits = model.apply(tf.tensor(x.data, x.shape)) as tf.Tensor
        return tf.losses.softmaxCrossEntropy(tf.oneHot(tf.tensor1d(y.data, 'int32'), 3), logits) as tf.Scalar
      }, variables)
      for (const v of variables) v.assign(tf.sub(v, tf.mul(grads[v.name]!, 0.5)))
      const after = model.predict(tf.tensor(samples(0, 4).x.data, [4, 6])) as tf.Tensor
      return { loss: value.dataSync()[0]!, scores: [...after.dataSync()] }
    })
    await asRanks(1, async (world) => {
      const ddp = await world.ddp(tinyModel(), { loss, optimizer: sgd(0.5) })
      const result = await ddp.step(x, y)
      expect(result.samples).toBe(5)
      expect(result.loss).toBeCloseTo(expected.loss, 5)
      expectClose(await scores(ddp), expected.scores)
    })
  })

  test.each([2, 3, 4])('of %i ranks equals one rank with all their samples, batches uneven', async (size) => {
    const train = (world: { rank: number; size: number }, ddp: Ddp) => async (step: number) => {
      // Rank r brings r + 1 of each step's samples; a world of one brings them all.
      const total = (size * (size + 1)) / 2
      const from = step * total + (world.rank * (world.rank + 1)) / 2
      const { x, y } =
        world.size === 1 ? samples(step * total, (step + 1) * total) : samples(from, from + world.rank + 1)
      return (await ddp.step(x, y)).loss
    }
    const run = async (ranks: number) =>
      asRanks(ranks, async (world) => {
        const ddp = await world.ddp(tinyModel(), { loss, optimizer: momentum(0.1) })
        const losses: number[] = []
        for (let step = 0; step < 5; step++) losses.push(await train(world, ddp)(step))
        return { losses, scores: await scores(ddp), sha: ddp.paramsSha256() }
      })
    const [alone] = await run(1)
    const together = await run(size)
    for (const rank of together) {
      expectClose(rank.losses, alone!.losses)
      expectClose(rank.scores, alone!.scores, 1e-5)
      expect(rank.sha).toBe(together[0]!.sha)
    }
  })

  test('needs the same model on all ranks, which is said before anything is exchanged', async () => {
    for (const { message } of await failures(2, async (world) => {
      const model = sequential({ layers: [layers.dense({ inputShape: [3 + world.rank], units: 2 })] })
      await world.ddp(model, { loss, optimizer: sgd(0.1) })
    }))
      expect(message).toBe(
        'model is "[3,2] [2]" on rank 0 and "[4,2] [2]" on rank 1: give every rank the same',
      )
  })

  test('starts from the weights of rank 0', async () => {
    const shas = await asRanks(3, async (world) => {
      const ddp = await world.ddp(tinyModel({ seed: world.rank + 1 }), { loss, optimizer: sgd(0.1) })
      return ddp.paramsSha256()
    })
    const [alone] = await asRanks(1, async (world) =>
      (await world.ddp(tinyModel({ seed: 1 }), { loss, optimizer: sgd(0.1) })).paramsSha256(),
    )
    expect(shas).toEqual([alone, alone, alone])
  })

  test('gives the same bits however the gradients are cut into buckets', async () => {
    const run = (bucketBytes: number) =>
      asRanks(2, async (world) => {
        const ddp = await world.ddp(tinyModel(), { loss, optimizer: adam(0.01), bucketBytes })
        for (let step = 0; step < 4; step++) {
          const { x, y } = samples(step * 8 + world.rank * 4, step * 8 + world.rank * 4 + 4)
          await ddp.step(x, y)
        }
        return ddp.paramsSha256()
      })
    expect(await run(64)).toEqual(await run(1 << 20))
  })

  test('after accumulate equals one step on all the micro-batches', async () => {
    const run = (micro: readonly [number, number][]) =>
      asRanks(2, async (world) => {
        const ddp = await world.ddp(tinyModel(), { loss, optimizer: adam(0.01) })
        for (let step = 0; step < 3; step++) {
          const parts = micro.map(([from, to]) =>
            samples(world.rank * 100 + step * 10 + from, world.rank * 100 + step * 10 + to),
          )
          for (const { x, y } of parts.slice(0, -1)) await ddp.accumulate(x, y)
          const last = parts.at(-1)!
          const { samples: seen } = await ddp.step(last.x, last.y)
          expect(seen).toBe(20)
        }
        expect(ddp.stepCount).toBe(3)
        return scores(ddp)
      })
    const [accumulated] = await run([
      [0, 3],
      [3, 4],
      [4, 10],
    ])
    const [whole] = await run([[0, 10]])
    expectClose(accumulated!, whole!, 1e-5)
  })

  test('leaves frozen layers alone, and the hash covers them', async () => {
    await asRanks(2, async (world) => {
      const model = tinyModel()
      model.getLayer('hidden').trainable = false
      const before = model
        .getLayer('hidden')
        .getWeights()
        .map((w) => [...w.dataSync()])
      const scoresBefore = model
        .getLayer('scores')
        .getWeights()
        .map((w) => [...w.dataSync()])
      const ddp = await world.ddp(model, { loss, optimizer: sgd(0.5) })
      const sha = ddp.paramsSha256()
      const { x, y } = samples(0, 8)
      await ddp.step(x, y)
      ddp.updateModel()
      expect(
        model
          .getLayer('hidden')
          .getWeights()
          .map((w) => [...w.dataSync()]),
      ).toEqual(before)
      expect(
        model
          .getLayer('scores')
          .getWeights()
          .map((w) => [...w.dataSync()]),
      ).not.toEqual(scoresBefore)
      expect(ddp.paramsSha256()).not.toBe(sha)
    })
  })

  test('takes tensors and bytes as well as arrays', async () => {
    const pixels = { data: Uint8Array.from({ length: 24 }, (_, i) => i), shape: [4, 6] }
    const labels = { data: Uint8Array.of(0, 1, 2, 0), shape: [4] }
    const run = async (x: Parameters<Ddp['step']>[0], y: Parameters<Ddp['step']>[1]) =>
      (
        await asRanks(1, async (world) =>
          (await world.ddp(tinyModel(), { loss, optimizer: sgd(0.1) })).step(x, y),
        )
      )[0]!.loss
    const plain = await run(
      { data: Float32Array.from(pixels.data), shape: [4, 6] },
      { data: Int32Array.from(labels.data), shape: [4] },
    )
    expect(await run(pixels, labels)).toBe(plain)
    const oneHot = tf.cast(tf.oneHot([0, 1, 2, 0], 3), 'float32')
    expect(await run(tf.tensor([...pixels.data], [4, 6]), oneHot)).toBeCloseTo(plain, 5)
  })
})

test('dropout differs between ranks and steps, and repeats with the seed', async () => {
  const run = (seed: number) =>
    asRanks(2, async (world) => {
      const ddp = await world.ddp(tinyModel({ dropout: 0.5 }), { loss, optimizer: sgd(0), seed })
      const { x, y } = samples(0, 16)
      return [await ddp.accumulate(x, y), await ddp.accumulate(x, y)]
    })
  const first = await run(7)
  expect(new Set(first.flat()).size).toBe(4)
  expect(await run(7)).toEqual(first)
  expect(await run(8)).not.toEqual(first)
})

test('a functional model trains, evaluates and predicts', async () => {
  await asRanks(2, async (world) => {
    const w = tf.variable(tf.zeros([6, 3]))
    const ddp = await world.ddp(
      {
        params: { w },
        loss: ({ x, y }) =>
          tf.losses.softmaxCrossEntropy(tf.oneHot(y as tf.Tensor1D, 3), tf.matMul(x as tf.Tensor2D, w)),
        predict: (x) => tf.matMul(x as tf.Tensor2D, w),
      },
      { optimizer: sgd(1) },
    )
    const { x, y } = samples(world.rank * 50, world.rank * 50 + 50)
    const first = (await ddp.step(x, y)).loss
    expect(first).toBeCloseTo(Math.log(3), 5)
    for (let i = 0; i < 30; i++) await ddp.step(x, y)
    const { loss: last, accuracy } = await ddp.evaluate([{ x, y }])
    expect(last).toBeLessThan(first * 0.8)
    expect(accuracy).toBeUndefined()
    expect((await ddp.predict(x)).shape).toEqual([50, 3])
    ddp.updateModel()
    expect(w.dataSync().some((n) => n !== 0)).toBe(true)
  })
})

test('evaluation counts every sample once, whatever the shards and batches', async () => {
  const total = 37
  const run = (size: number, batch: number) =>
    asRanks(size, async (world) => {
      const ddp = await world.ddp(tinyModel(), { loss, optimizer: sgd(0.1) })
      const share = Math.ceil(total / size)
      // The last rank of four gets fewer, and of 37 samples in shards of 37 the second rank gets none.
      const [from, to] = [world.rank * share, Math.min(total, (world.rank + 1) * share)]
      const batches = []
      for (let at = from; at < to; at += batch) batches.push(samples(at, Math.min(to, at + batch)))
      return ddp.evaluate(
        world.size === 2 && batch === 37 ? (world.rank === 0 ? [samples(0, 37)] : []) : batches,
      )
    })
  const [alone] = await run(1, 37)
  for (const [size, batch] of [
    [2, 5],
    [4, 3],
    [2, 37],
  ] as const) {
    for (const result of await run(size, batch)) {
      expect(result.samples).toBe(total)
      expect(result.accuracy).toBe(alone!.accuracy)
      expect(result.loss).toBeCloseTo(alone!.loss, 5)
    }
  }
})

test('accuracy counts labels, of which a sequence has several', () => {
  const scores = [0.1, 0.9, 0.8, 0.2, 0.5, 0.5]
  expect(countCorrect([1, 0, 0], scores, 2)).toBe(3)
  expect(countCorrect([1, 1, 1], scores, 2)).toBe(1)
  expect(countCorrect([0, 1, 1, 0, 0, 1], scores, 2)).toBe(2)
})

describe('a wrong use gets one clear line', () => {
  const build = (options: object) => failures(1, (world) => world.ddp(tinyModel(), options as never))

  test('a misspelt option of ranks that split a model', async () => {
    const [split] = await failures(1, (world) =>
      world.tensorParallel(tinyModel(), { tp: 1, plan: {}, optimiser: sgd(1) } as never),
    )
    expect(split!.message).toMatch(
      /^tensorParallel\(\): unknown option "optimiser": expected loss, optimizer/,
    )
    const [stage] = await failures(1, (world) =>
      world.pipeline(tinyModel(), { loss, optimizer: sgd(1), microBatch: 2 } as never),
    )
    expect(stage!.message).toMatch(/^pipeline\(\): unknown option "microBatch": expected .*microBatches/)
  })

  test.each([
    [
      { loss: 'crossEntropy', optimizer: sgd(1) },
      /unknown loss "crossEntropy": expected softmaxCrossEntropy/,
    ],
    [{ optimizer: sgd(1) }, /needs a loss for a layers model/],
    [{ loss, optimizer: tf.train.adamax(0.1) }, /TensorFlow.js optimizer Adamax has no equal/],
    [{ loss, optimizer: sgd(1), seed: 0.5 }, /seed is 0.5: expected a whole number/],
    [{ loss, optimizer: sgd(1), bucketBytes: 0 }, /bucketBytes is 0/],
    [
      { loss, optimizer: sgd(1), compresion: 'int8' },
      /^ddp\(\): unknown option "compresion": expected loss, optimizer, .*compression/,
    ],
    [undefined, /^ddp\(model, options\): options are undefined: expected some of \{ loss, optimizer, /],
  ])('%o', async (options, message) => {
    const [error] = await build(options as never)
    expect(error!.name).toBe('LockstepError')
    expect(error!.message).toMatch(message)
  })

  test('no model, a model without weights', async () => {
    const [none] = await failures(1, (world) => world.ddp({} as never, { loss, optimizer: sgd(1) }))
    expect(none!.message).toMatch(/is no model/)
    const [unknown] = await failures(1, (world) => world.ddp(sequential(), { loss, optimizer: sgd(1) }))
    expect(unknown!.message).toMatch(/give its first layer an inputShape/)
  })

  const step = (x: object, y: object | undefined) =>
    failures(1, async (world) =>
      (await world.ddp(tinyModel(), { loss, optimizer: sgd(1) })).step(x as never, y as never),
    )
  const good = samples(0, 2)

  test.each([
    [{ data: new Float32Array(11), shape: [2, 6] }, good.y, /x has 11 numbers for shape \[2,6\]/],
    [{ data: [1, 2], shape: [2] }, good.y, /x holds Array: expected/],
    [good.x, undefined, /y is missing: expected \{ data, shape \}/],
    [{ data: good.x.data }, good.y, /x holds Float32Array without a shape: expected/],
    [
      good.x,
      { data: Float32Array.from(good.y.data), shape: good.y.shape },
      /labels are float32 of shape \[\d\]: expected class numbers, int32 of shape \[\d\], or one-hot rows of shape \[\d, 3\]/,
    ],
    [good.x, { data: Int32Array.of(1), shape: [1] }, /2 samples and 1 labels/],
    [
      good.x,
      { data: Int32Array.of(1, 3), shape: [2] },
      /label 3 of sample 1 .* 3 classes, so labels go from 0 to 2/,
    ],
    [
      { data: new Float32Array(10), shape: [2, 5] },
      good.y,
      /x has shape \[2, 5\]: the model's input is \[batch, 6\]/,
    ],
  ])('batch %#', async (x, y, message) => {
    const [error] = await step(x, y)
    expect(error!.message).toMatch(message)
    expect(error!.message).not.toContain('\n')
    expect(error!.name).toBe('LockstepError')
  })

  test('a loss that is not finite names rank and step, and leaves the parameters as they were', async () => {
    const errors = await failures(3, async (world) => {
      const ddp = await world.ddp(tinyModel(), { loss, optimizer: sgd(0.1) })
      const { x, y } = samples(0, 4)
      await ddp.step(x, y)
      const before = ddp.paramsSha256()
      if (world.rank === 1) x.data[3] = Number.NaN
      try {
        await ddp.step(x, y)
      } finally {
        expect(ddp.paramsSha256()).toBe(before)
      }
    })
    for (const { message } of errors)
      expect(message).toMatch(/loss of step 2 is not finite on rank 1 \(NaN\):/)
  })
})
