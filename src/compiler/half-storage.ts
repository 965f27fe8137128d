/**
 * Variables and gradients that the caller keeps in 16 bits: a graph whose inputs and outputs they are, with casts behind and
 * before them. What reads them in 16 bits already needs none. It changes no other number and runs nothing.
 */
import type { Autocast } from './autocast.js'
import type { Lowered } from './lower.js'
import { type OnnxNode, type OnnxValue, onnxType } from './onnx.js'
import { readyFirstLast } from './order.js'

export interface Kept {
  /** Names of the inputs and of the outputs that are in 16 bits. */
  readonly params: ReadonlySet<string>
  readonly gradients: ReadonlySet<string>
}

/** @param lowered what `autocast` has made, for the same type */
export function keptInHalf(lowered: Lowered, { params, gradients }: Kept, type: Autocast['type']): Lowered {
  if (params.size + gradients.size === 0) return lowered
  const renamed = new Map<string, string>()
  const read = new Set<string>()
  const nameOf = (name: string) => {
    const known = renamed.get(name)
    if (known !== undefined) return known
    if (!params.has(name)) return name
    read.add(name)
    return widened(name)
  }
  const withInputs = (node: OnnxNode) => ({ ...node, inputs: node.inputs.map(nameOf) })
  const nodes = lowered.nodes.flatMap((node) => {
    const [from, to] = [node.inputs[0]!, node.outputs[0]!]
    if (node.op !== 'Cast') return [withInputs(node)]
    // It is in these 16 bits: neither rounding nor a cast to them changes anything.
    if (node.attributes.to === onnxType[type] && params.has(from)) renamed.set(to, from)
    else if (node.attributes.to === onnxType.float32 && params.has(renamed.get(from) ?? '')) {
      read.add(renamed.get(from)!)
      renamed.set(to, widened(renamed.get(from)!))
    } else return [withInputs(node)]
    return []
  })
  const ends = lowered.ends.map((end) =>
    gradients.has(end.outputs[0]!)
      ? { ...withInputs(end), op: 'Cast', attributes: { to: onnxType[type] } }
      : withInputs(end),
  )
  const casts = [...read].map((name) => ({
    ...{ name: `${name}/Cast`, op: 'Cast', inputs: [name], outputs: [widened(name)] },
    attributes: { to: onnxType.float32 },
  }))
  const typed = (names: ReadonlySet<string>) => (value: OnnxValue) =>
    names.has(value.name) ? { ...value, type } : value
  const onnx = {
    ...lowered.onnx,
    nodes: readyFirstLast([...casts, ...nodes], ends),
    inputs: lowered.onnx.inputs.map(typed(params)),
    outputs: lowered.onnx.outputs.map(typed(gradients)),
  }
  return { ...lowered, nodes: [...casts, ...nodes], ends, onnx }
}

const widened = (name: string) => `${name}/float32`
