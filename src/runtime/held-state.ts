/** What of the whole model's and optimizer's tensors this rank's buffers hold, for checkpoints. It moves nothing. */
import { type Described, floatsOf, type HeldState, type Part, wholePart } from './checkpoint/parts.js'
import { cutRuns, type Runs, sizeOf } from './checkpoint/runs.js'
import type { NamedTensor } from './checkpoint/safetensors.js'
import type { Mesh } from './mesh.js'
import type { Parameters } from './parameters.js'
import type { Placement } from './placement.js'
import type { Split } from './tensor-parallel/slices.js'
import { inShard, ownPart } from './zero/units.js'

interface Place {
  readonly rank: number
  readonly size: number
}

/** Of ranks that all train the same parameters, sharded over them or not. */
export function replicaState(dp: Place, parameters: Parameters): HeldState {
  const model = parameters.described()
  return {
    model,
    optimizer: slotsOf(parameters, model),
    isWhole: parameters.sharding.level === 0,
    parts: () => heldParts(dp, parameters).map(({ part }) => part),
  }
}

/**
 * Of the ranks of a mesh, each of which trains some of the whole model's parameters, or slices of them.
 * @param placements of all parameters, in model order
 */
export function meshState(mesh: Mesh, placements: readonly Placement[], parameters: Parameters): HeldState {
  const { dp, pp, tp } = mesh
  const model = placements.map(({ parameter: { name, variable, trainable } }) => {
    return { name, shape: variable.shape, trainable }
  })
  const placed = new Map(placements.map((placement) => [placement.parameter.name, placement]))
  const parts = () =>
    heldParts(dp, parameters).flatMap(({ parameter, part }) => {
      const { owners, split, parameter: whole } = placed.get(parameter)!
      const own = split ? inWhole(part, split, whole.variable.shape, tp) : [onEach(tp, part)]
      return owners[0] === pp.rank ? own : own.map((each) => ({ ...each, copy: WRITTEN_ELSEWHERE }))
    })
  return {
    model,
    optimizer: slotsOf(parameters, model),
    isWhole: parameters.sharding.level === 0 && pp.size === 1 && tp.size === 1,
    parts,
  }
}

/** Beyond the last of those that share the writing. */
const WRITTEN_ELSEWHERE: Part['copy'] = { rank: 1, size: 1, among: 'nobody' }
const ONLY: Part['copy'] = { rank: 0, size: 1, among: 'this rank' }

function slotsOf(
  { slotNames }: Parameters,
  model: readonly (Described & { readonly trainable: boolean })[],
): Described[] {
  const trainable = model.filter((tensor) => tensor.trainable)
  return slotNames.flatMap((slot) => trainable.map(({ name, shape }) => ({ name: `${slot}/${name}`, shape })))
}

interface OfParameter {
  readonly parameter: string
  readonly part: Part
}

/** As parts of the tensors that `parameters` knows, which may be slices. */
function heldParts({ rank, size }: Place, parameters: Parameters): OfParameter[] {
  const { sharding, isSpread, trainable, slots, slotNames } = parameters
  const { level } = sharding
  const replica = { rank, size, among: 'dp' }
  const whole = (kind: Part['kind'], tensor: NamedTensor, parameter = tensor.name): OfParameter => {
    return { parameter, part: wholePart(kind, tensor, replica) }
  }
  const model = isSpread
    ? [
        ...shards(parameters, 'model', '', trainable),
        ...parameters.frozenTensors().map((tensor) => whole('model', tensor)),
      ]
    : parameters.modelTensors().map((tensor) => whole('model', tensor))
  if (level > 0)
    return [
      ...model,
      ...slotNames.flatMap((slot, i) => shards(parameters, 'optimizer', `${slot}/`, slots[i]!)),
    ]
  const names = parameters.described().filter((tensor) => tensor.trainable)
  const state = parameters.optimizerTensors()
  return [...model, ...state.map((tensor, i) => whole('optimizer', tensor, names[i % names.length]!.name))]
}

/** This rank's parts of the trainable tensors, in a buffer of nothing else. */
function shards(
  { sharding, units, tensors }: Parameters,
  kind: Part['kind'],
  prefix: string,
  buffer: Float32Array,
): OfParameter[] {
  const { rank, size } = sharding
  return units.flatMap((unit) => {
    const own = ownPart(unit, rank, size)
    const first = inShard(unit, size).start - own.start
    return unit.tensors.flatMap((position) => {
      const { name, shape, start, end } = tensors[position]!
      const [from, to] = [Math.max(start, own.start), Math.min(end, own.end)]
      if (from >= to) return []
      const data = buffer.subarray(first + from, first + to)
      const runs: Runs = { offset: from - start, length: to - from, stride: to - from, count: 1 }
      return [{ parameter: name, part: { kind, name: `${prefix}${name}`, shape, runs, data, copy: ONLY } }]
    })
  })
}

/** A part of this rank's slice, as parts of the tensor of that shape that it is a slice of. */
function inWhole(part: Part, { axis, groups = 1 }: Split, shape: readonly number[], tp: Place): Part[] {
  const stride = floatsOf(shape.slice(axis)) / groups
  const length = stride / tp.size
  const slice = { offset: tp.rank * length, length, stride, count: floatsOf(shape.slice(0, axis)) * groups }
  let at = 0
  return cutRuns(slice, part.runs.offset, part.runs.offset + part.data.length).map((runs) => {
    const data = part.data.subarray(at, at + sizeOf(runs))
    at += data.length
    return { ...part, shape, runs, data }
  })
}

/** What every rank of `tp` holds the same of. */
function onEach(tp: Place, part: Part): Part {
  const { rank, size, among } = part.copy
  return { ...part, copy: { rank: rank * tp.size + tp.rank, size: size * tp.size, among: `${among}, tp` } }
}
