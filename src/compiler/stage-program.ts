/**
 * A training pass compiled as two halves, forward and backward, between which other passes may run: what the backward half
 * reads of the forward one is kept in a *slot*, one for each pass in flight. A half is one session, or several where values
 * are exchanged in between. It knows no pipelines and no ranks.
 */
import { accumulating, heldBefore } from './accumulate.js'
import { blockSize } from './block-size.js'
import type { Exchanges } from './exchanges.js'
import { type KernelGraph, type Numbers, numbersOf, sizeOf } from './graph.js'
import { halves } from './halves.js'
import { lower } from './lower.js'
import type { OnnxValue } from './onnx.js'
import { runFailure, type Update } from './program.js'
import { recomputed } from './recompute.js'
import type { Cutting } from './recompute-cuts.js'
import { arrays, graphOf } from './segmented-session.js'
import type { Segment } from './segments.js'
import { Session, type SessionOptions } from './session.js'
import { simplify } from './simplify.js'
import { type TraceRequest, trace } from './trace.js'
import { fillUniform } from './uniform.js'

/**
 * The body's first output is the scalar whose gradients are wanted, and no more than that; the others are what the forward
 * half makes, together with new values of variables that the body assigns.
 */
export interface StageRequest extends TraceRequest {
  /** One buffer per variable, trainable then frozen; undefined where every pass gives its own. */
  readonly params: readonly (Numbers | undefined)[]
  /** One buffer per trainable variable, in the same way: a backward half adds to what it holds. */
  readonly gradients: readonly (Float32Array | undefined)[]
  /** Keep less in a slot, and compute the rest once more in the backward half. */
  readonly recompute?: Cutting | undefined
}

/** What the backward half of one pass needs of its forward half. */
export interface Slot {
  readonly carried: ReadonlyMap<string, Numbers>
  readonly randoms: readonly Float32Array[]
}

/** Slots that are usually in turn. */
const SLOTS = 8

/** The numbers of one pass. Both halves may read them. */
export interface PassData {
  readonly slot: Slot
  /** Of the variables without a buffer, in their order. */
  readonly params: readonly Numbers[]
  /** In the order of the request; what is not there yet may be undefined in the forward half. */
  readonly inputs: readonly (Numbers | undefined)[]
}

/** A session of a half. */
interface Part {
  readonly session: Session
  readonly reads: ReadonlySet<string>
  readonly writes: ReadonlySet<string>
  /** What is exchanged once it has run. */
  readonly due: readonly string[]
  /** The one whose buffers are bound. */
  slot?: Slot
}

interface Names {
  readonly params: readonly string[]
  readonly inputs: readonly string[]
  readonly randoms: readonly string[]
  readonly outputs: readonly string[]
  readonly gradients: readonly string[]
}

export class StageProgram {
  private constructor(
    private readonly first: readonly Part[],
    /** Empty where nothing is trainable. */
    private readonly second: readonly Part[],
    private readonly exchanges: Exchanges,
    /** What parts of one half carry to each other, by name. */
    private readonly own: ReadonlyMap<string, Numbers>,
    /** Of variables and gradients those without a buffer. */
    private readonly names: Names,
    private readonly makeSlot: () => Slot,
    /** Written by every forward half. */
    readonly updates: readonly Update[],
  ) {}

  /** @throws UntraceableError (see `trace`). */
  static async compile(request: StageRequest, options: SessionOptions): Promise<StageProgram> {
    const graph = tracedGraph(request)
    const onCpu = (options.provider ?? 'cpu') === 'cpu'
    const lowered = onCpu ? lower(graph, await blockSize()) : lower(graph, undefined, true)
    const ends = lowered.outputs.length - graph.updated.length
    const made = ends - request.gradients.length
    const gradients = lowered.outputs.slice(made, ends)
    const updated = lowered.outputs.slice(ends)
    const outputs = lowered.outputs.slice(0, made)
    const fixed = zip(gradients, request.gradients)
    const sums = accumulating(lowered, new Set(fixed.keys()))
    const { forward, backward } = halves(sums, new Set([...outputs, ...updated]))
    const carried = new Map<string, { readonly value: OnnxValue }>()
    const first = await partsOf(forward, carried, lowered.exchanges, options)
    const trains = backward.some((segment) => segment.outputs.length > 0)
    const second = trains ? await partsOf(backward, carried, lowered.exchanges, options) : []
    const remade = new Set(backward.flatMap(({ carriedOut }) => carriedOut))
    const kept = new Set(backward.flatMap(({ carriedIn }) => carriedIn).filter((name) => !remade.has(name)))
    const room = (names: Iterable<string>) =>
      new Map(
        [...names].map((name) => {
          const { type, shape } = carried.get(name)!.value
          return [name, new arrays[type](sizeOf(shape)) as Numbers]
        }),
      )
    const own = room([...carried.keys()].filter((name) => !kept.has(name)))
    const updates = graph.outputs.slice(ends).map(({ shape, dtype }, i) => ({
      param: graph.updated[i]!,
      value: new numbersOf[dtype](sizeOf(shape)) as Numbers,
    }))
    const params = zip(lowered.params, request.params)
    const before = new Map([...fixed].map(([name, data]) => [heldBefore(name), data]))
    const values = updates.map(({ value }) => value)
    for (const part of first)
      bind(part, new Map([...params, ...own]), new Map([...zip(updated, values), ...own]))
    for (const part of second)
      bind(part, new Map([...params, ...before, ...own]), new Map([...fixed, ...own]))
    const makeSlot = () => ({
      carried: room(kept),
      randoms: graph.randoms.map(({ value }) => new Float32Array(sizeOf(value.shape))),
    })
    const names = {
      params: lowered.params.filter((name) => !params.has(name)),
      inputs: lowered.inputs,
      randoms: lowered.randoms,
      outputs,
      gradients: gradients.filter((name) => !fixed.has(name)),
    }
    return new StageProgram(first, second, lowered.exchanges, own, names, makeSlot, updates)
  }

