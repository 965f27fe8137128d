/** A decoder-only transformer, GPT-2's layout (Radford et al. 2019): pre-norm blocks, learned positions, tanh GELU. */
import * as tf from '@tensorflow/tfjs-core'
import {
  initializers,
  input,
  type LayersModel,
  type LayerVariable,
  layers,
  model,
  type SymbolicTensor,
} from '@tensorflow/tfjs-layers'

export interface GptOptions {
  readonly vocabulary?: number
  /** Tokens per sequence. */
  readonly context?: number
  /** Must be a multiple of `heads`. */
  readonly width?: number
  readonly heads?: number
  readonly depth?: number
  /** Logits are products with the tokens' embeddings (GPT-2's way): one matrix for both, under the name of the embedding's. */
  readonly tied?: boolean
  readonly seed?: number
}

/** How ranks share the layers of `gpt` (world.tensorParallel): Megatron-LM's way, two sums a block. */
export const GPT_PLAN = {
  'block*_attention': 'heads',
  'block*_up': 'column',
  'block*_down': 'row',
} as const

/**
 * The same with more of it shared. `vocabulary`: embeddings and head, too, of which the number of ranks must divide the
 * vocabulary; `sequence`, with it: what lies between the blocks' halves, too, each rank for its part of the sequence.
 */
export function gptPlan({ vocabulary = false, sequence = false, tied = false } = {}) {
  return {
    ...GPT_PLAN,
    ...((vocabulary || sequence) && {
      token: 'vocabulary' as const,
      ...(!tied && { head: 'column' as const }),
    }),
    ...(sequence && { position: 'sequence' as const }),
  }
}

/**
 * Token numbers int32 [batch, context] → logits [batch, context, vocabulary]. The head has no bias.
 * Parameters: 2 V w + T w + depth (12 w² + 13 w) + 2 w, with a tied head V w less; 470,528 for the defaults.
 */
export function gpt(options: GptOptions = {}): LayersModel {
  const {
    vocabulary = 256,
    context = 64,
    width = 128,
    heads = 4,
    depth = 2,
    tied = false,
    seed = 0,
  } = options
  let draws = seed * 1000
  const normal = () => initializers.randomNormal({ mean: 0, stddev: 0.02, seed: ++draws })
  const dense = (units: number, name: string, rest = {}) =>
    layers.dense({ units, kernelInitializer: normal(), name, ...rest })
  const norm = (name: string) => layers.layerNormalization({ epsilon: 1e-5, name })
  const add = (a: SymbolicTensor, b: SymbolicTensor, name: string) =>
    layers.add({ name }).apply([a, b]) as SymbolicTensor
  const through = (x: SymbolicTensor, ...list: layers.Layer[]) =>
    list.reduce((value, layer) => layer.apply(value) as SymbolicTensor, x)

  const tokens = input({ shape: [context], dtype: 'int32', name: 'tokens' })
  const sizes = { inputDim: vocabulary, outputDim: width, name: 'token' }
  const token = tied
    ? new TiedEmbedding({ ...sizes, initializer: normal() })
    : layers.embedding({ ...sizes, embeddingsInitializer: normal() })
  let x = through(tokens, token, new PositionEmbedding({ name: 'position', initializer: normal() }))
  for (let i = 0; i < depth; i++) {
    const attention = new CausalSelfAttention({ heads, initializer: normal, name: `block${i}_attention` })
    x = add(x, through(x, norm(`block${i}_norm1`), attention), `block${i}_residual1`)
    const up = dense(4 * width, `block${i}_up`)
    const gelu = layers.activation({ activation: 'gelu_new' as 'relu', name: `block${i}_gelu` })
    const down = dense(width, `block${i}_down`)
    x = add(x, through(x, norm(`block${i}_norm2`), up, gelu, down), `block${i}_residual2`)
  }
  const head = tied ? token : dense(vocabulary, 'head', { useBias: false })
  const logits = through(x, norm('norm'), head)
  return model({ inputs: tokens, outputs: logits, name: 'gpt' })
}

type Initializer = ReturnType<typeof initializers.randomNormal>

/** A layer that is read back from a file gets its weights from there. */
const fromFile = () => initializers.zeros()

interface TiedEmbeddingOptions {
  readonly inputDim: number
  readonly outputDim: number
  readonly name: string
  readonly initializer?: Initializer
}

/**
 * A layer to be called twice: token numbers [batch, context] → their vectors [batch, context, width], and vectors of that
 * shape → their products with all tokens' vectors [batch, context, vocabulary].
 */
class TiedEmbedding extends layers.Layer {
  static readonly className = 'LockstepTiedEmbedding'
  readonly inputDim: number
  readonly outputDim: number
  private readonly initializer: Initializer
  private embeddings!: LayerVariable

  constructor({ inputDim, outputDim, initializer = fromFile(), ...config }: TiedEmbeddingOptions) {
    super(config)
    this.inputDim = inputDim
    this.outputDim = outputDim
    this.initializer = initializer
  }

  override build(): void {
    const { inputDim, outputDim, initializer } = this
    this.embeddings = this.addWeight('embeddings', [inputDim, outputDim], 'float32', initializer)
    this.built = true
  }

  override computeOutputShape(shape: number[]): number[] {
    return shape.length === 2 ? [...shape, this.outputDim] : [...shape.slice(0, -1), this.inputDim]
  }

