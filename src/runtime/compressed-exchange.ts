/**
 * Sums a model's gradients over all ranks with fewer bytes: large tensors through a compressor, group by group, and all
 * others (biases, norms, the stats) in one exact all-reduce before them. It does not know what the numbers mean.
 */
import type { Communicator } from '../collectives/communicator.js'
import {
  type CompressedSum,
  type Compressor,
  type Moment,
  pack,
  unpack,
} from '../collectives/compression/compressor.js'
import type { NamedTensor } from './checkpoint/safetensors.js'
import type { Bucket, GradientExchange } from './gradient-exchange.js'
import type { TensorRange } from './optimizers/optimizer.js'
import { timelineOf } from './timeline.js'

/** Smaller tensors, and vectors whatever their size, would lose more than they save. */
const LEAST_ELEMENTS = 1024

interface Group {
  readonly tensors: readonly Float32Array[]
  readonly elements: number
  /** In the buffer, one behind the last element. */
  readonly end: number
  readonly sum: CompressedSum
  /** Of its own, so that groups need not wait for each other in an order that all ranks keep. */
  readonly links: Communicator
}

export class CompressedExchange implements GradientExchange {
  readonly state: readonly NamedTensor[]
  readonly needsFinite = true
  private readonly groups: readonly Group[]
  /** The stats and small tensors, in the buffer and packed. */
  private readonly small: readonly Float32Array[]
  private readonly packed: Float32Array
  private logged = false

  /**
   * @param buffer stats, then gradients from `stats` on
   * @param tensors what lies in the gradients, in ascending order
   * @param bytes large tensors travel together up to about so many
   * @param log told once what is compressed, and what it brought
   */
  constructor(
    private readonly links: Communicator,
    private readonly compressor: Compressor,
    private readonly buffer: Float32Array,
    stats: number,
    private readonly tensors: readonly TensorRange[],
    bytes: number,
    private readonly log: (line: string) => void,
  ) {
    const view = ({ start, end }: TensorRange) => buffer.subarray(stats + start, stats + end)
    const large = tensors.filter(isLarge)
    this.small = [buffer.subarray(0, stats), ...tensors.filter((tensor) => !isLarge(tensor)).map(view)]
    this.packed = new Float32Array(this.small.reduce((sum, { length }) => sum + length, 0))
    const everybody = Array.from({ length: links.size }, (_, rank) => rank)
    this.groups = grouped(large, bytes / 4).map((group) => ({
      tensors: group.map(view),
      elements: group.reduce((sum, { start, end }) => sum + end - start, 0),
      end: stats + group.at(-1)!.end,
      sum: compressor.create(group, links.size),
      links: links.group(everybody),
    }))
    this.state = this.groups.flatMap(({ sum }, i) =>
      Object.entries(sum.state).map(([name, data]) => ({ name: `${i}/${name}`, shape: [data.length], data })),
    )
  }

  async *sum(moment: Moment): AsyncGenerator<Bucket> {
    const { buffer, small, packed, groups } = this
    const before = this.links.bytesSent
    pack(packed, small)
    await this.links.allReduce(packed)
    unpack(small, packed)
    // Whoever finds in the stats that this step is not to be stops here, before errors are fed back.
    yield { start: 0, end: small[0]!.length }
    const timeline = timelineOf(this.links)
    const sums = groups.map(({ sum, tensors, links }, i) => {
      const exchange = () => sum.sum(links, tensors, moment)
      const name = `${this.compressor.name}, bucket ${i + 1}`
      return timeline ? timeline.during('compression', name, exchange) : exchange()
    })
    for (const sum of sums) sum.catch(() => {}) // thrown below
    let start = small[0]!.length
    try {
      for (const [i, { end }] of groups.entries()) {
        await sums[i]
        yield { start, end }
        start = end
      }
    } finally {
      await Promise.allSettled(sums)
    }
    if (start < buffer.length) yield { start, end: buffer.length }
    this.report(this.links.bytesSent - before)
  }

  /** Once, as soon as it brings something: a warm-up does not. */
  private report(sent: number): void {
    const { size } = this.links
    const elements = this.tensors.reduce((sum, { start, end }) => sum + end - start, 0)
    const plain = (2 * (size - 1) * 4 * elements) / size
    if (this.logged || sent > 0.9 * plain) return
    this.logged = true
    const [tensors, large] = [this.groups.flatMap((group) => group.tensors), this.groups]
    const compressed = large.reduce((sum, group) => sum + group.elements, 0)
    this.log(
      `gradients travel as ${this.compressor.name}: ${tensors.length} of ${this.tensors.length} tensors, ` +
        `${((100 * compressed) / elements).toFixed(1)} % of ${elements} numbers; a rank sends ${mb(sent)} a step, ` +
        `${(plain / sent).toFixed(1)} times less than the ${mb(plain)} of float32`,
    )
  }
}

const isLarge = ({ shape, start, end }: TensorRange) => shape.length > 1 && end - start >= LEAST_ELEMENTS

/** Cuts a list of tensors into runs of up to about `elements`, at least one tensor each. */
function grouped(tensors: readonly TensorRange[], elements: number): TensorRange[][] {
  const groups: TensorRange[][] = []
  let room = 0
  for (const tensor of tensors) {
    const length = tensor.end - tensor.start
    if (length > room || groups.length === 0) {
      groups.push([])
      room = elements
    }
    groups.at(-1)!.push(tensor)
    room -= length
  }
  return groups
}

const mb = (bytes: number) => `${(bytes / 1e6).toFixed(2)} MB`
