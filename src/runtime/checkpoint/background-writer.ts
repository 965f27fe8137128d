/**
 * Writes checkpoints in a thread of its own, from a copy: training may change the tensors at once. A thread and not
 * asynchronous files, since hashing would stop a step, and a step stops the event loop.
 */
import { startWorker } from '../../collectives/start-worker.js'
import { LockstepError } from '../../errors.js'
import type { Checkpoint } from './checkpoints.js'
import type { NamedTensor } from './safetensors.js'

export interface WriteTask {
  readonly location: string
  readonly checkpoint: Checkpoint
  readonly keepLast: number | undefined
}

export type WriteOutcome =
  | { readonly path: string }
  | { readonly message: string; readonly stack: string | undefined; readonly bug: boolean }

export class BackgroundWriter {
  /** Kept from save to save: fresh memory costs more than the copy into it. */
  private memory = new SharedArrayBuffer(0)

  /**
   * Copies the tensors, then returns; settles when the checkpoint is written. One at a time.
   * @throws what writeCheckpoint() throws.
   */
  write(location: string, checkpoint: Checkpoint, keepLast: number | undefined): Promise<string> {
    const { model, optimizer } = checkpoint
    const [modelCopy, optimizerCopy] = this.copy([model, optimizer])
    const task: WriteTask = {
      location,
      checkpoint: { ...checkpoint, model: modelCopy!, optimizer: optimizerCopy! },
      keepLast,
    }
    const ending = import.meta.url.endsWith('.ts') ? 'ts' : 'js'
    const worker = startWorker(new URL(`./writer-thread.${ending}`, import.meta.url), task)
    return new Promise((resolve, reject) => {
      worker.on('message', (outcome: WriteOutcome) => {
        if ('path' in outcome) resolve(outcome.path)
        else reject(toError(outcome))
      })
      worker.on('error', reject)
      worker.on('exit', () => reject(new Error(`the thread that wrote checkpoint ${location} ended`)))
    })
  }

  private copy(lists: readonly (readonly NamedTensor[])[]): NamedTensor[][] {
    const floats = lists.flat().reduce((sum, { data }) => sum + data.length, 0)
    const bytes = floats * Float32Array.BYTES_PER_ELEMENT
    if (this.memory.byteLength !== bytes) this.memory = new SharedArrayBuffer(bytes)
    const all = new Float32Array(this.memory)
    let begin = 0
    return lists.map((tensors) =>
      tensors.map(({ name, shape, data }) => {
        const copy = all.subarray(begin, begin + data.length)
        copy.set(data)
        begin += data.length
        return { name, shape, data: copy }
      }),
    )
  }
}

function toError({ message, stack, bug }: Exclude<WriteOutcome, { path: string }>): Error {
  if (!bug) return new LockstepError(message)
  return Object.assign(new Error(message), { stack })
}
