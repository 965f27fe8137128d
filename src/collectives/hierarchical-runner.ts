/**
 * Collectives of ranks on several hosts. A large all-reduce is hierarchical (Horovod, NCCL's tree of rings): each host
 * reduces in shared memory, the owners of the same slice reduce it over all hosts, each host shares the outcome. So every
 * byte crosses the network once, whatever the number of ranks on a host. Whatever else: over the links between all ranks;
 * within a host, sub-groups and pairs of ranks use shared memory.
 *
 * Its three phases are channels of their own, so that of several all-reduces one is reduced while another one travels.
 * All ranks also meet on the links under its fingerprint, without anybody waiting for that: whoever disagrees, dies or does
 * not come is found there, as for every other operation. What breaks the links breaks the host's shared memory, and back.
 */
import type { Call } from './call.js'
import { type Channel, groupChannel, worldChannel } from './channel.js'
import type { ReduceOp } from './communicator.js'
import { CollectiveError } from './failures.js'
import { reduceOwnSlice, spreadSlices } from './hierarchical-phases.js'
import { columnOf, slicesOf, type Topology } from './hierarchical-topology.js'
import { divide } from './reduce.js'
import type { SharedMemoryCommunicator } from './shared-memory/communicator.js'
import type { Group } from './shared-memory/group.js'
import type { ChannelRunner } from './shared-memory/runner.js'
import type { Runner, Task } from './task.js'

/** Up to here recursive doubling over all ranks has fewer steps, and bytes do not matter. */
const FLAT_BYTES = 32 * 1024

/** The shared memory of one host: two channels of all its ranks. */
interface Host {
  readonly links: SharedMemoryCommunicator
  readonly up: ChannelRunner
  readonly down: ChannelRunner
}

export class HierarchicalRunner implements Runner {
  readonly #links: Runner
  readonly #topology: Topology
  readonly #host: Host | undefined
  /** This rank with the owners of the same slice on the other hosts. */
  readonly #column: Runner | undefined
  readonly #reduced = new InOrder()
  readonly #travelled = new InOrder()
  readonly #inFlight = new Set<Promise<void>>()
  #failure: CollectiveError | undefined

  /**
   * @param links between all ranks
   * @param shared with the other ranks of this host; undefined if there are none
   */
  constructor(links: Runner, shared: SharedMemoryCommunicator | undefined, topology: Topology) {
    this.#links = links
    this.#topology = topology
    const { host } = topology
    if (shared) {
      const down = groupChannel(worldChannel(host.length), [...host.keys()], 0)
      this.#host = {
        links: shared,
        up: shared.runner,
        down: shared.runner.group({ ...down, name: ' after the hosts have met' }),
      }
    }
    const column = columnOf(topology)
    if (column) {
      const channel = groupChannel(worldChannel(links.size), column, 0)
      this.#column = links.group!({ ...channel, name: ` between hosts (ranks ${column.join(', ')})` })
    }
  }

  get rank(): number {
    return this.#links.rank
  }

  get size(): number {
    return this.#links.size
  }

  /** Over the network, and in shared memory by sub-groups and pairs. */
  get bytesSent(): number {
    return this.#links.bytesSent + (this.#host?.links.bytesSent ?? 0)
  }

  run(task: Task): Promise<void> {
    const { call, output } = task
    const large = call.operation === 'all_reduce' && output!.data.byteLength > FLAT_BYTES
    return this.guard(() => (large ? this.#allReduce(task) : this.#links.run(task)))
  }

  group(channel: Channel): Runner {
    const { host } = this.#topology
    const inside = this.#host && channel.ranks.every((rank) => host.includes(rank))
    if (!inside) return new Part(this, this.#links.group!(channel))
    const ranks = channel.ranks.map((rank) => host.indexOf(rank))
    return new Part(this, this.#host!.up.group({ ...channel, ranks }), host)
  }

  async close(): Promise<void> {
    await Promise.allSettled([...this.#inFlight])
    await this.#host?.links.close()
    await this.#links.close()
  }

  /** Runs something that breaks everything if it fails. */
  guard(work: () => Promise<void>): Promise<void> {
    if (this.#failure) return Promise.reject(this.#failure)
    const running = work().catch((error) => {
      throw this.#fail(error)
    })
    this.#inFlight.add(running)
    const settled = () => void this.#inFlight.delete(running)
    running.then(settled, settled)
    return running
  }

  #fail(cause: Error): CollectiveError {
    if (this.#failure) return this.#failure
    const what = `rank ${this.rank} failed: ${cause.message}`
    this.#failure = cause instanceof CollectiveError ? cause : new CollectiveError(what, { cause })
    this.#host?.links.abort(this.#failure)
    this.#links.abort!(this.#failure)
    return this.#failure
  }

  async #allReduce({ call, output }: Task): Promise<void> {
    const { data } = output!
    const announcement: Call = { ...call, operation: 'hierarchical_all_reduce' }
    const announced = this.#links.run({ call: announcement, elements: 0 })
    announced.catch((error) => this.#fail(error)) // at once, so that nobody waits in shared memory
    const slices = slicesOf(data.length, this.#topology)
    const { start, end } = slices[this.#topology.place]!
    const own = data.subarray(start, end)
    const op: ReduceOp = call.reduction === 'mean' ? 'sum' : call.reduction!

    let memory: Group | undefined
    let inPlace = false
    await this.#reduced.settle(
      this.#host?.up.inOrder(announcement, async (group) => {
        memory = group
        inPlace = await reduceOwnSlice(group, data, slices, op)
      }),
    )
    const all = { data: own, at: 0 }
    const across: Call = { ...call, count: own.length, reduction: op }
    await this.#travelled.settle(
      this.#column?.run({ call: across, elements: own.length, input: all, output: all }),
    )
    if (call.reduction === 'mean') divide(own, this.size)
    await this.#host?.down.inOrder(announcement, (group) =>
      spreadSlices(group, memory!, data, slices, inPlace),
    )
    await announced
  }
}

/** A sub-group or a pair, on the links or in a host's shared memory; so are the groups within it. */
class Part implements Runner {
  readonly #whole: HierarchicalRunner
  readonly #runner: Runner
  /** In shared memory: the ranks that are there by their places, as channels name them there. */
  readonly #host: readonly number[] | undefined

  constructor(whole: HierarchicalRunner, runner: Runner, host?: readonly number[]) {
    this.#whole = whole
    this.#runner = runner
    this.#host = host
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

  run(task: Task): Promise<void> {
    return this.#whole.guard(() => this.#runner.run(task))
  }

  group(channel: Channel): Runner {
    const ranks = this.#host ? channel.ranks.map((rank) => this.#host!.indexOf(rank)) : channel.ranks
    return new Part(this.#whole, this.#runner.group!({ ...channel, ranks }), this.#host)
  }

  close(): Promise<void> {
    return this.#runner.close()
  }
}

/** Has its callers go on in the order in which they came, as all ranks must begin the next phases in the same one. */
class InOrder {
  #last: Promise<unknown> = Promise.resolve()

  settle(work: Promise<void> | undefined): Promise<void> {
    work?.catch(() => {}) // its caller hears of it below, when those before have gone on
    const inOrder = this.#last.then(() => work)
    this.#last = inOrder.catch(() => {})
    return inOrder
  }
}
