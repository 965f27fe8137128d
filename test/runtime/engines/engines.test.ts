/** The eager engine beside the compiled one, and how an engine is chosen. */
import * as tf from '@tensorflow/tfjs-core'
import { initializers, type LayersModel, layers, sequential } from '@tensorflow/tfjs-layers'
import { afterEach, describe, expect, test, vi } from 'vitest'
import { sgd } from '../../../src/runtime/optimizers/index.js'
import { asRanks, failures, samples, tinyModel } from '../ranks.js'
import { cases, train } from './cases.js'

function expectClose(actual: readonly number[], expected: readonly number[], tolerance: number): void {
  expect(actual.length).toBe(expected.length)
  actual.forEach((n, i) => {
    expect(Math.abs(n - expected[i]!) / Math.max(1, Math.abs(expected[i]!))).toBeLessThan(tolerance)
  })
}

describe('the eager engine computes what the compiled one does', () => {
  test.each(Object.entries(cases))('%s', async (_, given) => {
    const compiled = await train(given, { engine: 'onnx' })
    const eager = await train(given, { engine: 'tfjs' })
    expect([compiled.engine, eager.engine]).toEqual(['onnx', 'tfjs'])
    expectClose(eager.losses, compiled.losses, 1e-5)
    expectClose(eager.predictions, compiled.predictions, 1e-4)
  })

  test('on two ranks, moving averages included', async () => {
    const given = cases['a residual block with batch normalization']!
    const compiled = await train(given, { engine: 'onnx' }, 2)
    const eager = await train(given, { engine: 'tfjs' }, 2)
    expectClose(eager.losses, compiled.losses, 1e-5)
    expectClose(eager.predictions, compiled.predictions, 1e-4)
  })
})

/** A layer that does `work`, with a weight of its own. */
class Custom extends layers.Layer {
  static className = 'Custom'
  constructor(private readonly work: (x: tf.Tensor) => tf.Tensor) {
    super({ name: 'custom' })
  }
  override build(): void {
    this.addWeight('w', [], 'float32', initializers.ones())
    this.built = true
  }
  override call(inputs: tf.Tensor | tf.Tensor[]): tf.Tensor {
    return this.work(tf.mul([inputs].flat()[0]!, this.weights[0]!.read()))
  }
}

const modelOf = (work: (x: tf.Tensor) => tf.Tensor): LayersModel => {
  const dense = layers.dense({ units: 3, kernelInitializer: initializers.glorotUniform({ seed: 1 }) })
  return sequential({ layers: [layers.inputLayer({ inputShape: [6] }), new Custom(work), dense] })
}

const options = { loss: 'softmaxCrossEntropy', optimizer: sgd(0.1) } as const

describe('a model that cannot be compiled', () => {
  afterEach(() => {
    vi.restoreAllMocks()
  })

  /** Two steps on two ranks; losses and what was warned. */
  async function twoSteps(work: (x: tf.Tensor) => tf.Tensor, seed = 0) {
    const warned = vi.spyOn(console, 'error').mockImplementation(() => {})
    const runs = await asRanks(2, async (world) => {
      const ddp = await world.ddp(modelOf(work), { ...options, seed })
      const { x, y } = samples(world.rank * 4, world.rank * 4 + 4)
      return { losses: [(await ddp.step(x, y)).loss, (await ddp.step(x, y)).loss], engine: ddp.engine }
    })
    const lines = warned.mock.calls.map(([line]) => line as string)
    warned.mockRestore()
    return { ...runs[0]!, lines }
  }

  test('is trained eagerly, and one line of rank 0 names the op', async () => {
    const { losses, engine, lines } = await twoSteps((x) =>
      tf.mul(x, tf.max(tf.unique(tf.tensor1d([1, 2, 1])).values)),
    )
    expect(engine).toBe('tfjs')
    expect(losses[1]).toBeLessThan(losses[0]!)
    expect(lines).toHaveLength(1)
    expect(lines[0]).toMatch(
      /^lockstep: this model .* eagerly on TensorFlow\.js backend cpu.*op Unique in layer custom/,
    )
  })

  test('draws random numbers that depend on seed, rank and step', async () => {
    const noisy = (x: tf.Tensor) => tf.add(x, tf.randomNormal(x.shape))
    const first = await twoSteps(noisy, 3)
    expect((await twoSteps(noisy, 3)).losses).toEqual(first.losses)
    expect((await twoSteps(noisy, 4)).losses).not.toEqual(first.losses)
  })

  test('is an error when the engine must compile', async () => {
    const [error] = await failures(1, async (world) => {
      const ddp = await world.ddp(
        modelOf((x) => tf.unique(x).values),
        { ...options, engine: 'onnx' },
      )
      const { x, y } = samples(0, 2)
      await ddp.step(x, y)
    })
    expect(error!.name).toBe('UntraceableError')
  })

  test('and fails eagerly too is the compiler error', async () => {
    const step = async (world: Parameters<Parameters<typeof failures>[1]>[0]) => {
      const w = tf.variable(tf.zeros([6, 3]))
      const stray = tf.variable(tf.zeros([3]))
      const ddp = await world.ddp(
        { params: { w }, loss: ({ x }) => tf.mean(tf.add(tf.matMul(x as tf.Tensor2D, w), stray)) },
        { optimizer: sgd(1) },
      )
      await ddp.step(samples(0, 2).x, samples(0, 2).y)
    }
    const [stray] = await failures(1, step)
    expect(stray!.message).toMatch(/reads variable .* which is not among its weights/)
    const [shape] = await failures(1, async (world) => {
      const w = tf.variable(tf.zeros([6, 3]))
      const ddp = await world.ddp(
        { params: { w }, loss: ({ x }) => tf.matMul(x as tf.Tensor2D, w) },
        { optimizer: sgd(1) },
      )
      await ddp.step(samples(0, 2).x, samples(0, 2).y)
    })
    expect(shape!.message).toMatch(/the loss has shape \[2,3\]; a training step needs a scalar/)
  })

  test('assigns only its own variables', async () => {
    const count = tf.variable(tf.scalar(0))
    const [error] = await failures(1, async (world) => {
      const model = modelOf((x) => {
        count.assign(tf.scalar(1))
        return x
      })
      const ddp = await world.ddp(model, { ...options, engine: 'tfjs' })
      await ddp.step(samples(0, 2).x, samples(0, 2).y)
    })
    expect(error!.message).toMatch(/assigns variable .* is not among its weights or params/)
  })
})

