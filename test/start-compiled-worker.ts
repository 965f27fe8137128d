/**
 * In place of src/collectives/start-worker.ts, for tests: threads run the compiled package. From source each of the hundreds
 * that tests start would translate its modules anew, which takes longer than what is tested.
 */
import { relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Worker } from 'node:worker_threads'
import { compiled } from './compiled.js'

const ROOT = fileURLToPath(new URL('..', import.meta.url))

export function startWorker(url: URL, workerData: unknown): Worker {
  return new Worker(compiled(relative(ROOT, fileURLToPath(url))), { workerData, execArgv: [] })
}
