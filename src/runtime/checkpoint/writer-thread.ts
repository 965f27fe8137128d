/** The thread that BackgroundWriter starts: writes one checkpoint or shard, says how it went, and ends. */
import { parentPort, workerData } from 'node:worker_threads'
import { LockstepError } from '../../errors.js'
import type { WriteOutcome } from './background-writer.js'
import { perform } from './writing.js'

const aborting = new AbortController()
parentPort!.once('message', (reason: string) => aborting.abort(new LockstepError(reason)))
parentPort!.unref()

function failed(error: unknown): WriteOutcome {
  const { message, stack } = error instanceof Error ? error : new Error(String(error))
  return { message, stack, bug: !(error instanceof LockstepError) }
}

const outcome = await perform(workerData, aborting.signal).then((path): WriteOutcome => ({ path }), failed)
parentPort!.postMessage(outcome)