  override getConfig(): tf.serialization.ConfigDict {
    return { ...super.getConfig(), inputDim: this.inputDim, outputDim: this.outputDim }
  }

  override call(inputs: tf.Tensor | tf.Tensor[]): tf.Tensor {
    return tf.tidy(() => {
      const x = only(inputs)
      const vectors = this.embeddings.read() as tf.Tensor2D
      if (x.rank === 2) return tf.gather(vectors, tf.cast(x, 'int32'))
      const rows = tf.reshape(x, [-1, this.outputDim]) as tf.Tensor2D
      return tf.reshape(tf.matMul(rows, vectors, false, true), [...x.shape.slice(0, -1), vectors.shape[0]])
    })
  }
}

/** Adds a learned vector per position: [batch, context, width] → the same shape. */
class PositionEmbedding extends layers.Layer {
  static readonly className = 'LockstepPositionEmbedding'
  private readonly initializer: Initializer
  private positions!: LayerVariable

  constructor({ initializer = fromFile(), ...config }: { name: string; initializer?: Initializer }) {
    super(config)
    this.initializer = initializer
  }

  override build([, context, width]: number[]): void {
    this.positions = this.addWeight('positions', [context!, width!], 'float32', this.initializer)
    this.built = true
  }

  override call(inputs: tf.Tensor | tf.Tensor[]): tf.Tensor {
    return tf.add(only(inputs), this.positions.read())
  }
}

/** Multi-head self-attention in which a position sees itself and those before it (Vaswani et al. 2017). */
class CausalSelfAttention extends layers.Layer {
  static readonly className = 'LockstepCausalSelfAttention'
  /** All of them, also where this process holds some (tensor parallelism). */
  readonly heads: number
  /** Along which dimension heads lie in the weights: queries, keys and values side by side. */
  readonly splitByHeads = {
    qkv: { axis: 1, groups: 3 },
    qkv_bias: { axis: 0, groups: 3 },
    out: { axis: 0 },
  }
  private readonly initializer: () => Initializer
  private weightsByName!: Record<'qkv' | 'qkvBias' | 'out' | 'outBias', LayerVariable>

  constructor({
    heads,
    initializer = fromFile,
    ...config
  }: { name: string; heads: number; initializer?: () => Initializer }) {
    super(config)
    this.heads = heads
    this.initializer = initializer
  }

  override build(inputShape: number[]): void {
    const width = inputShape.at(-1)!
    const zeros = initializers.zeros()
    this.weightsByName = {
      qkv: this.addWeight('qkv', [width, 3 * width], 'float32', this.initializer()),
      qkvBias: this.addWeight('qkv_bias', [3 * width], 'float32', zeros),
      out: this.addWeight('out', [width, width], 'float32', this.initializer()),
      outBias: this.addWeight('out_bias', [width], 'float32', zeros),
    }
    this.built = true
  }

  override getConfig(): tf.serialization.ConfigDict {
    return { ...super.getConfig(), heads: this.heads }
  }

  override call(inputs: tf.Tensor | tf.Tensor[]): tf.Tensor {
    return tf.tidy(() => {
      const x = only(inputs)
      const [batch, context, width] = x.shape as [number, number, number]
      const { qkv, qkvBias, out, outBias } = this.weightsByName
      const size = width / this.heads
      const heads = qkv.read().shape[1]! / 3 / size
      const rows = tf.reshape(x, [batch * context, width]) as tf.Tensor2D
      const projected = tf.add(tf.matMul(rows, qkv.read() as tf.Tensor2D), qkvBias.read())
      const byHead = tf.transpose(tf.reshape(projected, [batch, context, 3, heads, size]), [2, 0, 3, 1, 4])
      const [q, k, v] = tf.unstack(byHead) as [tf.Tensor4D, tf.Tensor4D, tf.Tensor4D]
      const scores = tf.add(tf.mul(tf.matMul(q, k, false, true), 1 / Math.sqrt(size)), causalMask(context))
      const mixed = tf.transpose(tf.matMul(tf.softmax(scores), v), [0, 2, 1, 3])
      const merged = tf.reshape(mixed, [batch * context, heads * size]) as tf.Tensor2D
      const product = this.sumOverRanks(tf.matMul(merged, out.read() as tf.Tensor2D))
      return tf.reshape(tf.add(product, outBias.read()), [batch, context, width])
    })
  }

  /** Replaced where ranks hold some of the heads each: every one has a part of the sum over heads. */
  sumOverRanks(x: tf.Tensor): tf.Tensor {
    return x
  }
}

// So that files of this model can be read: tf.loadLayersModel looks classes up by name.
tf.serialization.registerClass(TiedEmbedding)
tf.serialization.registerClass(PositionEmbedding)
tf.serialization.registerClass(CausalSelfAttention)

/** [context, context]: 0 where a row may look, -1e9 to the right of the diagonal. */
function causalMask(context: number): tf.Tensor2D {
  const mask = Float32Array.from({ length: context * context }, (_, i) =>
    i % context > i / context ? -1e9 : 0,
  )
  return tf.tensor2d(mask, [context, context])
}

const only = (inputs: tf.Tensor | tf.Tensor[]): tf.Tensor => (Array.isArray(inputs) ? inputs[0]! : inputs)
