/** What cannot be recorded is refused in one line that names the op and the layer, and leaves TensorFlow.js alone. */
import '@tensorflow/tfjs-backend-cpu'
import * as tf from '@tensorflow/tfjs-core'
import { initializers, type LayersModel, layers } from '@tensorflow/tfjs-layers'
import { describe, expect, test } from 'vitest'
import type { Layer } from '../../src/compiler/layers/index.js'
import { Program } from '../../src/compiler/program.js'
import { UntraceableError } from '../../src/compiler/recorder.js'
import { type TraceRequest, trace } from '../../src/compiler/trace.js'
import { LockstepError } from '../../src/errors.js'
import { sequentialOf } from './models.js'

await tf.setBackend('cpu')

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
    const [x] = Array.isArray(inputs) ? inputs : [inputs]
    return this.work(tf.mul(x!, this.weights[0]!.read()))
  }
}

const IMAGE = [2, 4, 4, 3]

/** A training step of `layers` on images, with the mean as loss. */
function stepOf(list: readonly Layer[], inputShape = IMAGE): { model: LayersModel; request: TraceRequest } {
  const model = sequentialOf(layers.inputLayer({ inputShape: inputShape.slice(1) }), ...list)
  const variables = (trainable: boolean) =>
    model.weights
      .filter((w) => model.trainableWeights.includes(w) === trainable)
      .map((w) => w.read() as tf.Variable)
  const request: TraceRequest = {
    trainable: variables(true),
    frozen: variables(false),
    layers: [model],
    inputs: [{ shape: inputShape, dtype: 'float32' }],
    body: ([x]) => [tf.mean(model.apply(x!, { training: true }) as tf.Tensor)],
  }
  return { model, request }
}

const state = () => ({
  ...tf.memory(),
  backend: tf.getBackend(),
  assign: tf.Variable.prototype.assign,
  scopes: tf.engine().state.scopeStack.length,
  depth: tf.engine().state.gradientDepth,
})

/** The error that tracing `request` throws; TensorFlow.js and the layers are as before. */
function refusal(request: TraceRequest): Error {
  const before = state()
  const calls = request.layers.flatMap((m) => [m, ...(m as LayersModel).layers]).map((layer) => layer.call)
  let error: unknown
  try {
    trace(request)
  } catch (thrown) {
    error = thrown
  }
  expect(state()).toEqual(before)
  expect(request.layers.flatMap((m) => [m, ...(m as LayersModel).layers]).map((layer) => layer.call)).toEqual(
    calls,
  )
  expect(error).toBeInstanceOf(LockstepError)
  expect((error as Error).message).not.toContain('\n')
  return error as Error
}

const inCustomLayer = (work: (x: tf.Tensor) => tf.Tensor): Error => {
  const { model, request } = stepOf([new Custom(work)])
  const error = refusal(request)
  model.dispose()
  return error
}

const x: TraceRequest['inputs'] = [{ shape: [2, 3], dtype: 'float32' }]
const functional = (body: TraceRequest['body']): TraceRequest => ({
  trainable: [],
  frozen: [],
  layers: [],
  inputs: x,
  body,
})

