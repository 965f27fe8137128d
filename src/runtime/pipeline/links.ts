/**
 * The borders between stages that lie on different ranks: what crosses them, in both directions. Each border is a stream of
 * its own, so that a rank may send over two of them in another order than its neighbour receives.
 */
import type { Communicator } from '../../collectives/communicator.js'

export class StageLinks {
  /** Behind each stage but the last: a group of its rank and the next one's. */
  private readonly borders: readonly (Communicator | undefined)[]

  /** All ranks of the pipeline must make it together. */
  constructor(
    private readonly links: Communicator,
    stages: number,
  ) {
    const { rank, size } = links
    // Both ranks of a border make their groups in the order of the stages.
    this.borders = Array.from({ length: stages - 1 }, (_, stage) => {
      const ranks = [stage % size, (stage + 1) % size]
      return ranks.includes(rank) ? links.group(ranks, { background: true }) : undefined
    })
  }

  /** The rank of the pipeline that `stage` is on. */
  ownerOf(stage: number): number {
    return stage % this.links.size
  }

  sendActivation(stage: number, data: Float32Array): Promise<void> {
    return this.borders[stage]!.send(data, 1)
  }

  recvActivation(stage: number, data: Float32Array): Promise<void> {
    return this.borders[stage - 1]!.recv(data, 0)
  }

  sendGradient(stage: number, data: Float32Array): Promise<void> {
    return this.borders[stage - 1]!.send(data, 0)
  }

  recvGradient(stage: number, data: Float32Array): Promise<void> {
    return this.borders[stage]!.recv(data, 1)
  }
}
