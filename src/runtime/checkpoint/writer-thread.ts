/** The thread that BackgroundWriter starts: writes one checkpoint, says how it went, and ends. */
import { parentPort, workerData } from 'node:worker_threads'
import { LockstepError } from '../../errors.js'
import type { WriteOutcome, WriteTask } from './background-writer.js'
import { writeCheckpoint } from './checkpoints.js'

const { location, checkpoint, keepLast }: WriteTask = workerData

function failed(error: unknown): WriteOutcome {
  const { message, stack } = error instanceof Error ? error : new Error(String(error))
  return { message, stack, bug: !(error instanceof LockstepError) }
}

const outcome = await writeCheckpoint(location, checkpoint, keepLast).then(
  (path): WriteOutcome => ({ path }),
  failed,
)
parentPort!.postMessage(outcome)
