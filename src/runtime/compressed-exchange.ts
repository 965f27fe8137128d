/**
 * Sums a model's gradients over all ranks with fewer bytes: large tensors through a compressor, bucket by bucket, after the
 * pass or each as soon as the backward pass has made it; and all others (biases, norms, the stats) in one exact all-reduce.
 * The buckets, and so the results, are the same either way. It does not know what the numbers mean.
 */
import type { Communicator } from '../collectives/communicator.js'
import {
  type CompressedSum,
  type Compressor,
  type Moment,
  pack,
  unpack,
} from '../collectives/compression/compressor.js'
import { Awaited, type Bucket, bucketsFromTheEnd, segmentsOf, type TensorBucket } from './buckets.js'
import type { NamedTensor } from './checkpoint/safetensors.js'
import { everybody, type GradientExchange } from './gradient-exchange.js'
import { rankMetrics } from './metrics.js'
import { l2Norm } from './optimizers/norm.js'
import type { TensorRange } from './optimizers/optimizer.js'
import { timelineOf } from './timeline.js'

/** Smaller tensors, and vectors whatever their size, would lose more than they save. */
const LEAST_ELEMENTS = 1024

interface Part extends Bucket {
  /** What of it is compressed: its large tensors. */
  readonly tensors: readonly Float32Array[]
  readonly sum: CompressedSum
  /**
   * Of its own, so that buckets need not wait for each other in an order that all ranks keep; and in the background, as what is
   * compressed is small.
   */
  readonly links: Communicator
}

export class CompressedExchange implements GradientExchange {
  readonly state: readonly NamedTensor[]
  readonly inOrder = false
  bad = false
  private readonly parts: readonly Part[]
  /** The stats and small tensors, in the buffer and packed. */
  private readonly small: readonly Float32Array[]
  private readonly packed: Float32Array
  /** Everything sets out before all ranks have agreed on this step. */
  private readonly remembered = new Map<Float32Array, Float32Array>()
  private readonly plan: readonly TensorBucket[]
  private awaited: Awaited
  private sums: (Promise<void> | undefined)[] = []
  private before = 0
  /** Bytes of a step that were told last. */
  private told = Number.POSITIVE_INFINITY
  private readonly metrics = rankMetrics()

  /**
   * @param buffer stats, then gradients from `stats` on
   * @param tensors what lies in the gradients, in ascending order
   * @param bytes tensors travel together up to about so many
   * @param log told what is compressed, and what it brings
   */
  constructor(
    private readonly links: Communicator,
    private readonly compressor: Compressor,
    private readonly buffer: Float32Array,
    private readonly stats: number,
    private readonly tensors: readonly TensorRange[],
    bytes: number,
    private readonly log: (line: string) => void,
  ) {
    const view = ({ start, end }: TensorRange) => buffer.subarray(stats + start, stats + end)
    this.small = [buffer.subarray(0, stats), ...tensors.filter((tensor) => !isLarge(tensor)).map(view)]
    this.packed = new Float32Array(this.small.reduce((sum, { length }) => sum + length, 0))
    this.plan = bucketsFromTheEnd(tensors, stats, buffer.length, bytes)
    this.parts = this.plan.map(({ start, end, positions }) => {
      const large = positions.map((position) => tensors[position]!).filter(isLarge)
      return {
        ...{ start, end, tensors: large.map(view), links: everybody(links, { background: true }) },
        sum: large.length > 0 ? compressor.create(large, links.size) : NOTHING,
      }
    })
    this.awaited = new Awaited(this.plan)
    this.state = this.parts.flatMap(({ sum }, i) =>
      Object.entries(sum.state).map(([name, data]) => ({ name: `${i}/${name}`, shape: [data.length], data })),
    )
  }

  segments(count: number): number[][] {
    return segmentsOf(this.plan, count)
  }

  made(positions: readonly number[], moment: Moment): void {
    this.awaited.made(positions)
    this.open()
    for (const [i, part] of this.parts.entries()) {
      if (this.sums[i] !== undefined || !this.awaited.isComplete(i)) continue
      this.check(part)
      this.begin(i, moment)
    }
  }

