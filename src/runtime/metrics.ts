/** This rank's metrics, which exist only where the launcher has asked for them: `ddp-launch --metrics-port`. */
import { hostname } from 'node:os'
import * as tf from '@tensorflow/tfjs-core'
import type { Communicator } from '../collectives/communicator.js'
import type { RankMetrics } from '../observe/metrics.js'
import { takeMetricsPipe } from './environment/metrics-pipe.js'

let metrics: RankMetrics | undefined

/** @param links between all ranks, whose bytes are counted */
export async function openMetrics(links: Communicator): Promise<void> {
  const send = takeMetricsPipe()
  if (send === undefined) return
  // Others do not wait for its packages to load.
  const { RankMetrics } = await import('../observe/metrics.js')
  metrics = new RankMetrics({
    ...{ rank: links.rank, host: hostname(), send },
    bytesSent: () => links.bytesSent,
    tensors: () => tf.memory().numTensors,
  })
}

/** Undefined unless `openMetrics` was called and found that they are asked for. */
export function rankMetrics(): RankMetrics | undefined {
  return metrics
}

export async function closeMetrics(): Promise<void> {
  await metrics?.close()
  metrics = undefined
}
