/**
 * What follows the passes of a step: gradients are summed over the stages that share weights and over the replicas, and the
 * optimizer updates this rank's parameters, or with ZeRO its shard of them.
 */
import { l2Norm } from '../optimizers/norm.js'
import type { Optimizer } from '../optimizers/optimizer.js'
import type { Parameters } from '../parameters.js'
import { ShardedStep } from '../zero/sharded-step.js'
import type { Plan } from './plan.js'
import { TiedWeights } from './tied-weights.js'

export class Update {
  private readonly tied: TiedWeights
  private readonly sharded: ShardedStep | undefined

  constructor(
    private readonly plan: Plan,
    private readonly parameters: Parameters,
    private readonly optimizer: Optimizer,
  ) {
    const { mesh, placements } = plan
    this.tied = new TiedWeights(mesh.pp, placements, parameters)
    const { sharding } = parameters
    if (sharding.level > 0)
      this.sharded = new ShardedStep(mesh.dp, parameters, optimizer, sharding, [mesh.pp])
  }

  /**
   * The optimizer's step number `step`. All ranks must call it together.
   * @param samples of this replica, and of all
   */
  async take(
    step: number,
    samples: { readonly own: number; readonly all: number },
    mark: (phase: 'exchange' | 'optimizer') => void,
  ): Promise<void> {
    const { tied, sharded, parameters, optimizer, plan } = this
    const { dp } = plan.mesh
    if (sharded) {
      await tied.sumGradients()
      await sharded.begin()
      parameters.stats.fill(0)
      parameters.stats[1] = samples.own
      await sharded.step(step, mark)
      await tied.align()
      return
    }
    const { trainable, gradients, slots, tensors } = parameters
    if (dp.size > 1 && gradients.length > 0) await dp.allReduce(gradients)
    // Last, so that all copies add the same numbers.
    await tied.sumGradients()
    const gradNorm = optimizer.granularity === 'model' ? await this.gradientNorm() : undefined
    mark('exchange')
    if (trainable.length > 0) {
      const whole = { params: trainable, grads: gradients, slots, tensors, step, gradScale: 1 / samples.all }
      optimizer.update({ ...whole, ...(gradNorm !== undefined && { gradNorm }) })
    }
    mark('optimizer')
  }

  /** The L2 norm of all stages' gradients: the same bits on every rank. */
  private async gradientNorm(): Promise<number> {
    const { pp } = this.plan.mesh
    const { gradients, tensors } = this.parameters
    const { countedElsewhere } = this.tied
    const twice = [...countedElsewhere].map((i) => gradients.subarray(tensors[i]!.start, tensors[i]!.end))
    const squares = [gradients, ...twice].map((each) => l2Norm(each) ** 2)
    const total = Float64Array.of(squares.reduce((all, again) => all - again))
    if (pp.size > 1) await pp.allReduce(total)
    return Math.sqrt(total[0]!)
  }
}
