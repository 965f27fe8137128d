/**
 * Weights that several stages share, as an embedding and the head that is tied to it: a copy on each of their ranks, whose
 * gradients are summed (as Megatron-LM does it between the first and the last stage), so that equal copies stay equal.
 */
import type { Communicator } from '../../collectives/communicator.js'
import type { Parameters } from '../parameters.js'
import type { Placement } from '../placement.js'

interface TiedWeight {
  readonly links: Communicator
  readonly gradient: Float32Array
  readonly value: Float32Array
}

export class TiedWeights {
  private readonly weights: readonly TiedWeight[]
  /** Positions of tensors that count elsewhere in what is summed over the stages. */
  readonly countedElsewhere: ReadonlySet<number>

  /** All ranks of a pipeline must make it together. */
  constructor(
    pp: Communicator,
    placements: readonly Placement[],
    { tensors, gradients, trainable }: Parameters,
  ) {
    const positions = new Map(tensors.map(({ name }, i) => [name, i]))
    const groups = new Map<string, Communicator>()
    const elsewhere = new Set<number>()
    this.weights = placements.flatMap(({ parameter, owners }) => {
      const position = positions.get(parameter.name)
      if (position === undefined || owners.length < 2) return []
      if (owners[0] !== pp.rank) elsewhere.add(position)
      const links = groups.get(owners.join()) ?? pp.group(owners)
      groups.set(owners.join(), links)
      const { start, end } = tensors[position]!
      return [{ links, gradient: gradients.subarray(start, end), value: trainable.subarray(start, end) }]
    })
    this.countedElsewhere = elsewhere
  }

  /** All ranks of a pipeline must call it together, as the next. */
  async sumGradients(): Promise<void> {
    for (const { links, gradient } of this.weights) await links.allReduce(gradient)
  }

  /** Gives all copies the first one's bits, where they were updated from sums in different orders. */
  async align(): Promise<void> {
    for (const { links, value } of this.weights) await links.broadcast(value, 0)
  }
}
