/**
 * Memory for a sub-group or a pair of ranks, made when its first operation runs: its rank 0 makes a file and enters it in
 * the world's directory, the others look there. Nobody meets for it before.
 */
import { closeSync, fstatSync, openSync } from 'node:fs'
import { setImmediate as turn } from 'node:timers/promises'
import { bytesPerElement, type Call } from '../call.js'
import type { Channel } from '../channel.js'
import { CollectiveError, PeerFailedError } from '../failures.js'
import { Arena } from '../kernels/arena.js'
import { Control, type ControlOptions } from './control.js'
import type { Fate } from './fate.js'
import { Group } from './group.js'
import { CHANNELS, ENTRIES, entryOf, layoutIn, layoutOf, PAGE, wholePages } from './layout.js'
import type { System } from './system.js'

/** Smaller than the world's: there may be one for each pair of ranks, in each direction. */
const STAGE_BYTES = 4 * PAGE
/** In the background up to this, so that what is sent there is one piece: the next would wait until the other looks. */
const MOST_STAGE_BYTES = 64 * PAGE

export interface World {
  readonly size: number
  /** The world's control block. */
  readonly words: Int32Array
  readonly system: System
  readonly fate: Fate
  readonly options: ControlOptions
}

interface Opened {
  readonly group: Group
  /** To be called once all members have taken part in an operation. */
  met(): void
}

/**
 * @param first its first operation
 * @throws CollectiveError when the world breaks, or the channel's rank 0 does not come in time.
 */
export async function openChannel(world: World, channel: Channel, first: Call): Promise<Opened> {
  const { system, fate, options } = world
  const size = channel.ranks.length
  const founder = channel.ranks[0] === fate.rank
  const isSend = channel.background && first.operation === 'send_recv'
  const wanted = isSend
    ? Math.min(wholePages(first.count * bytesPerElement(first.dtype)), MOST_STAGE_BYTES)
    : 0
  const planned = layoutOf(size, Math.max(STAGE_BYTES, wanted))
  const file = founder ? system.createFile(planned.fileBytes) : await lookUp(world, channel)
  // Ranks that disagree about the operation find out in it.
  const layout = founder ? planned : layoutIn(size, fstatSync(file).size)
  const { buffer } = new Arena(layout.memoryBytes).memory
  system.map(new Uint8Array(buffer, 0, layout.fileBytes), file, 0)
  if (founder) enter(world, channel, file)
  else closeSync(file)
  const control = new Control(buffer, system, fate, channel, options)
  const group = new Group(channel.ranks.indexOf(fate.rank), size, control, buffer, layout)
  return { group, met: () => founder && closeSync(file) }
}

function enter({ words, size }: World, channel: Channel, file: number): void {
  const index = Atomics.add(words, CHANNELS, 1)
  if (index >= ENTRIES) {
    closeSync(file)
    const what = `there are ${ENTRIES} sub-groups and pairs of ranks already`
    throw new CollectiveError(`${what}: make them once, before the loop that uses them`)
  }
  const entry = entryOf(size, index)
  words[entry] = channel.id
  words[entry + 1] = channel.id / 2 ** 32
  words[entry + 2] = process.pid
  Atomics.store(words, entry + 3, file + 1) // last: it publishes the others
}

/** @returns a descriptor of the channel's file. */
async function lookUp(world: World, channel: Channel): Promise<number> {
  const { words, size, fate, options } = world
  const door = new Int32Array(words.buffer, CHANNELS * 4, 1)
  const founder = channel.ranks[0]!
  for (const started = performance.now(); ; ) {
    const seen = Atomics.load(door, 0)
    for (let index = 0; index < Math.min(seen, ENTRIES); index++) {
      const entry = entryOf(size, index)
      const file = Atomics.load(words, entry + 3) - 1
      const here = words[entry] === (channel.id | 0) && words[entry + 1] === Math.floor(channel.id / 2 ** 32)
      if (file >= 0 && here) return openSync(`/proc/${words[entry + 2]}/fd/${file}`, 'r+')
    }
    fate.orderly()
    const ended = fate.hasEnded(founder)
    const who = `rank ${fate.nameOf(founder)}`
    const where = `rank ${fate.nameOf(fate.rank)} was waiting for it${channel.name}`
    if (fate.hasLeft(founder)) throw fate.fail(new CollectiveError(`${who} closed its world while ${where}`))
    if (ended)
      throw fate.fail(
        new PeerFailedError(fate.nameOf(founder), `${who} failed: its process ended while ${where}`),
      )
    if (performance.now() - started > options.timeoutMs) {
      const what = `${who} has not called the first operation${channel.name} for ${options.timeoutMs / 1000} s`
      throw fate.fail(
        new CollectiveError(`${what}; see what it is doing, or raise the timeout (LOCKSTEP_TIMEOUT)`),
      )
    }
    if (options.waiting.blocks) world.system.sleep(door, seen, 1)
    await turn()
  }
}
