/** A trainer's calls of all ranks, one after the other: without `await` they would mix their buffers, and ranks would part. */
import { LockstepError } from '../errors.js'

export class OneAtATime {
  private running: string | undefined
  private isClosed = false

  /** @throws LockstepError when another call has not ended, or the world is closed. */
  async run<T>(call: string, action: () => Promise<T>): Promise<T> {
    if (this.isClosed)
      throw new LockstepError(`${call}() was called after close(): call it before, or init() a new world`)
    this.check(call)
    this.running = call
    try {
      return await action()
    } finally {
      this.running = undefined
    }
  }

  /** No call comes any more. */
  close(): void {
    this.isClosed = true
  }

  /** @throws LockstepError when a call, on which `call` would encroach, has not ended. */
  check(call: string): void {
    if (this.running === undefined) return
    throw new LockstepError(
      `${call}() was called before ${this.running}() had ended: await every call of a trainer before the next`,
    )
  }
}
