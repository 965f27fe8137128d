/**
 * Sums of the largest elements of every tensor: each rank picks its own, all gather what everybody picked, and each adds
 * that up in rank order. A rank sends W - 1 times its picks, a position of one to two bytes and a value each.
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
import { type Picks, roomFor, Selection } from './select.js'
import { packPositions, positionBytes, unpackPositions } from './sorted-positions.js'

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
  readonly selection: Selection
}

/** The last two with momentum only. */
type Buffers = [
  ...[block: Float32Array, picked: Float32Array, values: Float32Array],
  ...[kept: Float32Array, keptBefore: Float32Array],
  velocity?: Float32Array,
  velocityBefore?: Float32Array,
]

export class SparseSum implements CompressedSum {
  readonly state: Readonly<Record<string, Float32Array>>
  /** Where each tensor lies in the flat buffers. */
  private readonly parts: readonly Part[]
  private readonly block: Float32Array
  /** What has not been sent yet. */
  private readonly kept: Float32Array
  private readonly velocity: Float32Array | undefined
  /** Both as they were before this step. */
  private readonly keptBefore: Float32Array
  private readonly velocityBefore: Float32Array | undefined
  /** Picks of one rank. */
  private readonly positions: Uint32Array
  private readonly picked: Float32Array
  /** This rank's picks as they travel, positions behind values, and then all ranks'. */
  private readonly message: Uint8Array
  private readonly messages: Uint8Array

  constructor(
    private readonly options: SparseOptions,
    tensors: readonly TensorShape[],
    private readonly size: number,
  ) {
    const { codec, momentum, feedback } = options
    const sizes = tensors.map(sizeOf)
    const total = sumOf(sizes)
    const most = sizes.map((length) => picksOf(length, options.ratioAt(1))) // a warm-up sends most at the first step
    const picks = wholeBlocks(codec, sumOf(most))
    const candidates = Math.max(...sizes.map((length, i) => roomFor(length, most[i]!)))
    const messageBytes = bytesOf(codec, picks) + positionBytes(picks, total)
    const { floats, bytes } = floatsAndBytes(
      [
        Math.min(total, BLOCK_FLOATS),
        picks,
        candidates,
        total,
        total,
        ...(momentum > 0 ? [total, total] : []),
      ],
      [4 * picks, messageBytes, size * messageBytes, 4 * candidates, 4 * 2048],
    )
    const [block, picked, values, kept, keptBefore, velocity, velocityBefore] = floats as Buffers
    const [pickedAt, message, messages, positions, counts] = bytes as [Uint8Array, ...Uint8Array[]]
    const room = { values, positions: words(positions!), counts: words(counts!) }
    this.parts = sizes.map((length, i) => {
      const start = sumOf(sizes.slice(0, i))
      return { start, end: start + length, selection: new Selection(room) }
    })
    this.block = block
    this.picked = picked
    this.kept = kept
    this.keptBefore = keptBefore
    this.velocity = velocity
    this.velocityBefore = velocityBefore
    this.positions = words(pickedAt!)
    this.message = message!
    this.messages = messages!
    this.state = {
      ...(feedback && { kept: this.kept }),
      ...(this.velocity && { velocity: this.velocity }),
    }
  }

  async sum(links: Communicator, tensors: readonly Float32Array[], { step, samples }: Moment): Promise<void> {
    const { kept, size, options, parts } = this
    const excess = options.clipNorm > 0 ? norm(tensors) / (options.clipNorm * Math.sqrt(size) * samples) : 0
    if (!options.feedback) kept.fill(0)
    const ratio = options.ratioAt(step)
    const counts = parts.map(({ start, end }) => picksOf(end - start, ratio))
    const picks = this.picks(counts)
    let at = 0
    for (const [i, part] of parts.entries()) {
      this.pick(tensors[i]!, part, excess, picks, at, counts[i]!)
      at += counts[i]!
    }
    const message = this.pack(picks)
    const all = this.messages.subarray(0, size * message.length)
    await links.allGather(message, undefined, all)
    for (const tensor of tensors) tensor.fill(0) // only now: picks are added while it is in the cache
    for (let from = 0; from < all.length; from += message.length) {
      this.unpack(picks, all.subarray(from, from + message.length))
      this.addPicks(tensors, counts, picks)
    }
  }

