/**
 * Writes checkpoints in a thread of its own, from a copy: training may change the tensors at once. A thread and not
 * asynchronous files, since hashing would stop a step, and a step stops the event loop.
 */
import { startWorker } from '../../collectives/start-worker.js'
import { LockstepError } from '../../errors.js'
import type { WriteTask } from './writing.js'

export type WriteOutcome =
  | { readonly path: string }
  | { readonly message: string; readonly stack: string | undefined; readonly bug: boolean }

export class BackgroundWriter {
  /** Kept from save to save: fresh memory costs more than the copy into it. */
  private memory = new SharedArrayBuffer(0)

  /**
   * Copies the tensors, then returns; settles when it is written. One at a time.
   * @throws what perform() throws.
   */
  write(task: WriteTask, signal?: AbortSignal): Promise<string> {
    const ending = import.meta.url.endsWith('.ts') ? 'ts' : 'js'
    const worker = startWorker(new URL(`./writer-thread.${ending}`, import.meta.url), this.copied(task))
    signal?.addEventListener('abort', () => worker.postMessage((signal.reason as Error).message))
    return new Promise((resolve, reject) => {
      worker.on('message', (outcome: WriteOutcome) => {
        if ('path' in outcome) resolve(outcome.path)
        else reject(toError(outcome))
      })
      worker.on('error', reject)
      worker.on('exit', () => reject(new Error(`the thread that wrote checkpoint ${task.location} ended`)))
    })
  }

  private copied(task: WriteTask): WriteTask {
    if ('parts' in task) return { ...task, parts: this.copy([task.parts])[0]! }
    const { model, optimizer } = task.checkpoint
    const [modelCopy, optimizerCopy] = this.copy([model, optimizer])
    return { ...task, checkpoint: { ...task.checkpoint, model: modelCopy!, optimizer: optimizerCopy! } }
  }

  private copy<T extends { readonly data: Float32Array }>(lists: readonly (readonly T[])[]): T[][] {
    const floats = lists.flat().reduce((sum, { data }) => sum + data.length, 0)
    const bytes = floats * Float32Array.BYTES_PER_ELEMENT
    if (this.memory.byteLength !== bytes) this.memory = new SharedArrayBuffer(bytes)
    const all = new Float32Array(this.memory)
    let begin = 0
    return lists.map((tensors) =>
      tensors.map((tensor) => {
        const copy = all.subarray(begin, begin + tensor.data.length)
        copy.set(tensor.data)
        begin += tensor.data.length
        return { ...tensor, data: copy }
      }),
    )
  }
}

function toError({ message, stack, bug }: Exclude<WriteOutcome, { path: string }>): Error {
  if (!bug) return new LockstepError(message)
  return Object.assign(new Error(message), { stack })
}
