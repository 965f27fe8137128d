/**
 * The communicator of ranks that share memory: every collective, and `share`, which makes an array one that they can all
 * reach. It runs in the caller's thread: a rank that waits for others has nothing else to do.
 */
import { LockstepError } from '../../errors.js'
import { worldChannel } from '../channel.js'
import type { CollectiveError } from '../failures.js'
import { CheckedCommunicator } from '../runner.js'
import type { World } from './channels.js'
import { SHARE } from './fingerprint.js'
import type { Group } from './group.js'
import { ChannelRunner } from './runner.js'
import { requireOwnPages, shareMemory } from './share.js'

export interface SharingOptions {
  /** The largest WebAssembly.Memory to map all ranks' parts of a shared array into; more of them are made if needed. */
  readonly windowBytes: number
  /** The process of rank 0. */
  readonly rootProcess: number
  /** Frees what connecting took. */
  readonly release: () => void
}

export class SharedMemoryCommunicator extends CheckedCommunicator {
  /** For communicators that are made of this one and another. */
  readonly runner: ChannelRunner
  readonly #world: World
  readonly #options: SharingOptions
  #leaving: Promise<void> | undefined

  constructor(world: World, group: Group, options: SharingOptions) {
    const channel = worldChannel(world.size)
    const runner = new ChannelRunner(world, channel, group)
    super(runner, channel)
    this.#world = world
    this.runner = runner
    this.#options = options
  }

  /** @throws LockstepError for an array that is not on pages of its own; otherwise as any collective. */
  async share(data: Float32Array): Promise<string | undefined> {
    if (this.#leaving) throw new LockstepError('share was called after close(): call it before')
    requireOwnPages(data)
    const { system } = this.#world
    const { windowBytes, rootProcess } = this.#options
    let reason: string | undefined
    await this.runner.inOrder({ operation: SHARE, dtype: 'float32', count: data.length }, async (group) => {
      reason = await shareMemory(group, system, data, windowBytes, rootProcess)
    })
    return reason
  }

  /** Breaks this group, on all of its ranks, by an error from elsewhere, which keeps its own report. */
  abort(error: CollectiveError): void {
    const { recentOperations } = error
    this.#world.fate.fail(error)
    if (recentOperations.length > 0) error.recentOperations = recentOperations
  }

  override close(): Promise<void> {
    this.#leaving ??= super.close().then(() => {
      this.#world.fate.leave()
      this.#options.release()
    })
    return this.#leaving
  }
}
