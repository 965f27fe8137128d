/** Where the parameters of a whole model lie among the ranks that together hold it. It moves nothing. */
import type { Parameter } from './model.js'
import type { Split } from './tensor-parallel/slices.js'

export interface Placement {
  /** Of the whole model. */
  readonly parameter: Parameter
  /** Ranks of `mesh.pp` that hold it: several where stages share a weight. The first one's goes into checkpoints. */
  readonly owners: readonly number[]
  /** How the ranks of `mesh.tp` share it; undefined: each holds all of it. */
  readonly split: Split | undefined
}
