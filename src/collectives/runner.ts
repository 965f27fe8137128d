/**
 * The communicator's two halves: `CheckedCommunicator` checks what users give and knows which elements go where, a
 * `Runner` moves them. It moves nothing itself, and no runner checks an argument again.
 */
import { LockstepError } from '../errors.js'
import { allocate, type Call, layoutOf } from './call.js'
import { type Channel, groupChannel, pairChannel, worldChannel } from './channel.js'
import {
  checkCounts,
  checkedDtype,
  checkedShare,
  checkInto,
  checkMembers,
  checkRank,
  checkReduction,
} from './checks.js'
import type { Communicator, GroupOptions, Numbers, ReduceOp } from './communicator.js'
import { identity } from './identity.js'
import type { Runner } from './task.js'

export type { Placed, Runner, Task } from './task.js'

/** A runner with the checks and shapes in front. */
export class CheckedCommunicator implements Communicator {
  readonly #runner: Runner
  readonly #channel: Channel
  /** How often a group of the same ranks has been made, by their list. */
  readonly #instances = new Map<string, number>()
  /** By sender and receiver: a channel's number is a hash. */
  readonly #pairs = new Map<string, Runner>()
  #closing: Promise<void> | undefined

  constructor(runner: Runner, channel: Channel = worldChannel(runner.size)) {
    this.#runner = runner
    this.#channel = channel
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

  // Not async: small ones take a microsecond, and each further promise a tenth of that.
  allReduce(data: Numbers, op: ReduceOp = 'sum'): Promise<void> {
    try {
      this.#open('allReduce')
      const call = reductionCall('allReduce', data, op)
      const all = { data, at: 0 }
      return this.#runner.run({ call, elements: data.length, input: all, output: all })
    } catch (error) {
      return Promise.reject(error)
    }
  }

  async reduce(data: Numbers, op: ReduceOp = 'sum', root = 0): Promise<void> {
    this.#open('reduce')
    checkRank('reduce to root', root, this.size)
    const call = { ...reductionCall('reduce', data, op), root }
    const all = { data, at: 0 }
    const output = root === this.rank && { output: all }
    await this.#runner.run({ call, elements: data.length, input: all, ...output })
  }

  async reduceScatter(data: Numbers, op: ReduceOp = 'sum', into?: Numbers): Promise<Numbers> {
    this.#open('reduceScatter')
    const call = reductionCall('reduceScatter', data, op)
    const length = checkedShare('reduceScatter', data.length, this.size)
    if (into) checkInto('reduceScatter', into, call.dtype, length)
    const share = into ?? allocate(call.dtype, length)
    const output = { data: share, at: this.rank * length }
    await this.#runner.run({ call, elements: data.length, input: { data, at: 0 }, output })
    return share
  }

  async broadcast(data: Numbers, root = 0): Promise<void> {
    this.#open('broadcast')
    const dtype = checkedDtype('broadcast', data)
    checkRank('broadcast from root', root, this.size)
    const all = { data, at: 0 }
    const call: Call = { operation: 'broadcast', dtype, count: data.length, root }
    const placed = root === this.rank ? { input: all } : { output: all }
    await this.#runner.run({ call, elements: data.length, ...placed })
  }

  async allGather(part: Numbers, counts?: readonly number[], into?: Numbers): Promise<Numbers> {
    this.#open('allGather')
    const dtype = checkedDtype('allGather', part)
    if (counts) checkCounts(counts, part.length, this.rank, this.size)
    const lengths = counts ?? new Array<number>(this.size).fill(part.length)
    const before = (rank: number) => lengths.slice(0, rank).reduce((sum, length) => sum + length, 0)
    if (into) checkInto('allGather', into, dtype, before(this.size))
    const data = into ?? allocate(dtype, before(this.size))
    const call: Call = counts
      ? {
          operation: 'all_gather_uneven',
          dtype,
          count: data.length,
          counts: lengths,
          layout: layoutOf(lengths),
        }
      : { operation: 'all_gather', dtype, count: part.length }
    const input = { data: part, at: before(this.rank) }
    await this.#runner.run({ call, elements: data.length, input, output: { data, at: 0 } })
    return data
  }

  async gather(part: Numbers, root = 0): Promise<Numbers | undefined> {
    this.#open('gather')
    const dtype = checkedDtype('gather', part)
    checkRank('gather to root', root, this.size)
    const call: Call = { operation: 'gather', dtype, count: part.length, root }
    if (root !== this.rank) {
      await this.#runner.run({ call, elements: part.length, input: { data: part, at: 0 } })
      return undefined
    }
    const data = allocate(dtype, part.length * this.size)
    const input = { data: part, at: this.rank * part.length }
    await this.#runner.run({ call, elements: data.length, input, output: { data, at: 0 } })
    return data
  }

  async scatter(part: Numbers, root = 0, whole?: Numbers): Promise<void> {
    this.#open('scatter')
    const dtype = checkedDtype('scatter', part)
    checkRank('scatter from root', root, this.size)
    const call: Call = { operation: 'scatter', dtype, count: part.length, root }
    if (root !== this.rank) {
      await this.#runner.run({ call, elements: part.length, output: { data: part, at: 0 } })
      return
    }
    const elements = part.length * this.size
    if (!whole || checkedDtype('scatter', whole) !== dtype || whole.length !== elements) {
      const given = whole ? `${checkedDtype('scatter', whole)} × ${whole.length}` : 'no whole array'
      throw new LockstepError(
        `scatter was given ${given} on its root, rank ${root}: expected ${dtype} × ${elements}, ${this.size} parts of ${part.length}`,
      )
    }
    const output = { data: part, at: root * part.length }
    await this.#runner.run({ call, elements, input: { data: whole, at: 0 }, output })
  }

  async allToAll(data: Numbers): Promise<Numbers> {
    this.#open('allToAll')
    const dtype = checkedDtype('allToAll', data)
    checkedShare('allToAll', data.length, this.size)
    const result = allocate(dtype, data.length)
    await this.#runner.run({
      call: { operation: 'all_to_all', dtype, count: data.length },
      elements: 2 * data.length,
      input: { data, at: 0 },
      output: { data: result, at: data.length },
    })
    return result
  }

  async send(data: Numbers, to: number): Promise<void> {
    const call = this.#pairCall('send', data, to)
    await this.#pair('send', this.rank, to).run({ call, elements: data.length, input: { data, at: 0 } })
  }

  async recv(data: Numbers, from: number): Promise<void> {
    const call = this.#pairCall('recv', data, from)
    await this.#pair('recv', from, this.rank).run({ call, elements: data.length, output: { data, at: 0 } })
  }

  async barrier(): Promise<void> {
    this.#open('barrier')
    await this.#runner.run({ call: { operation: 'barrier', dtype: 'uint8', count: 0 }, elements: 0 })
  }

  group(ranks: readonly number[], { background }: GroupOptions = {}): Communicator {
    this.#open('group')
    checkMembers(ranks, this.rank, this.size)
    if (ranks.length === 1) return new CheckedCommunicator(identity)
    const list = ranks.join()
    const instance = (this.#instances.get(list) ?? 0) + 1
    this.#instances.set(list, instance)
    const channel = groupChannel(this.#channel, ranks, instance, background)
    return new CheckedCommunicator(this.#inner('group', channel), channel)
  }

  close(): Promise<void> {
    this.#closing ??= this.#runner.close()
    return this.#closing
  }

  #pairCall(method: string, data: Numbers, peer: number): Call {
    this.#open(method)
    const dtype = checkedDtype(method, data)
    const what = method === 'send' ? 'send to rank' : 'recv from rank'
    checkRank(what, peer, this.size)
    if (peer === this.rank) throw new LockstepError(`${what} ${peer}, by itself: expected another rank`)
    return { operation: 'send_recv', dtype, count: data.length }
  }

  #pair(method: 'send' | 'recv', from: number, to: number): Runner {
    const key = `${from} ${to}`
    const runner = this.#pairs.get(key) ?? this.#inner(method, pairChannel(this.#channel, from, to))
    this.#pairs.set(key, runner)
    return runner
  }

  #inner(method: string, channel: Channel): Runner {
    if (this.#runner.group) return this.#runner.group(channel)
    throw new LockstepError(`${method} is not possible on this transport: connect the ranks over another one`)
  }

  #open(method: string): void {
    if (this.#closing) {
      throw new LockstepError(`${method} was called after close(): call it before, or init() a new world`)
    }
  }
}

const REDUCTIONS = { allReduce: 'all_reduce', reduce: 'reduce', reduceScatter: 'reduce_scatter' } as const

function reductionCall(method: keyof typeof REDUCTIONS, data: Numbers, op: ReduceOp): Call {
  const dtype = checkedDtype(method, data)
  checkReduction(op, dtype)
  return { operation: REDUCTIONS[method], dtype, count: data.length, reduction: op }
}