  undo(): void {
    this.kept.set(this.keptBefore)
    if (this.velocity) this.velocity.set(this.velocityBefore!)
  }

  /** Adds a gradient, divided by `excess` if that is above 1, to what is kept of it, and finds the largest elements of that. */
  private pick(
    gradient: Float32Array,
    { start, end, selection }: Part,
    excess: number,
    { positions, values }: Picks,
    at: number,
    count: number,
  ): void {
    const { keptBefore, velocity, velocityBefore, options } = this
    const kept = this.kept.subarray(start, end)
    selection.begin(kept.length, count)
    eachBlock(gradient, this.block, (part, from) => {
      const to = from + part.length
      const own = kept.subarray(from, to)
      const ownVelocity = velocity?.subarray(start + from, start + to)
      keptBefore.set(own, start + from)
      if (ownVelocity) velocityBefore!.set(ownVelocity, start + from)
      if (excess > 1) divide(part, excess)
      if (ownVelocity) accelerate(ownVelocity, own, part, options.momentum)
      else add(own, part)
      selection.look(own, from)
    })
    const found = selection.largest(kept, count)
    for (let i = 0; i < count; i++) positions[at + i] = start + found.positions[i]!
    values.set(found.values, at)
  }

  /** Takes picks out of what is kept, as far as they are not lost in the codec's rounding, and packs them into a message. */
  private pack({ positions, values }: Picks): Uint8Array {
    const { kept, velocity, message, options } = this
    const codes = message.subarray(0, bytesOf(options.codec, values.length))
    values.fill(0, positions.length)
    options.codec.compress(codes, values)
    options.codec.decompress(values, codes)
    for (let i = 0; i < positions.length; i++) kept[positions[i]!]! -= values[i]!
    if (velocity) for (const position of positions) velocity[position] = 0
    const packed = message.subarray(0, codes.length + positionBytes(positions.length, kept.length))
    packPositions(packed.subarray(codes.length), positions, kept.length)
    return packed
  }

  private unpack({ positions, values }: Picks, message: Uint8Array): void {
    const { codec } = this.options
    const codes = message.subarray(0, bytesOf(codec, values.length))
    codec.decompress(values, codes)
    unpackPositions(positions, message.subarray(codes.length), this.kept.length)
  }

  private addPicks(
    tensors: readonly Float32Array[],
    counts: readonly number[],
    { positions, values }: Picks,
  ): void {
    let at = 0
    for (const [i, tensor] of tensors.entries()) {
      const { start } = this.parts[i]!
      for (const end = at + counts[i]!; at < end; at++) tensor[positions[at]! - start]! += values[at]!
    }
  }

  /** Room for so many of each tensor, and for their values as whole blocks of the codec. */
  private picks(counts: readonly number[]): Picks {
    const count = sumOf(counts)
    return {
      positions: this.positions.subarray(0, count),
      values: this.picked.subarray(0, wholeBlocks(this.options.codec, count)),
    }
  }
}

const norm = (tensors: readonly Float32Array[]) =>
  Math.sqrt(tensors.reduce((sum, tensor) => tensor.reduce((squares, x) => squares + x * x, sum), 0))

const words = ({ buffer, byteOffset, length }: Uint8Array) =>
  new Uint32Array(buffer, byteOffset, Math.floor(length / 4))

const picksOf = (length: number, ratio: number) => Math.max(1, Math.round(ratio * length))

const sumOf = (counts: readonly number[]) => counts.reduce((sum, count) => sum + count, 0)
