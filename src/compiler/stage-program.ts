/**
 * A training pass compiled as two sessions, forward and backward, between which other passes may run: what the backward
 * half reads of the forward one is kept in a *slot*, one for each pass in flight. It knows no pipelines and no ranks.
 */
import { blockSize } from './block-size.js'
import { type Numbers, numbersOf, sizeOf } from './graph.js'
import { halves } from './halves.js'
import { lower } from './lower.js'
import { runFailure, type Update } from './program.js'
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
  /** One buffer per trainable variable, in the same way. */
  readonly gradients: readonly (Float32Array | undefined)[]
}

/** What the backward half of one pass needs of its forward half. */
export interface Slot {
  readonly carried: ReadonlyMap<string, Numbers>
  readonly randoms: readonly Float32Array[]
}

/** The numbers of one pass. Both halves may read them. */
export interface PassData {
  readonly slot: Slot
  /** Of the variables without a buffer, in their order. */
  readonly params: readonly Numbers[]
  /** In the order of the request; what is not there yet may be undefined in the forward half. */
  readonly inputs: readonly (Numbers | undefined)[]
}

interface Half {
  readonly session: Session
  readonly reads: ReadonlySet<string>
  readonly writes: ReadonlySet<string>
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
    private readonly first: Half,
    private readonly second: Half | undefined,
    /** Of variables and gradients those without a buffer. */
    private readonly names: Names,
    private readonly makeSlot: () => Slot,
    /** Written by every forward half. */
    readonly updates: readonly Update[],
  ) {}

  /** @throws UntraceableError (see `trace`). */
  static async compile(request: StageRequest, options: SessionOptions): Promise<StageProgram> {
    const traced = trace(request)
    const graph = simplify({ ...traced, outputs: traced.outputs.slice(1) })
    const onCpu = (options.provider ?? 'cpu') === 'cpu'
    const lowered = onCpu ? lower(graph, await blockSize()) : lower(graph, undefined, true)
    const ends = lowered.outputs.length - graph.updated.length
    const made = ends - request.gradients.length
    const gradients = lowered.outputs.slice(made, ends)
    const updated = lowered.outputs.slice(ends)
    const outputs = lowered.outputs.slice(0, made)
    const { forward, backward } = halves(lowered, new Set([...outputs, ...updated]))
    const session = await Session.create(graphOf(forward, new Map()), options)
    const carried = session.outputs.filter(({ name }) => forward.carriedOut.includes(name))
    const values = new Map(carried.map((value) => [value.name, { value }]))
    const first = halfOf(forward, session)
    const second =
      backward.outputs.length === 0
        ? undefined
        : halfOf(backward, await Session.create(graphOf(backward, values), options))
    const updates = graph.outputs.slice(ends).map(({ shape, dtype }, i) => ({
      param: graph.updated[i]!,
      value: new numbersOf[dtype](sizeOf(shape)) as Numbers,
    }))
    const own = { params: zip(lowered.params, request.params), gradients: zip(gradients, request.gradients) }
    bind(
      first,
      own.params,
      zip(
        updated,
        updates.map(({ value }) => value),
      ),
    )
    if (second) bind(second, own.params, own.gradients)
    const makeSlot = () => ({
      carried: new Map(
        carried.map(({ name, type, shape }) => [name, new arrays[type](sizeOf(shape)) as Numbers]),
      ),
      randoms: graph.randoms.map(({ value }) => new Float32Array(sizeOf(value.shape))),
    })
    const names = {
      params: lowered.params.filter((name) => !own.params.has(name)),
      inputs: lowered.inputs,
      randoms: lowered.randoms,
      outputs,
      gradients: gradients.filter((name) => !own.gradients.has(name)),
    }
    return new StageProgram(first, second, names, makeSlot, updates)
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
    bind(this.first, this.read(pass), new Map([...zip(this.names.outputs, outputs), ...pass.slot.carried]))
    await run(this.first)
  }

  /** Does nothing where nothing is trainable. @param gradients of the variables without a buffer of their own */
  async backward(pass: PassData, gradients: readonly Float32Array[]): Promise<void> {
    if (this.second === undefined) return
    const read = new Map([...this.read(pass), ...pass.slot.carried])
    bind(this.second, read, zip(this.names.gradients, gradients))
    await run(this.second)
  }

  async release(): Promise<void> {
    await this.first.session.release()
    await this.second?.session.release()
  }

  private read({ slot, params, inputs }: PassData): Map<string, Numbers> {
    const { names } = this
    return new Map([
      ...zip(names.params, params),
      ...zip(names.inputs, inputs),
      ...zip(names.randoms, slot.randoms),
    ])
  }
}

function halfOf(segment: Segment, session: Session): Half {
  return {
    session,
    reads: new Set([...segment.inputs.map(({ name }) => name), ...segment.carriedIn]),
    writes: new Set([...segment.outputs.map(({ name }) => name), ...segment.carriedOut]),
  }
}

function bind(
  { session, reads, writes }: Half,
  inputs: ReadonlyMap<string, Numbers>,
  outputs: ReadonlyMap<string, Numbers>,
): void {
  session.bindInputs(new Map([...inputs].filter(([name]) => reads.has(name))))
  session.bindOutputs(new Map([...outputs].filter(([name]) => writes.has(name))))
}

async function run({ session }: Half): Promise<void> {
  try {
    await session.run()
  } catch (cause) {
    throw runFailure(cause as Error)
  }
}

/** Names with their values, without those that have none. */
function zip<T>(names: readonly string[], values: readonly (T | undefined)[]): Map<string, T> {
  return new Map(names.flatMap((name, i) => (values[i] === undefined ? [] : [[name, values[i]] as const])))
}
