/** Several ranks in this process, linked by queues: the whole of ddp without sockets or processes. */
import { layers, type Sequential, sequential } from '@tensorflow/tfjs-layers'
import type { Communicator } from '../../src/collectives/communicator.js'
import { inThread } from '../../src/collectives/in-thread-communicator.js'
import { singleRank } from '../../src/collectives/single.js'
import { memoryTransports } from '../../src/collectives/transports/memory.js'
import { fillUniform } from '../../src/compiler/uniform.js'
import { glorotFrom } from '../../src/models/seeds.js'
import { quietTensorflow } from '../../src/runtime/quiet-tensorflow.js'
import { World } from '../../src/runtime/world.js'

quietTensorflow()

/** Runs `body` as every rank of a world of `size` at once, over `links` or queues; results in rank order. */
export async function asRanks<T>(
  size: number,
  body: (world: World) => Promise<T>,
  links: readonly Communicator[] = size === 1
    ? [singleRank()]
    : memoryTransports(size).map((t) => inThread(t)),
): Promise<T[]> {
  const worlds = links.map((link, rank) => new World(link, rank, 1))
  const outcomes = await Promise.allSettled(worlds.map(body))
  await Promise.allSettled(worlds.map((world) => world.close()))
  return outcomes.map((outcome) => {
    if (outcome.status === 'rejected') throw outcome.reason
    return outcome.value
  })
}

/** What every rank of `body` failed with. */
export function failures(size: number, body: (world: World) => Promise<unknown>): Promise<Error[]> {
  return asRanks(size, async (world) => {
    try {
      await body(world)
    } catch (error) {
      return error as Error
    }
    throw new Error(`rank ${world.rank} was expected to fail`)
  })
}

/** 6 features → 8 ReLU → (dropout) → 3 classes. */
export function tinyModel({ seed = 1, dropout = 0 } = {}): Sequential {
  const glorot = glorotFrom(seed)
  return sequential({
    layers: [
      layers.dense({
        inputShape: [6],
        units: 8,
        activation: 'relu',
        kernelInitializer: glorot(),
        name: 'hidden',
      }),
      ...(dropout > 0 ? [layers.dropout({ rate: dropout })] : []),
      layers.dense({ units: 3, kernelInitializer: glorot(), name: 'scores' }),
    ],
  })
}

/** Samples `from` … `to` - 1 of an endless deterministic set with 6 features and 3 classes. */
export function samples(from: number, to: number) {
  const data = new Float32Array((to - from) * 6)
  const labels = new Int32Array(to - from)
  for (let i = from; i < to; i++) {
    const features = data.subarray((i - from) * 6, (i - from + 1) * 6)
    fillUniform(features, [i])
    labels[i - from] = Math.floor((features[0]! + features[1]!) * 1.5)
  }
  return { x: { data, shape: [to - from, 6] }, y: { data: labels, shape: [to - from] } }
}
