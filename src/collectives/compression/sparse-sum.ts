/**
 * Sums of the largest elements of every tensor: each rank picks its own, all gather what everybody picked, and each adds
 * that up in rank order. A rank sends W - 1 times its picks, a position of 4 bytes and a value each.
 *
 * What is not sent is kept and added to the next step's gradient (Stich et al. 2018). With momentum this is Deep Gradient
 * Compression (Lin et al. 2018): velocities are what is kept and sent, since momentum on a sparse sum would be wrong.
 */
import type { Communicator } from '../communicator.js'
import { add, divide } from '../kernels/kernels.js'
import { bytesOf, type Codec, wholeBlocks } from './codec.js'
import { type CompressedSum, type Moment, sizeOf, type TensorShape } from './compressor.js'
import { accelerate } from './elementwise.js'
import { BLOCK_FLOATS, eachBlock, floatsAndBytes } from './room.js'
import { largest, type Room, roomFor } from './select.js'

export interface SparseOptions {
  /** Share of each tensor's elements that is sent at step 1, 2, …; at least one element always is. */
  ratioAt(step: number): number
  /** How values travel. */
  readonly codec: Codec
  /** Whether what is not sent is kept for the next step. */
  readonly feedback: boolean
  /** 0: none. */
  readonly momentum: number
  /**
   * 0: none. Otherwise a rank's mean gradient (over its samples, of the tensors summed together) is scaled down to this
   * norm times √W before it is kept: the sum over ranks then has about this norm.
   */
  readonly clipNorm: number
}

interface Part {
  readonly start: number
  readonly end: number
}

export class SparseSum implements CompressedSum {
  readonly state: Readonly<Record<string, Float32Array>>
  /** Where each tensor lies in the flat buffers. */
  private readonly parts: readonly Part[]
  private readonly block: Float32Array
  /** What has not been sent yet. */
  private readonly kept: Float32Array
  private readonly velocity: Float32Array | undefined
  private readonly picked: Float32Array
  /** This rank's picks, positions before values, and then all ranks'. */
  private readonly message: Uint8Array
  private readonly messages: Uint8Array
  private readonly room: Room

  constructor(
    private readonly options: SparseOptions,
    tensors: readonly TensorShape[],
    private readonly size: number,
  ) {
    const { codec, momentum, feedback } = options
    let total = 0
    this.parts = tensors.map((tensor) => {
      const start = total
      total += sizeOf(tensor)
      return { start, end: total }
    })
    const most = this.picks(1) // a warm-up sends most at the first step
    const picks = wholeBlocks(codec, sumOf(most))
    const candidates = Math.max(...this.parts.map(({ start, end }, i) => roomFor(end - start, most[i]!)))
    const messageBytes = 4 * picks + bytesOf(codec, picks)
    const { floats, bytes } = floatsAndBytes(
      [Math.min(total, BLOCK_FLOATS), total, picks, candidates, momentum > 0 ? total : 0],
      [messageBytes, size * messageBytes, 4 * candidates, 4 * 2048],
    )
    const [block, kept, picked, found, velocity] = floats as [Float32Array, ...Float32Array[]]
    const [message, messages, positions, counts] = bytes as [Uint8Array, ...Uint8Array[]]
    this.block = block
    this.kept = kept!
    this.picked = picked!
    this.velocity = momentum > 0 ? velocity : undefined
    this.message = message
    this.messages = messages!
    this.room = { values: found!, positions: words(positions!), counts: words(counts!) }
    this.state = {
      ...(feedback && { kept: this.kept }),
      ...(this.velocity && { velocity: this.velocity }),
    }
  }

  async sum(links: Communicator, tensors: readonly Float32Array[], { step, samples }: Moment): Promise<void> {
    const { kept, size, options } = this
    const excess = options.clipNorm > 0 ? norm(tensors) / (options.clipNorm * Math.sqrt(size) * samples) : 0
    if (!options.feedback) kept.fill(0)
    for (const [i, tensor] of tensors.entries()) this.keep(tensor, this.parts[i]!.start, excess)
    const counts = this.picks(step)
    const message = this.take(counts)
    const all = this.messages.subarray(0, size * message.length)
    all.set((await links.allGather(message)) as Uint8Array)
    for (const tensor of tensors) tensor.fill(0)
    for (let rank = 0; rank < size; rank++) {
      this.addPicks(tensors, counts, all.subarray(rank * message.length, (rank + 1) * message.length))
    }
  }

  /** Adds a gradient, divided by `excess` if that is above 1, to what is kept of it from `at` on. */
  private keep(gradient: Float32Array, at: number, excess: number): void {
    const { kept, velocity, options } = this
    eachBlock(gradient, this.block, (part, start) => {
      const of = (array: Float32Array) => array.subarray(at + start, at + start + part.length)
      if (excess > 1) divide(part, excess)
      if (velocity) accelerate(of(velocity), of(kept), part, options.momentum)
      else add(of(kept), part)
    })
  }

  /** How many elements of each tensor are sent at `step`. */
  private picks(step: number): number[] {
    const ratio = this.options.ratioAt(step)
    return this.parts.map(({ start, end }) => Math.max(1, Math.round(ratio * (end - start))))
  }

  /** Moves the largest elements out of `kept`, as far as they are not lost in the codec's rounding, into a message. */
  private take(counts: readonly number[]): Uint8Array {
    const { kept, velocity, options } = this
    const [positions, values, codes] = this.open(this.message, sumOf(counts))
    let at = 0
    this.parts.forEach(({ start, end }, i) => {
      const tensor = kept.subarray(start, end)
      for (const position of largest(tensor, counts[i]!, this.room)) {
        positions[at] = start + position
        values[at++] = tensor[position]!
      }
    })
    options.codec.compress(codes, values)
    options.codec.decompress(values, codes)
    for (let i = 0; i < positions.length; i++) kept[positions[i]!]! -= values[i]!
    if (velocity) for (const position of positions) velocity[position] = 0
    return this.message.subarray(0, 4 * positions.length + codes.length)
  }

  private addPicks(tensors: readonly Float32Array[], counts: readonly number[], message: Uint8Array): void {
    const [positions, values, codes] = this.open(message, sumOf(counts))
    this.options.codec.decompress(values, codes)
    let at = 0
    for (const [i, tensor] of tensors.entries()) {
      const { start } = this.parts[i]!
      for (const end = at + counts[i]!; at < end; at++) tensor[positions[at]! - start]! += values[at]!
    }
  }

  /** A message of `count` picks: their positions, room for their values (whole blocks), and these as they travel. */
  private open(message: Uint8Array, count: number): [Uint32Array, Float32Array, Uint8Array] {
    const values = this.picked.subarray(0, wholeBlocks(this.options.codec, count))
    values.fill(0, count)
    const codes = message.subarray(4 * count, 4 * count + bytesOf(this.options.codec, values.length))
    return [words(message).subarray(0, count), values, codes]
  }
}

const norm = (tensors: readonly Float32Array[]) =>
  Math.sqrt(tensors.reduce((sum, tensor) => tensor.reduce((squares, x) => squares + x * x, sum), 0))

const words = ({ buffer, byteOffset, length }: Uint8Array) =>
  new Uint32Array(buffer, byteOffset, Math.floor(length / 4))

const sumOf = (counts: readonly number[]) => counts.reduce((sum, count) => sum + count, 0)
