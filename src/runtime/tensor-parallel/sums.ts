/**
 * What tensor parallelism exchanges inside a pass, as differentiable operators: sums of activations and of their gradients
 * (Shoeybi et al. 2019, "Megatron-LM", f and g), and with activations split along the sequence the two halves of these sums
 * (Korthikanti et al. 2022, "Reducing Activation Recomputation in Large Transformer Models").
 */
import * as tf from '@tensorflow/tfjs-core'
import type { Communicator } from '../../collectives/communicator.js'
import { canExchange, exchanged } from '../../compiler/exchanges.js'
import { LockstepError } from '../../errors.js'

type Exchange = (data: Float32Array) => Promise<void>

/** The operators for one layer, whose name errors and profiles show. `links`: the ranks that share it. */
export class RankSums {
  readonly rank: number
  readonly size: number

  constructor(
    private readonly links: Communicator,
    private readonly name: string,
  ) {
    this.rank = links.rank
    this.size = links.size
  }

  /** g: the sum of all ranks' x; the gradient, which every rank has whole, passes as it is. */
  sum(x: tf.Tensor): tf.Tensor {
    return this.operator(x, (data) => this.links.allReduce(data), undefined)
  }

  /** f: x as it is, which every rank has whole; of its gradient each rank has a part, and gets the sum. */
  sumGradient(x: tf.Tensor): tf.Tensor {
    return this.operator(x, undefined, (data) => this.links.allReduce(data))
  }

  /** The largest of all ranks' x at each place; counts as a constant. */
  max(x: tf.Tensor): tf.Tensor {
    this.requireCompiled()
    const exchange: Exchange = (data) => this.links.allReduce(data, 'max')
    const operator = tf.customGrad((x) => ({
      value: exchanged(x as tf.Tensor, { name: `${this.name} (max)`, exchange }),
      gradFunc: (dy: tf.Tensor) => tf.zerosLike(dy),
    }))
    return operator(x)
  }

  /** All of a sequence [batch, context, …] of which this rank has [batch, context / size, …]. */
  gather(part: tf.Tensor): tf.Tensor {
    const share = part.shape[1]!
    const before = this.rank * share
    const after = (this.size - 1 - this.rank) * share
    const padding = part.shape.map((_, i): [number, number] => (i === 1 ? [before, after] : [0, 0]))
    const whole = tf.pad(part, padding)
    const runs = this.runsOf(whole.shape)
    return this.operator(whole, gathering(this.links, runs), summingParts(this.links, runs))
  }

  /**
   * The sum of all ranks' x at this rank's part of each sequence; what it returns elsewhere is to be cut away (`ownPart`).
   * @param shape of x as [batch, context, …], whose numbers x has in the same order
   */
  sumParts(x: tf.Tensor, shape: readonly number[]): tf.Tensor {
    const runs = this.runsOf(shape)
    return this.operator(x, summingParts(this.links, runs), gathering(this.links, runs))
  }

  /** This rank's part [batch, context / size, …] of each sequence in x. */
  ownPart(x: tf.Tensor): tf.Tensor {
    const share = x.shape[1]! / this.size
    const begin = x.shape.map((_, i) => (i === 1 ? this.rank * share : 0))
    const size = x.shape.map((n, i) => (i === 1 ? share : n))
    return tf.slice(x, begin, size)
  }

  /** The same of what every rank has whole, and needs the whole gradient of. */
  ownPartOfWhole(x: tf.Tensor): tf.Tensor {
    return this.ownPart(this.operator(x, undefined, gathering(this.links, this.runsOf(x.shape))))
  }

  private operator(x: tf.Tensor, forward: Exchange | undefined, backward: Exchange | undefined): tf.Tensor {
    this.requireCompiled()
    const { name } = this
    const operator = tf.customGrad((x) => ({
      value: forward ? exchanged(x as tf.Tensor, { name, exchange: forward }) : tf.clone(x as tf.Tensor),
      gradFunc: (dy: tf.Tensor) =>
        backward ? exchanged(dy, { name: `${name} (backward)`, exchange: backward }) : dy,
    }))
    return operator(x)
  }

  private runsOf([batch, context, ...rest]: readonly number[]): Runs {
    if (context! % this.size !== 0)
      throw new LockstepError(
        `layer ${this.name} has sequences of ${context} for tp ${this.size}: ${context} / ${this.size} = ` +
          `${+(context! / this.size).toFixed(3)}; expected a multiple of ${this.size}, or a plan without sequence`,
      )
    return { count: batch!, length: (context! / this.size) * rest.reduce((a, b) => a * b, 1) }
  }

  private requireCompiled(): void {
    if (canExchange()) return
    throw new LockstepError(
      `layer ${this.name} is split over ranks, for which the model must be compiled, and this runs eagerly on TensorFlow.js: ` +
        'leave out engine tfjs',
    )
  }
}

/** Each rank's part of a buffer of `count` sequences: in each of them a run of `length` floats, in rank order. */
interface Runs {
  readonly count: number
  readonly length: number
}

/** In place: every rank has its own runs, and gets all. */
function gathering(links: Communicator, { count, length }: Runs): Exchange {
  const { rank, size } = links
  const packed = new Float32Array(count * length * size)
  const own = packed.subarray(rank * count * length, (rank + 1) * count * length)
  return async (data) => {
    eachRun(count, size, (sample, of) => {
      const from = (sample * size + of) * length
      if (of === rank) own.set(data.subarray(from, from + length), sample * length)
    })
    await links.allGather(own, undefined, packed)
    eachRun(count, size, (sample, of) => {
      const from = (of * count + sample) * length
      data.set(packed.subarray(from, from + length), (sample * size + of) * length)
    })
  }
}

/** In place: every rank has numbers in all runs, and gets the sums in its own. */
function summingParts(links: Communicator, { count, length }: Runs): Exchange {
  const { rank, size } = links
  const packed = new Float32Array(count * length * size)
  const own = packed.subarray(rank * count * length, (rank + 1) * count * length)
  return async (data) => {
    eachRun(count, size, (sample, of) => {
      const from = (sample * size + of) * length
      packed.set(data.subarray(from, from + length), (of * count + sample) * length)
    })
    await links.reduceScatter(packed, 'sum', own)
    for (let sample = 0; sample < count; sample++)
      data.set(own.subarray(sample * length, (sample + 1) * length), (sample * size + rank) * length)
  }
}

function eachRun(count: number, size: number, visit: (sample: number, rank: number) => void): void {
  for (let sample = 0; sample < count; sample++) for (let rank = 0; rank < size; rank++) visit(sample, rank)
}