test('a kernel that a backend lacks is one line', async () => {
  tf.backend()
  const step = tf.getKernel('Step', 'cpu')
  tf.unregisterKernel('Step', 'cpu')
  try {
    const [error] = await failures(1, async (world) => {
      const ddp = await world.ddp(tinyModel(), { ...options, engine: 'tfjs' })
      await ddp.step(samples(0, 2).x, samples(0, 2).y)
    })
    expect(error!.name).toBe('LockstepError')
    expect(error!.message).toMatch(/^TensorFlow\.js backend cpu has no kernel Step, .*--engine onnx/)
  } finally {
    tf.registerKernel(step)
  }
})

describe('the engine is chosen', () => {
  afterEach(() => {
    vi.unstubAllEnvs()
  })

  const engineOf = async (given: object) => {
    const [name] = await asRanks(
      1,
      async (world) => (await world.ddp(tinyModel(), { ...options, ...given })).engine,
    )
    return name
  }

  test('by the script, unless LOCKSTEP_ENGINE says otherwise', async () => {
    expect(await engineOf({})).toBe('onnx')
    expect(await engineOf({ engine: 'tfjs' })).toBe('tfjs')
    vi.stubEnv('LOCKSTEP_ENGINE', 'tfjs')
    expect(await engineOf({ engine: 'onnx', provider: 'cpu' })).toBe('tfjs')
    vi.stubEnv('LOCKSTEP_ENGINE', 'onnx:cpu')
    expect(await engineOf({ engine: 'tfjs' })).toBe('onnx')
  })

  test.each([
    [{ engine: 'tensorflow' }, 'engine is "tensorflow": expected auto, onnx, tfjs'],
    [{ provider: 'gpu' }, 'provider is "gpu": expected auto, cpu, webgpu, cuda'],
    [{ engine: 'tfjs', provider: 'cuda' }, 'provider cuda was given for engine tfjs'],
  ])('%o is an error', async (given, message) => {
    const [error] = await failures(1, (world) => world.ddp(tinyModel(), { ...options, ...given } as never))
    expect(error!.name).toBe('LockstepError')
    expect(error!.message).toContain(message)
  })

  test('a wrong LOCKSTEP_ENGINE is an error', async () => {
    vi.stubEnv('LOCKSTEP_ENGINE', 'onnx:tpu')
    const [error] = await failures(1, (world) => world.ddp(tinyModel(), options))
    expect(error!.message).toBe(
      'environment variable LOCKSTEP_ENGINE is "onnx:tpu": expected one of auto, onnx, onnx:cpu, onnx:webgpu, onnx:cuda, tfjs',
    )
  })

  test('a provider that is not there is one line that says what to do', async () => {
    // Where CUDA is installed and works there is nothing to see.
    const [error] = await failures(1, async (world) => {
      const ddp = await world.ddp(tinyModel(), { ...options, provider: 'cuda' })
      await ddp.step(samples(0, 2).x, samples(0, 2).y)
      throw new Error("onnxruntime's cuda provider starts here: --engine onnx:cpu")
    })
    expect(error!.message).toMatch(/^onnxruntime's cuda provider .*--engine onnx:cpu/)
    expect(error!.message).not.toContain('\n')
  })
})
