/**
 * Connects the ranks of one host through shared memory, or says why that cannot be: all ranks come to the same answer, so
 * that all can take the next transport. It refuses to fall back itself.
 *
 *   1  each rank looks whether it could, and publishes its process; rank 0 also the file that it made
 *   2  each rank maps that file, and publishes that it has
 *   3  self-check through the memory itself: a pattern from every rank, read by every other, and the verdicts
 *
 * The file has no name (memfd_create), the others open it through /proc/PID/fd: there is nothing to unlink, nothing to be
 * left in /dev/shm by a rank that is killed in between, and no /dev/shm of 64 MiB (Docker's) to be filled.
 */
import { randomBytes } from 'node:crypto'
import { closeSync, openSync, readFileSync, readlinkSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { LockstepError } from '../../errors.js'
import { worldChannel } from '../channel.js'
import { Arena } from '../kernels/arena.js'
import { SharedMemoryCommunicator } from './communicator.js'
import { Control, type Waiting } from './control.js'
import { Fate } from './fate.js'
import { Group } from './group.js'
import {
  HEADER_NONCE,
  type Layout,
  layoutOf,
  MAGIC,
  NONCE_WORDS,
  stageOf,
  stateOf,
  VERDICT,
  VERSION,
  wholePages,
} from './layout.js'
import { loadSystem, SharedMemoryUnavailable, type System } from './system.js'

/** Where ranks learn of each other: a key-value store that all of them see. */
export interface Exchange {
  set(key: string, value: string): Promise<void> | void
  /** Waits until the key is set. */
  get(key: string, timeoutMs: number): Promise<string>
}

export interface SharedMemoryOptions {
  readonly rank: number
  readonly size: number
  readonly exchange: Exchange
  /** What errors call the ranks, where these are not all ranks of the job. */
  readonly names?: readonly number[]
  /** How long connecting may take, and how long a collective may make no progress. */
  readonly timeoutMs?: number
  /** Each rank's two buffers, through which numbers pass that are not shared: bytes of one. */
  readonly stageBytes?: number
  /** The largest WebAssembly.Memory to map shared arrays of all ranks into; more of them are made if needed. */
  readonly windowBytes?: number
  readonly waiting?: Waiting
  /** Where the system calls come from. */
  readonly load?: () => Promise<System>
}

const STAGE_BYTES = 2 ** 20
const WINDOW_BYTES = 2 ** 32

/** What a rank publishes. */
interface Card {
  readonly pid: number
  /** The kernel and the process numbers that `pid` is of. */
  readonly host: string
  /** Rank 0's: the file, and 16 random bytes that it begins with. */
  readonly file: number
  readonly nonce: string
}

/** What a rank publishes instead of anything that it cannot do. */
interface Refusal {
  readonly reason: string
}

/**
 * @throws SharedMemoryUnavailable, on every rank and with the same reason, when one of them cannot; LockstepError for a
 *   rank that does not come within `timeoutMs`, PeerFailedError for one that came and ended.
 */
export async function connectSharedMemory(options: SharedMemoryOptions): Promise<SharedMemoryCommunicator> {
  const {
    rank,
    size,
    names = worldChannel(size).ranks,
    timeoutMs = 60_000,
    stageBytes = STAGE_BYTES,
    windowBytes = WINDOW_BYTES,
  } = options
  const layout = layoutOf(size, wholePages(stageBytes))
  const joined = new Joined(layout, rank)
  try {
    const cards = await agree<Card>('shm', options, timeoutMs, () =>
      joined.introduce(options.load ?? loadSystem),
    )
    requireOneHost(cards)
    await agree('shm-mapped', options, timeoutMs, () => joined.map(cards))
    const { system, memory, processes } = joined
    const { buffer } = memory
    const controlOptions = { timeoutMs, waiting: options.waiting ?? defaultWaiting(size) }
    const fate = new Fate(rank, buffer, system, processes, names)
    const control = new Control(buffer, system, fate, worldChannel(size), controlOptions)
    joined.closeFile()
    await selfCheck(control, buffer, layout, rank)
    const world = { size, words: control.words, system, fate, options: controlOptions }
    return new SharedMemoryCommunicator(world, new Group(rank, size, control, buffer, layout), {
      windowBytes,
      rootProcess: cards[0]!.pid,
      release: () => joined.closeProcesses(),
    })
  } catch (error) {
    joined.closeFile()
    joined.closeProcesses()
    throw error
  }
}

/**
 * Spinning is fastest while every rank has a core, and takes the core from who is waited for when not. It is brief, since
 * two ranks may share a core although there are enough, when others use the machine; and a yield costs only 0.6 µs.
 */
function defaultWaiting(size: number): Waiting {
  return { spins: size <= availableParallelism() ? 200 : 0, yields: 100, blocks: true }
}

/** What this rank has opened on the way. */
class Joined {
  system!: System
  memory!: WebAssembly.Memory
  processes: number[] = []
  readonly #layout: Layout
  readonly #rank: number
  #file: number | undefined

  constructor(layout: Layout, rank: number) {
    this.#layout = layout
    this.#rank = rank
  }

  async introduce(load: () => Promise<System>): Promise<Card> {
    this.system = await load()
    this.memory = new Arena(this.#layout.memoryBytes).memory
    const card = { pid: process.pid, host: hostIdentity(), file: -1, nonce: '' }
    if (this.#rank > 0) return card
    this.#file = this.system.createFile(this.#layout.fileBytes)
    this.#map(this.#file)
    const words = new Int32Array(this.memory.buffer)
    const nonce = new Int32Array(randomBytes(NONCE_WORDS * 4).buffer.slice(0, NONCE_WORDS * 4))
    words.set(header(this.#layout.size, nonce))
    return { ...card, file: this.#file, nonce: nonce.join() }
  }

  map(cards: readonly Card[]): object {
    const { pid, file, nonce } = cards[0]!
    if (this.#rank > 0) {
      const descriptor = openSync(`/proc/${pid}/fd/${file}`, 'r+')
      try {
        this.#map(descriptor)
      } finally {
        closeSync(descriptor)
      }
    }
    const expected = header(this.#layout.size, Int32Array.from(nonce.split(','), Number))
    const found = new Int32Array(this.memory.buffer, 0, expected.length)
    if (found.join() !== expected.join()) throw new Error(`what rank 0 has shared is not what is mapped`)
    this.processes = cards.map((card) => this.system.watch(card.pid))
    return {}
  }

  #map(descriptor: number): void {
    this.system.map(new Uint8Array(this.memory.buffer, 0, this.#layout.fileBytes), descriptor, 0)
  }

  closeFile(): void {
    if (this.#file !== undefined) closeSync(this.#file)
    this.#file = undefined
  }

  closeProcesses(): void {
    for (const descriptor of this.processes.splice(0)) closeSync(descriptor)
  }
}

function header(size: number, nonce: Int32Array): Int32Array {
  const words = new Int32Array(HEADER_NONCE + NONCE_WORDS)
  words.set([MAGIC, VERSION, size])
  words.set(nonce.subarray(0, NONCE_WORDS), HEADER_NONCE)
  return words
}

/** The running kernel, and the name space that process numbers are of: containers share the first and not the second. */
export function hostIdentity(): string {
  const boot = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()
  return `${boot} ${readlinkSync('/proc/self/ns/pid')}`
}

function requireOneHost(cards: readonly Card[]): void {
  const other = cards.findIndex(({ host }) => host !== cards[0]!.host)
  if (other > 0)
    throw new SharedMemoryUnavailable(
      `ranks 0 and ${other} are on different hosts or in different containers`,
    )
}

/**
 * Does this rank's part of a step, publishes its outcome and collects all others'.
 * @throws SharedMemoryUnavailable, on every rank alike, if one of them could not.
 */
async function agree<T extends object>(
  step: string,
  { rank, size, exchange, names = worldChannel(size).ranks }: SharedMemoryOptions,
  timeoutMs: number,
  part: () => T | Promise<T>,
): Promise<T[]> {
  let own: object
  try {
    own = await part()
  } catch (error) {
    own = { reason: `rank ${names[rank]}: ${(error as Error).message}` } satisfies Refusal
  }
  await exchange.set(`${step}/${rank}`, JSON.stringify(own))
  const outcomes = await Promise.all(
    Array.from({ length: size }, (_, peer) =>
      lookUp(`${step}/${peer}`, names[peer]!, names[rank]!, exchange, timeoutMs),
    ),
  )
  const refusal = outcomes.find((outcome): outcome is Refusal => 'reason' in outcome)
  if (refusal) throw new SharedMemoryUnavailable(refusal.reason)
  return outcomes as T[]
}

async function lookUp(
  key: string,
  peer: number,
  rank: number,
  exchange: Exchange,
  timeoutMs: number,
): Promise<object> {
  try {
    return JSON.parse(await exchange.get(key, timeoutMs))
  } catch (cause) {
    const what = `rank ${rank} waits for rank ${peer}, which has not said its process`
    throw new LockstepError(`${what}: ${(cause as Error).message}`, { cause })
  }
}

/** Every rank writes a pattern to its buffers, and reads all others'. @throws SharedMemoryUnavailable on all alike. */
async function selfCheck(control: Control, buffer: ArrayBuffer, layout: Layout, rank: number): Promise<void> {
  const { size, stageBytes } = layout
  const words = (peer: number) => new Int32Array(buffer, stageOf(layout, peer, 0), (2 * stageBytes) / 4)
  const step = 1021 // words: every page is touched, and no two at the same place
  for (let i = 0; i < words(rank).length; i += step) words(rank)[i] = pattern(rank, i)
  if (!control.arrive()) await control.others()
  let right = 1
  for (let peer = 0; peer < size; peer++) {
    const theirs = words(peer)
    for (let i = 0; i < theirs.length; i += step) if (theirs[i] !== pattern(peer, i)) right = 0
  }
  control.words[stateOf(rank) + VERDICT] = right
  if (!control.arrive()) await control.others()
  for (let peer = 0; peer < size; peer++) {
    if (control.words[stateOf(peer) + VERDICT] === 1) continue
    throw new SharedMemoryUnavailable(`rank ${peer} reads other numbers than its peers have written`)
  }
}

function pattern(rank: number, index: number): number {
  return Math.imul(index + 1, 0x9e37_79b1) ^ rank
}
