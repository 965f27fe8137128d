/**
 * A model compiled for one set of input shapes: traced, simplified, lowered, and held in a session whose parameters
 * and outputs are tied to the caller's buffers. It knows no ranks and no optimizer.
 */

import { LockstepError } from '../errors.js'
import { type Autocast, autocast, carriedInFloat32 } from './autocast.js'
import { blockSize } from './block-size.js'
import {
  type Bindable,
  type DType,
  type KernelGraph,
  type Numbers,
  numbersOf,
  type RandomInput,
  sizeOf,
} from './graph.js'
import { keptInHalf } from './half-storage.js'
import { type Lowered, lower } from './lower.js'
import { recomputed } from './recompute.js'
import type { Recompute } from './recompute-cuts.js'
import { SegmentedSession } from './segmented-session.js'
import { cut } from './segments.js'
import type { SessionOptions } from './session.js'
import { simplify } from './simplify.js'
import { cutStreamed, Stream, type Streaming } from './streaming.js'
import { type TraceRequest, trace } from './trace.js'
import { fillUniform } from './uniform.js'

export interface ProgramRequest extends TraceRequest {
  /**
   * One buffer per variable, trainable then frozen, in the variables' order and sizes. Read at every run. A Uint16Array here or
   * among the gradients holds numbers of the type of `autocast`.
   */
  readonly params: readonly Bindable[]
  /** One buffer per output of the body, where the caller has them; otherwise they are made. */
  readonly outputs?: readonly Numbers[]
  /** One buffer per trainable variable. Written by every run. */
  readonly gradients: readonly (Float32Array | Uint16Array)[]
  /**
   * Cut the pass into up to so many parts, so that gradients can be used while others are still computed; undefined: one
   * part. Or which gradients to make in each part, by their position among the trainable variables.
   */
  readonly segments?: readonly (readonly number[])[]
  /** Where trainable variables are in memory for a while only; `params` has empty buffers for them. Instead of `segments`. */
  readonly streaming?: Streaming | undefined
  /** Products in 16 bits; undefined: everything in float32. */
  readonly autocast?: Autocast | undefined
  /** Compute activations again in the backward pass instead of keeping them: less memory, and at most one forward pass more. */
  readonly recompute?: Recompute | undefined
}

/** An output of the body; every run writes it anew. */
export interface Output {
  readonly data: Numbers
  readonly shape: readonly number[]
}

/** A variable that every run gives a new value, which the caller takes over or not. */
export interface Update {
  /** Its position in the request's `params`. */
  readonly param: number
  readonly value: Numbers
}

export class Program {
  /** How often it has run. */
  runs = 0

  private constructor(
    private readonly session: SegmentedSession,
    private readonly lowered: Lowered,
    private readonly stream: Stream | undefined,
    /** Of each output that is a gradient, its position among them. */
    private readonly gradients: ReadonlyMap<string, number>,
    private readonly randoms: readonly { readonly input: RandomInput; readonly buffer: Float32Array }[],
    readonly outputs: readonly Output[],
    readonly updates: readonly Update[],
    /** Milliseconds that tracing and building the session took. */
    readonly compileMs: number,
    /** Those of them that tracing took. */
    readonly traceMs: number,
  ) {}

  /** @throws UntraceableError (see `trace`). */
  static async compile(request: ProgramRequest, options: SessionOptions): Promise<Program> {
    const start = performance.now()
    const graph = tracedGraph(request)
    const traceMs = performance.now() - start
    // The blocked convolutions are kernels of the cpu provider, and of float32.
    const onCpu = (options.provider ?? 'cpu') === 'cpu'
    const { segments = [[]], streaming, autocast: casting } = request
    const tuned = onCpu && !casting?.native
    const whole = tuned ? lower(graph, await blockSize()) : lower(graph, undefined, true)
    const ends = graph.outputs.length - graph.updated.length
    const first = ends - request.gradients.length
    const gradients = whole.outputs.slice(first, ends)
    const kept = {
      params: inHalf(whole.params, request.params),
      gradients: inHalf(gradients, request.gradients),
    }
    const lowered = casting ? keptInHalf(autocast(whole, casting), kept, casting.type) : whole
    const named = (unit: readonly number[], names: readonly string[]) => unit.map((i) => names[i]!)
    const plan =
      streaming &&
      cutStreamed(
        lowered,
        streaming.units.map((unit) => ({
          params: named(unit, lowered.params),
          gradients: named(unit, gradients),
        })),
        streaming.ahead,
      )
    const cutting = (whole: Lowered) => {
      const pieces =
        plan?.segments ??
        cut(
          whole,
          segments.map((part) => named(part, gradients)),
        )
      return casting ? carriedInFloat32(pieces, casting) : pieces
    }
    const session = await SegmentedSession.create(lowered, cutting, options)
    plan?.places.forEach((places, part) => {
      const viewAt = (name: string, place: number) => streaming!.viewAt(lowered.params.indexOf(name), place)
      session.bindInputs(new Map([...places].map(([name, place]) => [name, viewAt(name, place)])), part)
    })
    const randoms = graph.randoms.map((input) => ({
      input,
      buffer: new Float32Array(sizeOf(input.value.shape)),
    }))
    const streamed = streaming ? request.gradients.length : 0
    session.bindInputs(pairs(lowered.params.slice(streamed), request.params.slice(streamed)))
    session.bindInputs(
      pairs(
        lowered.randoms,
        randoms.map(({ buffer }) => buffer),
      ),
    )
    const outputs = graph.outputs.slice(0, first).map(({ shape, dtype }, i) => ({
      shape,
      data: request.outputs?.[i] ?? buffer(shape, dtype),
    }))
    const updates = graph.outputs.slice(ends).map(({ shape, dtype }, i) => ({
      param: graph.updated[i]!,
      value: buffer(shape, dtype),
    }))
    session.bindOutputs(
      pairs(lowered.outputs, [
        ...outputs.map(({ data }) => data),
        ...request.gradients,
        ...updates.map(({ value }) => value),
      ]),
    )
    const positions = new Map(gradients.map((name, i) => [name, i]))
    const compileMs = performance.now() - start
    const stream = plan && new Stream(plan, streaming!)
    return new Program(session, lowered, stream, positions, randoms, outputs, updates, compileMs, traceMs)
  }