  async *sum(moment: Moment): AsyncGenerator<Bucket> {
    const { parts, small, packed, stats } = this
    this.open()
    const waiting = [...parts.keys()].filter((i) => this.sums[i] === undefined)
    for (const i of waiting) this.check(parts[i]!)
    if (this.bad) small[0]![2] = 1
    let agreed = false
    try {
      pack(packed, small)
      const reduced = this.links.allReduce(packed)
      for (const i of waiting) this.begin(i, moment)
      await reduced
      unpack(small, packed)
      // Whoever finds in the stats that this step is not to be stops here.
      yield { start: 0, end: stats }
      agreed = true
      for (const [i, { start, end }] of parts.entries()) {
        await this.sums[i]
        yield { start, end }
      }
      this.report(this.links.bytesSent - this.before)
    } finally {
      await Promise.allSettled(this.sums)
      if (!agreed) this.restore()
      this.sums = []
      this.awaited = new Awaited(this.plan)
    }
  }

  /** A step begins, unless it has. */
  private open(): void {
    if (this.sums.length > 0) return
    this.sums = this.parts.map(() => undefined)
    this.bad = false
    this.before = this.links.bytesSent
  }

  /** What is not finite does not set out: it would be in other ranks' memories, too. */
  private check(part: Part): void {
    const gradients = this.buffer.subarray(part.start, part.end)
    if (Number.isFinite(l2Norm(gradients))) return
    gradients.fill(0)
    this.bad = true
  }

  private begin(i: number, moment: Moment): void {
    const part = this.parts[i]!
    if (part.tensors.length === 0) {
      this.sums[i] = Promise.resolve()
      return
    }
    if (!part.sum.undo) for (const data of Object.values(part.sum.state)) this.remember(data)
    const exchange = () => part.sum.sum(part.links, part.tensors, moment)
    const timeline = timelineOf(this.links)
    const name = `${this.compressor.name}, bucket ${i + 1}`
    const sum = timeline ? timeline.during('compression', name, exchange) : exchange()
    sum.catch(() => {}) // thrown by sum()
    this.sums[i] = sum
  }

  private remember(data: Float32Array): void {
    const copy = this.remembered.get(data)
    if (copy) copy.set(data)
    else this.remembered.set(data, data.slice())
  }

  private restore(): void {
    for (const [i, { sum }] of this.parts.entries()) {
      if (this.sums[i] === undefined) continue
      if (sum.undo) sum.undo()
      else for (const data of Object.values(sum.state)) data.set(this.remembered.get(data)!)
    }
  }

  /** To the metrics at every step; in a line as soon as it brings something, and again where a ramp-up brings more. */
  private report(sent: number): void {
    const { size } = this.links
    const elements = this.tensors.reduce((sum, { start, end }) => sum + end - start, 0)
    const plain = (2 * (size - 1) * 4 * elements) / size
    const large = this.tensors.filter(isLarge)
    const compressed = large.reduce((sum, { start, end }) => sum + end - start, 0)
    this.metrics?.compressed(this.compressor.name, { ratio: plain / sent, share: compressed / elements })
    if (sent > Math.min(0.9 * plain, this.told / 1.5)) return
    this.told = sent
    this.log(
      `gradients travel as ${this.compressor.name}: ${large.length} of ${this.tensors.length} tensors, ` +
        `${((100 * compressed) / elements).toFixed(1)} % of ${elements} numbers; a rank sends ${mb(sent)} a step, ` +
        `${(plain / sent).toFixed(1)} times less than the ${mb(plain)} of float32`,
    )
  }
}

const isLarge = ({ shape, start, end }: TensorRange) => shape.length > 1 && end - start >= LEAST_ELEMENTS

const NOTHING: CompressedSum = { state: {}, sum: async () => {} }

const mb = (bytes: number) => `${(bytes / 1e6).toFixed(2)} MB`
