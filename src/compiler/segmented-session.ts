/**
 * Several onnxruntime sessions that together are one: each is a segment of a graph, and reads what those before it have
 * carried to it. The interface is a session's, with a word said after every segment.
 */
import { type Numbers, sizeOf } from './graph.js'
import type { Lowered } from './lower.js'
import type { OnnxValue } from './onnx.js'
import type { Segment } from './segments.js'
import { type Buffers, Session, type SessionOptions } from './session.js'

interface Part {
  readonly session: Session
  readonly inputs: ReadonlySet<string>
  /** The graph's own outputs that are there once it has run. */
  readonly outputs: readonly string[]
  /** What is to be done before the next one runs. */
  exchange(): Promise<void>
}

/** The typed array that holds a carried value. */
export const arrays = {
  float32: Float32Array,
  int32: Int32Array,
  int64: BigInt64Array,
  bool: Uint8Array,
  float16: Uint16Array,
  bfloat16: Uint16Array,
} as const

export class SegmentedSession {
  private constructor(private readonly parts: readonly Part[]) {}

  static async create(
    lowered: Lowered,
    cutting: (lowered: Lowered) => readonly Segment[],
    options: SessionOptions,
  ): Promise<SegmentedSession> {
    const carried = new Map<string, { readonly value: OnnxValue; readonly data: Numbers }>()
    const parts: Part[] = []
    for (const segment of cutting(lowered)) {
      const session = await Session.create(graphOf(segment, carried), options)
      for (const value of session.outputs.filter(({ name }) => segment.carriedOut.includes(name))) {
        carried.set(value.name, { value, data: new arrays[value.type](sizeOf(value.shape)) as Numbers })
      }
      const buffers = (names: readonly string[]) =>
        new Map(names.map((name) => [name, carried.get(name)!.data] as const))
      session.bindInputs(buffers(segment.carriedIn))
      session.bindOutputs(buffers(segment.carriedOut))
      const due = segment.carriedOut.flatMap((name) => {
        const exchange = lowered.exchanges.get(name)
        return exchange ? [[carried.get(name)!.data as Float32Array, exchange] as const] : []
      })
      parts.push({
        session,
        inputs: new Set(segment.inputs.map(({ name }) => name)),
        outputs: segment.outputs.map(({ name }) => name),
        exchange: async () => {
          for (const [data, exchange] of due) await exchange(data)
        },
      })
    }
    return new SegmentedSession(parts)
  }

  /** @param part for this segment alone; undefined: for all that read them */
  bindInputs(buffers: Buffers, part?: number): void {
    for (const { session, inputs } of part === undefined ? this.parts : [this.parts[part]!])
      session.bindInputs(new Map([...buffers].filter(([name]) => inputs.has(name))))
  }

  /** Lets go of inputs' buffers, until they are bound anew. */
  unbindInputs(names: readonly string[]): void {
    for (const { session } of this.parts) session.unbindInputs(names)
  }

  bindOutputs(buffers: Buffers): void {
    for (const { session, outputs } of this.parts)
      session.bindOutputs(new Map([...buffers].filter(([name]) => outputs.includes(name))))
  }

  /**
   * @param ready told the names of outputs that have just been made; the next segment starts when that has settled
   * @param before told the number of the segment that runs when that has settled
   */
  async run(
    ready?: (outputs: readonly string[]) => void | Promise<void>,
    before?: (part: number) => Promise<void>,
  ): Promise<void> {
    for (const [part, { session, outputs, exchange }] of this.parts.entries()) {
      await before?.(part)
      await session.run()
      await ready?.(outputs)
      await exchange()
    }
  }

  endProfiling(): void {
    for (const { session } of this.parts) session.endProfiling()
  }

  async release(): Promise<void> {
    for (const { session } of this.parts) await session.release()
  }
}

/** A segment as a graph of its own. @param carried what earlier segments make */
export function graphOf(
  { nodes, constants, inputs, outputs, carriedIn, carriedOut }: Segment,
  carried: ReadonlyMap<string, { readonly value: OnnxValue }>,
) {
  return {
    nodes,
    constants,
    inputs: [...inputs, ...carriedIn.map((name) => carried.get(name)!.value)],
    outputs,
    untyped: carriedOut,
  }
}