describe('refused, with op and layer named', () => {
  test.each<[string, (x: tf.Tensor) => tf.Tensor, RegExp]>([
    [
      'an uncovered op',
      (x) => tf.unique(x).values,
      /^TensorFlow\.js op Unique in layer custom is not covered/,
    ],
    ['dataSync', (x) => tf.mul(x, x.dataSync()[0]!), /reads a tensor's values in layer custom \(dataSync/],
    ['arraySync', (x) => tf.tensor(x.arraySync() as number[]), /reads a tensor's values in layer custom/],
    ['randomNormal', (x) => tf.add(x, tf.randomNormal(x.shape)), /draws random numbers in layer custom/],
    ['Math.random', (x) => tf.mul(x, Math.random()), /draws random numbers in layer custom/],
    ['tf.dropout', (x) => tf.dropout(x, 0.5), /draws random numbers in layer custom.*tf\.layers\.dropout/],
    ['a random attribute', (x) => tf.leakyRelu(x, Math.random()), /computes something else each time/],
    [
      'a random number of ops',
      (x) => (counter++ % 2 ? tf.relu(x) : tf.tanh(x)),
      /computes something else each time/,
    ],
    [
      'fewer constants the second time',
      (x) => (counter++ % 2 ? x : tf.add(x, [1, 2, 3])),
      /computes something else each time/,
    ],
    ['a string tensor', (x) => tf.reshape(tf.cast(tf.tensor(['a']), 'string'), x.shape), /string tensor/],
    ['a complex tensor', (x) => tf.real(tf.complex(x, x)), /op Complex in layer custom is not covered/],
    [
      'integers where there is no lowering',
      (x) => tf.matMul(tf.cast(x, 'int32'), tf.cast(x, 'int32'), false, true),
      /op BatchMatMul in layer custom was given a int32 tensor.*float32: use tf\.cast/,
    ],
    [
      'assignment',
      (x) => {
        counted.assign(tf.scalar(1))
        return x
      },
      /assigns variable counted during a training step, which is not among its weights/,
    ],
    [
      'an image smaller than its window',
      (x) => tf.maxPool(x as tf.Tensor4D, 5, 1, 'valid'),
      /op MaxPool in layer custom was given an image of 4×4 and a window of 5×5, which is larger/,
    ],
    [
      'pooling rounded up, trained',
      (x) => tf.maxPool(x as tf.Tensor4D, 3, 2, 0, 'ceil'),
      /op MaxPoolGrad.*no gradient of dimRoundingMode 'ceil'/,
    ],
    [
      'a padding as large as the window',
      (x) => tf.avgPool(x as tf.Tensor4D, 2, 2, 2, 'floor'),
      /op AvgPool in layer custom was given a window of 2×2 and paddings as large/,
    ],
    [
      'volumes whose first pixels TensorFlow.js would skip',
      (x) => tf.maxPool3d(tf.expandDims(x, 1) as tf.Tensor5D, 1, [1, 2, 2], 'same'),
      /op MaxPool3D in layer custom was given .* strides larger than that with padding 'same': use 'valid'/,
    ],
    [
      'dataFormat NCHW',
      (x) => tf.conv2d(x as tf.Tensor4D, tf.ones([1, 1, 4, 1]), 1, 'valid', 'NCHW'),
      /op Conv2D in layer custom was given dataFormat 'NCHW'/,
    ],
  ])('%s', (_, work, message) => {
    const error = inCustomLayer(work)
    expect(error.message).toMatch(message)
    expect(error).toBeInstanceOf(UntraceableError)
  })

  test('a variable that is not listed', () => {
    const error = refusal(functional(([x]) => [tf.add(x!, counted)]))
    expect(error.message).toMatch(
      /^the model reads variable counted in the model or loss function, which is not among/,
    )
  })

  test('gather with batch dimensions', () => {
    const error = refusal(functional(([x]) => [tf.gather(x!, tf.zeros([2, 3], 'int32'), 2, 2)]))
    expect(error.message).toMatch(
      /^TensorFlow\.js op GatherV2 in the model or loss function was given 2 batch dimensions/,
    )
  })

  test('fused prelu', () => {
    const slopes = tf.tensor([0.1])
    const error = refusal(
      functional(([x]) => [
        tf.fused.matMul({ a: x!, b: tf.ones([3, 1]), activation: 'prelu', preluActivationWeights: slopes }),
      ]),
    )
    slopes.dispose()
    expect(error.message).toMatch(/op _FusedMatMul in the model or loss function .* prelu: apply tf\.prelu/)
  })

  test('a layer inside a model inside a model', () => {
    const inner = sequentialOf(
      layers.inputLayer({ inputShape: IMAGE.slice(1) }),
      new Custom((x) => tf.unique(x).values),
    )
    const { model, request } = stepOf([inner])
    expect(refusal(request).message).toContain('op Unique in layer custom')
    model.dispose()
  })

  test('a loss that is no scalar', () => {
    const { model, request } = stepOf([layers.dense({ units: 2 })])
    const error = refusal({ ...request, body: ([x]) => [model.apply(x!) as tf.Tensor] })
    expect(error.message).toMatch(/^the loss has shape \[2,4,4,2\]; a training step needs a scalar/)
    model.dispose()
  })

  test('a loss that depends on no weight', () => {
    const { model, request } = stepOf([layers.dense({ units: 2 })])
    const error = refusal({ ...request, body: ([x]) => [tf.mean(x!)] })
    expect(error.message).toMatch(/^the loss does not depend on any trainable variable/)
    model.dispose()
  })

  test('a gradient of another shape than its input', () => {
    const { model, request } = stepOf([layers.dense({ units: 2 })])
    const wrong = tf.customGrad((x) => ({
      value: tf.square(x as tf.Tensor),
      gradFunc: (dy: tf.Tensor) => tf.sum(dy, 0),
    }))
    const error = refusal({ ...request, body: ([x]) => [tf.mean(wrong(model.apply(x!) as tf.Tensor))] })
    expect(error.message).toMatch(
      /^the gradient of op \S+ has another shape than the input that it belongs to/,
    )
    model.dispose()
  })

  test('an op without a gradient', () => {
    const { model, request } = stepOf([layers.dense({ units: 2 })])
    const error = refusal({
      ...request,
      body: ([x]) => [tf.mean(tf.cast(tf.greater(model.apply(x!) as tf.Tensor, 0), 'float32'))],
    })
    expect(error.message).toMatch(/TensorFlow\.js has no gradient.*Greater/)
    model.dispose()
  })
})

let counter = 0
const counted = tf.variable(tf.scalar(0), false, 'counted')

describe('TensorFlow.js is as before', () => {
  test('after a successful trace', () => {
    const { model, request } = stepOf([
      layers.conv2d({ filters: 2, kernelSize: 3 }),
      layers.dropout({ rate: 0.5 }),
      layers.flatten(),
      layers.dense({ units: 2 }),
    ])
    const before = state()
    trace(request)
    expect(state()).toEqual(before)
    for (const layer of model.layers) expect(Object.hasOwn(layer, 'call')).toBe(false)
    const y = model.predict(tf.ones(IMAGE)) as tf.Tensor
    expect(y.dataSync()).toHaveLength(4)
    model.dispose()
  })

  test("a layer's own call is given back", () => {
    const { model, request } = stepOf([layers.flatten()])
    const layer = model.layers.at(-1)!
    const own: Layer['call'] = (inputs) => tf.reshape((inputs as tf.Tensor[])[0]!, [2, -1])
    layer.call = own
    trace({ ...request, trainable: [] })
    expect(layer.call).toBe(own)
    model.dispose()
  })

  test('after compiling and running a program', async () => {
    const variable = tf.variable(tf.tensor([1, 2, 3]))
    const before = state()
    const program = await Program.compile(
      {
        ...functional(([x]) => [tf.sum(tf.mul(x!, variable))]),
        trainable: [variable],
        params: [Float32Array.of(1, 2, 3)],
        gradients: [new Float32Array(3)],
      },
      { threads: 1 },
    )
    await program.run([new Float32Array(6)], [])
    await program.release()
    expect(state()).toEqual(before)
    variable.dispose()
  })

  test('eager code runs between two traces', () => {
    trace(functional(([x]) => [tf.relu(x!)]))
    expect([...tf.tidy(() => tf.relu([-1, 1]).dataSync())]).toEqual([0, 1])
    trace(functional(([x]) => [tf.relu(x!)]))
  })
})
