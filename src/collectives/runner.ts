/**
 * The communicator's two halves: `CheckedCommunicator` checks what users give and knows which elements go where, a
 * `Runner` moves them. It moves nothing itself, and no runner checks an argument again.
 */
import { LockstepError } from '../errors.js'
import { allocate, type Call, type Dtype, dtypeOf } from './call.js'
import { type Communicator, type Numbers, REDUCE_OPS, type ReduceOp } from './communicator.js'

/** Part of a user's array, and the element of the working buffer at which it begins. */
export interface Placed {
  readonly data: Numbers
  readonly at: number
}

/** One collective: a working buffer of `elements` is filled from `input`, run in place, and read into `output`. */
export interface Task {
  readonly call: Call
  readonly elements: number
  readonly input?: Placed
  readonly output?: Placed
}

export interface Runner {
  readonly rank: number
  readonly size: number
  readonly bytesSent: number
  run(task: Task): Promise<void>
  close(): Promise<void>
}

/** A runner with the checks and shapes in front. */
export class CheckedCommunicator implements Communicator {
  readonly #runner: Runner
  #closing: Promise<void> | undefined

  constructor(runner: Runner) {
    this.#runner = runner
  }

  get rank(): number {
    return this.#runner.rank
  }

  get size(): number {
    return this.#runner.size
  }

  get bytesSent(): number {
    return this.#runner.bytesSent
  }

  async allReduce(data: Numbers, op: ReduceOp = 'sum'): Promise<void> {
    this.#open('allReduce')
    const call = reductionCall('all_reduce', data, op)
    const all = { data, at: 0 }
    await this.#runner.run({ call, elements: data.length, input: all, output: all })
  }

  async broadcast(data: Numbers, root = 0): Promise<void> {
    this.#open('broadcast')
    const call: Call = {
      operation: 'broadcast',
      dtype: checkedDtype('broadcast', data),
      count: data.length,
      root,
    }
    if (!Number.isInteger(root) || root < 0 || root >= this.size) {
      throw new LockstepError(`broadcast from root ${root}: expected a rank from 0 to ${this.size - 1}`)
    }
    const all = { data, at: 0 }
    const placed = root === this.rank ? { input: all } : { output: all }
    await this.#runner.run({ call, elements: data.length, ...placed })
  }

  async allGather(part: Numbers): Promise<Numbers> {
    this.#open('allGather')
    const dtype = checkedDtype('allGather', part)
    const data = allocate(dtype, part.length * this.size)
    await this.#runner.run({
      call: { operation: 'all_gather', dtype, count: part.length },
      elements: data.length,
      input: { data: part, at: this.rank * part.length },
      output: { data, at: 0 },
    })
    return data
  }

  async reduceScatter(data: Numbers, op: ReduceOp = 'sum'): Promise<Numbers> {
    this.#open('reduceScatter')
    const call = reductionCall('reduce_scatter', data, op)
    const length = data.length / this.size
    if (!Number.isInteger(length)) {
      const padded = Math.ceil(length) * this.size
      throw new LockstepError(
        `reduceScatter of ${data.length} elements over ${this.size} ranks: expected a multiple of ${this.size}, pad the array to ${padded}`,
      )
    }
    const slice = allocate(call.dtype, length)
    await this.#runner.run({
      call,
      elements: data.length,
      input: { data, at: 0 },
      output: { data: slice, at: this.rank * length },
    })
    return slice
  }

  async barrier(): Promise<void> {
    this.#open('barrier')
    await this.#runner.run({ call: { operation: 'barrier', dtype: 'uint8', count: 0 }, elements: 0 })
  }

  close(): Promise<void> {
    this.#closing ??= this.#runner.close()
    return this.#closing
  }

  #open(method: string): void {
    if (this.#closing) {
      throw new LockstepError(`${method} was called after close(): call it before, or init() a new world`)
    }
  }
}

function reductionCall(operation: 'all_reduce' | 'reduce_scatter', data: Numbers, op: ReduceOp): Call {
  const dtype = checkedDtype(operation === 'all_reduce' ? 'allReduce' : 'reduceScatter', data)
  if (!REDUCE_OPS.includes(op)) {
    throw new LockstepError(
      `unknown reduction ${JSON.stringify(op)}: expected one of ${REDUCE_OPS.join(', ')}`,
    )
  }
  if (op === 'mean' && (dtype === 'int32' || dtype === 'uint8')) {
    throw new LockstepError(
      `the mean of ${dtype} is no ${dtype}: reduce with 'sum' and divide, or give floats`,
    )
  }
  return { operation, dtype, count: data.length, reduction: op }
}

function checkedDtype(method: string, data: unknown): Dtype {
  const dtype = dtypeOf(data)
  if (dtype) return dtype
  const given = Object.prototype.toString.call(data).slice(8, -1)
  throw new LockstepError(
    `${method} was given ${given}: expected a Float32Array, Float64Array, Int32Array or Uint8Array`,
  )
}