  /**
   * Computes the outputs and gradients for `inputs` (in the order and shapes of the request) into their buffers.
   * Random layers draw from `key`: equal keys, equal draws. Blocks the thread while it computes.
   *
   * @param ready told after each segment which gradients it has made, by their position among the trainable variables; the
   *   next one starts when that has settled
   * @throws LockstepError when a row is looked up that is not there (a word number in an embedding, tf.gather).
   */
  async run(
    inputs: readonly Numbers[],
    key: readonly number[],
    ready?: (gradients: readonly number[]) => void | Promise<void>,
  ): Promise<void> {
    this.randoms.forEach(({ buffer }, i) => {
      fillUniform(buffer, [...key, i])
    })
    this.session.bindInputs(pairs(this.lowered.inputs, inputs))
    try {
      await this.session.run(
        (names) => ready?.(names.flatMap((name) => this.gradients.get(name) ?? [])),
        this.stream && ((part) => this.stream!.before(part)),
      )
      this.runs++
    } catch (cause) {
      // Of an exchange, or of whom `ready` told.
      throw cause instanceof LockstepError ? cause : runFailure(cause as Error)
    }
  }

  /** Reads the variables from other buffers from now on; undefined: from none, until there are. */
  bindParams(params: readonly Bindable[] | undefined): void {
    if (params) this.session.bindInputs(pairs(this.lowered.params, params))
    else this.session.unbindInputs(this.lowered.params)
  }

  /** Writes the session's profile, which `options.profile` asked for. */
  endProfiling(): void {
    this.session.endProfiling()
  }

  async release(): Promise<void> {
    await this.session.release()
  }
}

function tracedGraph(request: ProgramRequest): KernelGraph {
  const graph = simplify(trace(request))
  const { recompute } = request
  if (recompute === undefined || request.gradients.length === 0) return graph
  const ends = graph.outputs.length - graph.updated.length
  const forward = [...graph.outputs.slice(0, ends - request.gradients.length), ...graph.outputs.slice(ends)]
  return recomputed(graph, { recompute, forward })
}

export function runFailure(cause: Error): LockstepError {
  return new LockstepError(adviceOn(cause.message), { cause })
}

/** What to do about an error of onnxruntime, which tells its errors apart by their messages only. */
function adviceOn(message: string): string {
  const rows = /idx=\d+ must be within the inclusive range \[-\d+,(\d+)\]/.exec(message)?.[1]
  if (rows !== undefined) {
    return (
      `an index is negative or above ${rows}, the last row: look at the numbers given to tf.layers.embedding ` +
      '(its inputDim is one more than the largest) or tf.gather'
    )
  }
  if (/invalid (index|indice) found/.test(message))
    return (
      'an index lies outside of its tensor: look at the numbers given to tf.gatherND, tf.scatterND, ' +
      'tf.tensorScatterUpdate, or tf.gather with batch dimensions'
    )
  return `onnxruntime failed to run the compiled model: ${message.split('\n')[0]}`
}

/** Names of those whose buffers hold 16-bit numbers. */
function inHalf(names: readonly string[], buffers: readonly Bindable[]): ReadonlySet<string> {
  return new Set(names.filter((_, i) => buffers[i] instanceof Uint16Array))
}

function buffer(shape: readonly number[], dtype: DType): Numbers {
  return new numbersOf[dtype](sizeOf(shape))
}

function pairs(names: readonly string[], buffers: readonly Bindable[]): Map<string, Bindable> {
  return new Map(names.map((name, i) => [name, buffers[i]!]))
}
