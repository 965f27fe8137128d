/** The command line of this example: parsed and checked, nothing else. */
import { LockstepError, readFlags } from 'lockstep'

/** @throws LockstepError naming the flag, what was given and what was expected. */
export function readOptions(worldSize: number) {
  const options = readFlags({
    text: '', // a file to learn from
    dp: 0, // groups of ranks that share a step's sequences among them; 0: as many as there are
    pp: 1, // ranks that share the layers among them
    tp: 1, // ranks that share each layer's matrices among them
    zero: 0, // what those ranks share instead of each holding it: 1 optimizer state, 2 gradients too, 3 parameters too
    precision: ['float32', 'float16', 'bfloat16'], // what products compute in; with zero what is shared is kept in it, too
    split: ['blocks', 'vocabulary', 'sequence'], // what tp ranks share: blocks' matrices; embeddings and head, too; all between, too
    head: ['untied', 'tied'], // whether it is the embeddings' matrix again
    schedule: ['1f1b', 'gpipe', 'interleaved'], // of pipeline stages
    microBatches: 1, // parts in which a group takes its share of a step, one after the other
    layers: 2,
    width: 128,
    heads: 4,
    context: 64, // characters a sequence
    batch: 16, // sequences a step, over all ranks
    steps: 200,
    seed: 0,
    json: '',
  })
  const { pp, tp, zero, precision, microBatches, batch, width, heads } = options
  const dp = options.dp || Math.max(1, Math.floor(worldSize / pp / tp))
  if (dp * pp * tp !== worldSize)
    throw new LockstepError(
      `world size (${worldSize}) != dp (${dp}) * pp (${pp}) * tp (${tp}): change ddp-launch's --nproc, --dp, --pp or --tp`,
    )
  if (zero !== 0 && zero !== 1 && zero !== 2 && zero !== 3)
    throw new LockstepError(`--zero is ${zero}: expected 0, 1, 2 or 3`)
  if (zero > 1 && pp * tp > 1)
    throw new LockstepError(`--zero is ${zero} with --pp ${pp} and --tp ${tp}: expected 0 or 1`)
  if (precision !== 'float32' && pp * tp > 1)
    throw new LockstepError(`--precision is ${precision} with --pp ${pp} and --tp ${tp}: expected float32`)
  if (batch % (dp * microBatches) !== 0)
    throw new LockstepError(
      `--batch is ${batch}: expected a multiple of ${dp * microBatches}, which is dp (${dp}) * micro-batches (${microBatches})`,
    )
  if (width % heads !== 0)
    throw new LockstepError(`--width is ${width}: expected a multiple of --heads (${heads})`)
  return { ...options, dp, zero: zero as 0 | 1 | 2 | 3 }
}
