/** `ddp-launch consolidate`: one file, or a checkpoint of whole tensors, of a checkpoint that many ranks have written. */
import { LockstepError } from '../errors.js'
import { consolidate } from '../runtime/checkpoint/consolidate.js'
import { runCommand } from './command.js'

const USAGE = `ddp-launch consolidate CHECKPOINT OUT

Makes one of the shards that ranks have written.

  CHECKPOINT  checkpoints/step-00000150, or a directory (or s3://bucket/prefix) of which the newest is taken
  OUT         model.safetensors: the weights in one file, which Python reads, too;
              else a directory: a checkpoint of whole tensors, with the optimizer's state, in it`

await runCommand(async (argv) => {
  if (argv.includes('--help') || argv.includes('-h')) {
    console.log(USAGE)
    return
  }
  const [from, to, ...more] = argv
  if (to === undefined || more.length > 0)
    throw new LockstepError(
      `consolidate: ${argv.length} arguments: expected two, a checkpoint and what to make of it (see its --help)`,
    )
  const done = await consolidate(from!, to)
  console.log(`${done.from} -> ${done.to}`)
})