  /** Room for one more pass in flight. */
  slot(): Slot {
    return this.makeSlot()
  }

  /**
   * Computes `outputs` and `updates`. Random layers draw from `key`. Blocks the thread while it computes.
   * @throws LockstepError when a row is looked up that is not there (a word number in an embedding, tf.gather).
   */
  async forward(pass: PassData, outputs: readonly Numbers[], key: readonly number[]): Promise<void> {
    pass.slot.randoms.forEach((buffer, i) => {
      fillUniform(buffer, [...key, i])
    })
    await this.run(this.first, pass, zip(this.names.outputs, outputs))
  }

  /**
   * Adds to the gradients' buffers; does nothing where nothing is trainable.
   * @param gradients of the variables without a buffer of their own: replaced
   */
  async backward(pass: PassData, gradients: readonly Float32Array[]): Promise<void> {
    await this.run(this.second, pass, zip(this.names.gradients, gradients))
  }

  async release(): Promise<void> {
    for (const { session } of [...this.first, ...this.second]) await session.release()
  }

  private async run(
    parts: readonly Part[],
    { slot, params, inputs }: PassData,
    written: ReadonlyMap<string, Numbers>,
  ): Promise<void> {
    const { names, exchanges, own } = this
    const given = new Map([
      ...zip(names.params, params),
      ...zip(names.inputs, inputs),
      ...zip(names.randoms, slot.randoms),
    ])
    for (const part of parts) {
      bind(part, given, written)
      // Most of what a pass binds, and where one slot is in use the same again and again.
      if (part.slot !== slot) bind(part, slot.carried, slot.carried)
      part.slot = slot
      try {
        await part.session.run()
      } catch (cause) {
        throw runFailure(cause as Error)
      }
      for (const name of part.due)
        await exchanges.get(name)!((slot.carried.get(name) ?? own.get(name)) as Float32Array)
    }
  }
}

/** Sessions of consecutive segments. @param carried what earlier ones make; learns what these do */
async function partsOf(
  segments: readonly Segment[],
  carried: Map<string, { readonly value: OnnxValue }>,
  exchanges: Exchanges,
  options: SessionOptions,
): Promise<Part[]> {
  const parts: Part[] = []
  for (const segment of segments) {
    const { inputs, carriedIn, outputs, carriedOut } = segment
    const session = await Session.create(graphOf(segment, carried), { ...options, remembered: SLOTS })
    for (const value of session.outputs)
      if (carriedOut.includes(value.name)) carried.set(value.name, { value })
    parts.push({
      session,
      reads: new Set([...inputs.map(({ name }) => name), ...carriedIn]),
      writes: new Set([...outputs.map(({ name }) => name), ...carriedOut]),
      due: carriedOut.filter((name) => exchanges.has(name)),
    })
  }
  return parts
}

function tracedGraph(request: StageRequest): KernelGraph {
  const traced = trace(request)
  const graph = simplify({ ...traced, outputs: traced.outputs.slice(1) })
  const { recompute, params, gradients } = request
  if (recompute === undefined || gradients.length === 0) return graph
  const ends = graph.outputs.length - graph.updated.length
  const forward = [...graph.outputs.slice(0, ends - gradients.length), ...graph.outputs.slice(ends)]
  const given = graph.params.filter((_, i) => params[i] === undefined)
  return recomputed(graph, { ...recompute, forward, given })
}

function bind(
  { session, reads, writes }: Part,
  inputs: ReadonlyMap<string, Numbers>,
  outputs: ReadonlyMap<string, Numbers>,
): void {
  session.bindInputs(new Map([...inputs].filter(([name]) => reads.has(name))))
  session.bindOutputs(new Map([...outputs].filter(([name]) => writes.has(name))))
}

/** Names with their values, without those that have none. */
function zip<T>(names: readonly string[], values: readonly (T | undefined)[]): Map<string, T> {
  return new Map(names.flatMap((name, i) => (values[i] === undefined ? [] : [[name, values[i]] as const])))
}
