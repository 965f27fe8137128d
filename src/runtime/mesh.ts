/**
 * The ranks as a mesh of data, pipeline and tensor parallelism: which of them work together on what. It groups ranks; what
 * they exchange is others' part.
 *
 * Tensor-parallel ranks exchange most, several times a layer, so they follow each other: `rank = (d · pp + p) · tp + t`.
 * With hosts of at least tp ranks they stay on one host. Pipeline stages, which exchange least, come next, and the replicas
 * of data parallelism are furthest apart. (picotron's order, [dp, pp, tp]; Megatron-LM has tp innermost, too, then dp.)
 */
import type { Communicator } from '../collectives/communicator.js'
import { LockstepError } from '../errors.js'

export interface MeshShape {
  /** Replicas, each with samples of its own. */
  readonly dp?: number
  /** Stages that the layers are dealt out to. */
  readonly pp?: number
  /** Ranks among which each layer's matrices are split. */
  readonly tp?: number
}

/** One direction of the mesh: this rank's place is the group's `rank`, as in `mesh.tp.rank` of `mesh.tp.size`. */
export interface Mesh {
  /** Ranks that hold the same part of the model, and average its gradients. */
  readonly dp: Communicator
  /** The stages of this rank's pipeline, in the layers' order. */
  readonly pp: Communicator
  /** The ranks that together compute this rank's layers. */
  readonly tp: Communicator
}

/** All ranks must call it, with the same shape. @throws LockstepError when its product is not the number of ranks. */
export function meshOf(links: Communicator, { dp = 1, pp = 1, tp = 1 }: MeshShape): Mesh {
  checkMesh(links.size, { dp, pp, tp })
  const { rank } = links
  const t = rank % tp
  const p = Math.floor(rank / tp) % pp
  const d = Math.floor(rank / (tp * pp))
  const rankAt = (d: number, p: number, t: number) => (d * pp + p) * tp + t
  const along = (length: number, at: (i: number) => number) =>
    links.group(Array.from({ length }, (_, i) => at(i)))
  return {
    dp: along(dp, (i) => rankAt(i, p, t)),
    pp: along(pp, (i) => rankAt(d, i, t)),
    tp: along(tp, (i) => rankAt(d, p, i)),
  }
}

/** @throws LockstepError, one line with the equation that does not hold. */
export function checkMesh(worldSize: number, shape: Required<MeshShape>): void {
  for (const [name, ranks] of Object.entries(shape)) {
    if (!Number.isInteger(ranks) || ranks < 1)
      throw new LockstepError(`${name} is ${ranks}: expected a whole number of ranks, at least 1`)
  }
  const { dp, pp, tp } = shape
  if (dp * pp * tp !== worldSize)
    throw new LockstepError(
      `world size (${worldSize}) != dp (${dp}) * pp (${pp}) * tp (${tp}): change one of them, or ddp-launch's --nproc`,
    )
}
