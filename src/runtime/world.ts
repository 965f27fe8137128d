/**
 * The world: all ranks of a job, and this process' place among them. `init()` joins it; what is trained is ddp's part.
 */
import * as tf from '@tensorflow/tfjs-core'
import type { LayersModel } from '@tensorflow/tfjs-layers'
import type { Communicator } from '../collectives/communicator.js'
import { connectRanks } from '../collectives/connect.js'
import { singleRank } from '../collectives/single.js'
import { Ddp } from './ddp.js'
import type { DdpOptions } from './ddp-options.js'
import { joinDirectly } from './environment/direct.js'
import { installErrorReporter } from './environment/error-reporter.js'
import { stopRequested } from './environment/stop-request.js'
import { StoreClient } from './environment/store-client.js'
import { loadTls } from './environment/tls.js'
import { type RankEnvironment, readEnvironment, readTimeline } from './environment/variables.js'
import { type Mesh, type MeshShape, meshOf } from './mesh.js'
import { closeMetrics, openMetrics } from './metrics.js'
import type { FunctionalModel } from './model.js'
import type { PipelineOptions } from './pipeline/options.js'
import { Pipeline } from './pipeline/pipeline.js'
import { quietTensorflow } from './quiet-tensorflow.js'
import { TensorParallel, type TensorParallelOptions } from './tensor-parallel/tensor-parallel.js'
import { timelineOf, trace } from './timeline.js'

/**
 * Joins the ranks that ddp-launch started, or Slurm or MPI (docs/clusters.md), and returns when all are there. A script
 * started without any of them is a world of one.
 * @throws LockstepError when the environment is incomplete, or a rank does not come in time (naming it).
 */
export async function init(): Promise<World> {
  installErrorReporter()
  // Some backends (wasm) start asynchronously.
  await tf.ready()
  quietTensorflow()
  const environment = (await joinDirectly()) ?? readEnvironment()
  const say = (line: string) => console.error(`lockstep: ${line}`)
  const timeline = readTimeline()
  if (environment === undefined) return new World(await trace(timeline, singleRank()), 0, 1, say)
  const links = environment.worldSize === 1 ? singleRank() : await join(environment)
  await openMetrics(links)
  const { localRank, threads, groupRank } = environment
  return new World(await trace(timeline, links, groupRank), localRank, threads, say)
}

async function join(environment: RankEnvironment): Promise<Communicator> {
  const { rank, worldSize, masterAddr, masterPort, token, timeoutMs, transport } = environment
  const { address, groupRank } = environment
  const tls = loadTls(environment.tls)
  const store = await StoreClient.connect({ host: masterAddr, port: masterPort, token, tls, timeoutMs })
  try {
    return await connectRanks({
      rank,
      size: worldSize,
      token,
      tls,
      host: address,
      node: groupRank,
      timeoutMs,
      transport,
      exchange: store,
      onFallback: (reason) =>
        console.error(`lockstep: ranks exchange over sockets, not shared memory: ${reason}`),
    })
  } finally {
    store.close()
  }
}

export class World {
  private readonly trainers: (Ddp | TensorParallel | Pipeline)[] = []

  /** Use `init()`. */
  constructor(
    /** The collectives among all ranks, for data of the script's own. */
    readonly collectives: Communicator,
    /** This process among those of its host. */
    readonly localRank: number,
    private readonly threads: number,
    /** Is given single lines for whoever started the job. */
    private readonly say?: (line: string) => void,
  ) {}

  /** This process among all, 0 … size - 1. */
  get rank(): number {
    return this.collectives.rank
  }

  get size(): number {
    return this.collectives.size
  }

  /**
   * Makes `model` train in lockstep on all ranks, from rank 0's weights. All ranks must call it together.
   * @throws LockstepError when the model, the loss or the optimizer is none.
   */
  ddp(model: FunctionalModel, options: DdpOptions): Promise<Ddp>
  ddp(model: LayersModel, options: DdpOptions): Promise<Ddp>
  async ddp(model: LayersModel | FunctionalModel, options: DdpOptions): Promise<Ddp> {
    const trainer = new Ddp(this.collectives, model, options, this.threads, this.say)
    await trainer.join()
    this.trainers.push(trainer)
    return trainer
  }

  /**
   * Makes `tp` ranks share `model`, split as `plan` says, and the groups of so many ranks train in lockstep, from rank 0's
   * weights. All ranks must call it together.
   * @throws LockstepError for layers or an optimizer that ranks cannot share, or a number of ranks that tp does not divide.
   */
  async tensorParallel(model: LayersModel, options: TensorParallelOptions): Promise<TensorParallel> {
    const { collectives, threads, say } = this
    const trainer = await TensorParallel.create(collectives, model, options, threads, say)
    this.trainers.push(trainer)
    return trainer
  }

  /**
   * This rank's groups in a mesh of data, pipeline and tensor parallelism; dp × pp × tp must be the number of ranks, and
   * what is left out is 1. Ranks of one tp group follow each other. All ranks must call it, with the same shape.
   * @throws LockstepError with the equation that does not hold.
   */
  mesh(shape: MeshShape): Mesh {
    return meshOf(this.collectives, shape)
  }

  /**
   * Trains `model` in a pipeline of size / dp ranks, each with some of its layers, from rank 0's weights. All ranks must
   * call it together, with the same model and options.
   * @throws LockstepError when the model cannot be cut so, or options contradict each other or the number of ranks.
   */
  async pipeline(model: LayersModel, options: PipelineOptions): Promise<Pipeline> {
    const pipeline = await Pipeline.create(this.collectives, model, options, this.threads)
    this.trainers.push(pipeline)
    return pipeline
  }

  /** Settles once every rank has called it. */
  async barrier(): Promise<void> {
    await this.collectives.barrier()
  }

  /**
   * Whether the job has been asked to end, by SIGTERM to the launcher or to any rank: time to save and to leave. All ranks
   * must call it together, after every step say, and all are told the same. It costs one all-reduce of a number. A script
   * that never calls it ends at the signal.
   */
  async stopping(): Promise<boolean> {
    const asked = Float32Array.of((await stopRequested()) ? 1 : 0)
    await this.collectives.allReduce(asked, 'max')
    return asked[0] === 1
  }

  /**
   * Leaves the world: waits for what is in flight, frees sessions, links and threads. All ranks must call it together.
   * @throws LockstepError on every rank when a checkpoint saved in the background could not be written, or a call of a trainer
   *   was not awaited.
   */
  async close(): Promise<void> {
    for (const trainer of this.trainers) trainer.checkIdle()
    try {
      for (const trainer of this.trainers) await trainer.saved()
      await timelineOf(this.collectives)?.finish()
    } finally {
      for (const trainer of this.trainers) await trainer.release()
      await this.collectives.close()
      await closeMetrics()
    }
  }
}
