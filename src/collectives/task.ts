/**
 * What a communicator asks of whoever moves the numbers: one collective as a `Task`, and a `Runner` that runs it.
 */
import type { Call } from './call.js'
import type { Channel } from './channel.js'
import type { Numbers } from './communicator.js'
import type { CollectiveError } from './failures.js'

/** Part of a user's array, and the element of the working buffer at which it begins. */
export interface Placed {
  readonly data: Numbers
  readonly at: number
}

/**
 * One collective: a working buffer of `elements` is filled from `input`, run in place, and read into `output`.
 *
 * | operation          | working buffer                       | input             | output                |
 * |--------------------|--------------------------------------|-------------------|-----------------------|
 * | all_reduce         | the array                            | all               | all                   |
 * | reduce_scatter     | the array                            | all               | this rank's share     |
 * | all_gather(_uneven)| all ranks' parts                     | this rank's part  | all                   |
 * | broadcast          | the array                            | all, on the root  | all, on all others    |
 * | reduce             | the array                            | all               | all, on the root      |
 * | gather             | all parts on the root, else its own  | this rank's part  | all, on the root      |
 * | scatter            | all parts on the root, else its own  | all, on the root  | this rank's part      |
 * | all_to_all         | the array, then the result           | the array         | the result            |
 * | send_recv          | the array                            | all, on rank 0    | all, on rank 1        |
 * | barrier            | nothing                              |                   |                       |
 */
export interface Task {
  readonly call: Call
  readonly elements: number
  readonly input?: Placed
  readonly output?: Placed
}

/**
 * The user's own array where it can be the working buffer: where all of it is written anyway, or is only read. `input`
 * may still have to be copied into it.
 */
export function inPlace({ call, elements, input, output }: Task): Numbers | undefined {
  if (output?.data.length === elements) return output.data
  if (output) return input?.data.length === elements && liesIn(output, input.data) ? input.data : undefined
  const onlyRead = call.reduction === undefined
  return onlyRead && input?.data.length === elements ? input.data : undefined
}

/** Whether `placed` is just where it belongs in `whole`. */
export function liesIn({ data, at }: Placed, whole: Numbers): boolean {
  return data.buffer === whole.buffer && data.byteOffset === whole.byteOffset + at * whole.BYTES_PER_ELEMENT
}

export interface Runner {
  readonly rank: number
  readonly size: number
  /** Payload bytes that this rank has handed to its links so far; those of channels within this one included. */
  readonly bytesSent: number
  run(task: Task): Promise<void>
  /**
   * The runner of a channel whose members are some of this one's, this rank among them; the same one each time. Without
   * it, this runner's communicator has no sub-groups, no send and no recv.
   */
  group?(channel: Channel): Runner
  /** Breaks the world on all of its ranks, for a reason that its links do not know; of the world's runner. */
  abort?(error: CollectiveError): void
  /** Waits for what is in flight; the world's runner then leaves the other ranks. */
  close(): Promise<void>
}
