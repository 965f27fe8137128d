/**
 * Rewrites a kernel graph into a smaller one that computes the same: duplicate kernels merged, reshape chains cut
 * short, unused kernels dropped; padding, bias and ReLU folded into their convolution, and what makes a log-softmax into one.
 * It knows TensorFlow.js kernels, not ONNX.
 */
import type * as tf from '@tensorflow/tfjs-core'
import { type KernelGraph, type KernelNode, printAttrs, sameShape, sizeOf, type Value } from './graph.js'
import { logSoftmaxRule } from './log-softmax.js'

/** The simplified graph; `graph` itself is left alone. */
export function simplify(graph: KernelGraph): KernelGraph {
  const folded = foldActivations(foldBiases(foldPaddings(foldPooledReLU(mergeDuplicates(graph)))))
  return dropUnused(rewrite(folded, logSoftmaxRule()))
}

/** Replaces values as it walks the nodes in order; a rule returns the value to use instead, or undefined. */
function rewrite(
  graph: KernelGraph,
  rule: (node: KernelNode) => Value | KernelNode | undefined,
): KernelGraph {
  const instead = new Map<Value, Value>()
  const now = (v: Value): Value => instead.get(v) ?? v
  const nodes: KernelNode[] = []
  for (const original of graph.nodes) {
    const node = { ...original, inputs: original.inputs.map((v) => v && now(v)) }
    const result = rule(node)
    if (result !== undefined && 'id' in result) instead.set(node.outputs[0]!, result)
    else nodes.push(result ?? node)
  }
  return { ...graph, nodes, outputs: graph.outputs.map(now) }
}

/** Common-subexpression elimination, reshapes of reshapes, and ReLU's gradient from its output, not its input. */
function mergeDuplicates(graph: KernelGraph): KernelGraph {
  const seen = new Map<string, Value>()
  const reshapedFrom = new Map<Value, Value>()
  const relu = new Map<Value, Value>()
  return rewrite(graph, (given) => {
    let node = given
    if (node.kernel === 'Reshape') {
      const root = reshapedFrom.get(node.inputs[0]!) ?? node.inputs[0]!
      if (sameShape(root.shape, node.outputs[0]!.shape)) return root
      reshapedFrom.set(node.outputs[0]!, root)
      node = { ...node, inputs: [root], attrs: { shape: node.outputs[0]!.shape } }
    }
    // step(x) = step(relu(x)): the pre-activation is then needed by nobody, and convolution and ReLU can fuse.
    if (node.kernel === 'Step' && (node.attrs as tf.StepAttrs).alpha === 0) {
      node = { ...node, inputs: [relu.get(node.inputs[0]!) ?? node.inputs[0]] }
    }
    if (node.outputs.length !== 1) return node
    const key = `${node.kernel} ${node.inputs.map((v) => v?.id)} ${printAttrs(node.attrs)}`
    const known = seen.get(key)
    if (known !== undefined) return known
    if (node.kernel === 'Relu') relu.set(node.inputs[0]!, node.outputs[0]!)
    seen.set(key, node.outputs[0]!)
    return node
  })
}

/** How often each value is used, as an input or as an output of the graph. */
function countUses(graph: KernelGraph): Map<Value, number> {
  const uses = new Map<Value, number>()
  for (const v of [...graph.nodes.flatMap((node) => node.inputs), ...graph.outputs]) {
    if (v) uses.set(v, (uses.get(v) ?? 0) + 1)
  }
  return uses
}

/**
 * The gradient of max-pooling(relu(z)), through both: the pixel that is a window's maximum is positive exactly when the
 * maximum is, so the ReLU's part is done on the pooled image.
 */
function foldPooledReLU(graph: KernelGraph): KernelGraph {
  const uses = countUses(graph)
  const pools = new Map<Value, KernelNode>()
  const steps = new Map<Value, Value>()
  return rewrite(graph, (node) => {
    const [a, b] = node.inputs as [Value, Value]
    const [output] = node.outputs as [Value]
    if (node.kernel === 'MaxPoolGrad' || node.kernel === 'MaxPool3DGrad') pools.set(output, node)
    if (node.kernel === 'Step' && (node.attrs as tf.StepAttrs).alpha === 0) steps.set(output, a)
    if (node.kernel !== 'Multiply') return undefined
    const product = pools.has(a) ? a : b
    const pool = pools.get(product)
    if (pool === undefined || uses.get(product) !== 1) return undefined
    if (steps.get(product === a ? b : a) !== pool.inputs[1]) return undefined
    const attrs = { ...(pool.attrs as object), onlyPositive: true }
    return { ...pool, outputs: node.outputs, attrs }
  })
}

type Pair = [number, number]

/** A 'valid' convolution of an image padded with zeros becomes a padded convolution, and its gradients likewise. */
function foldPaddings(graph: KernelGraph): KernelGraph {
  const padded = new Map<Value, { readonly from: Value; readonly pad: Pair[] }>()
  const gradients = new Map<Value, KernelNode>()
  return rewrite(graph, (node) => {
    const [first] = node.inputs as [Value]
    const { pad } = (node.attrs ?? {}) as { pad?: unknown }
    switch (node.kernel) {
      case 'PadV2': {
        const { paddings, constantValue } = node.attrs as tf.PadV2Attrs
        const onlyPixels = first.shape.length === 4 && [0, 3].every((i) => sameShape(paddings[i]!, [0, 0]))
        if (onlyPixels && constantValue === 0) padded.set(node.outputs[0]!, { from: first, pad: paddings })
        return undefined
      }
      case 'Conv2D':
      case 'FusedConv2D':
      case 'Conv2DBackpropFilter': {
        const source = padded.get(first)
        if (source === undefined || pad !== 'valid') return undefined
        return {
          ...node,
          inputs: [source.from, ...node.inputs.slice(1)],
          attrs: { ...(node.attrs as object), pad: source.pad },
        }
      }
      case 'Conv2DBackpropInput':
        if (pad === 'valid') gradients.set(node.outputs[0]!, node)
        return undefined
      case 'Slice': {
        const gradient = gradients.get(first)
        return gradient && cropped(gradient, node)
      }
      default:
        return undefined
    }
  })
}

/** The slice that undoes a padding, taken of an input gradient: the gradient of the padded convolution. */
function cropped(gradient: KernelNode, slice: KernelNode): KernelNode | undefined {
  const { begin, size } = slice.attrs as { begin: number[]; size: number[] }
  const { shape } = slice.inputs[0]!
  if (!Array.isArray(begin) || !Array.isArray(size) || begin.length !== 4) return undefined
  const inputShape = slice.outputs[0]!.shape
  const pad = shape.map((n, i) => [begin[i]!, n - begin[i]! - inputShape[i]!] as Pair)
  if (![0, 3].every((i) => sameShape(pad[i]!, [0, 0]))) return undefined
  return { ...gradient, outputs: slice.outputs, attrs: { ...(gradient.attrs as object), pad, inputShape } }
}

/** ReLU of a convolution that nobody else reads becomes its activation. */
function foldActivations(graph: KernelGraph): KernelGraph {
  const uses = countUses(graph)
  const convolutions = new Map<Value, KernelNode>()
  return rewrite(graph, (node) => {
    if (node.kernel === 'Conv2D' || node.kernel === 'FusedConv2D') convolutions.set(node.outputs[0]!, node)
    if (node.kernel !== 'Relu') return undefined
    const conv = convolutions.get(node.inputs[0]!)
    if (conv === undefined || uses.get(node.inputs[0]!) !== 1) return undefined
    const attrs = conv.attrs as tf.FusedConv2DAttrs
    if (conv.kernel === 'FusedConv2D' && (attrs.activation ?? 'linear') !== 'linear') return undefined
    return { ...conv, kernel: 'FusedConv2D', outputs: node.outputs, attrs: { ...attrs, activation: 'relu' } }
  })
}

/** Conv2D followed only by the addition of a vector over its channels becomes FusedConv2D. */
function foldBiases(graph: KernelGraph): KernelGraph {
  const uses = countUses(graph)
  const convolutions = new Map<Value, KernelNode>()
  return rewrite(graph, (node) => {
    if (node.kernel === 'Conv2D') convolutions.set(node.outputs[0]!, node)
    if (node.kernel !== 'Add') return undefined
    const [sum, bias] = node.inputs as [Value, Value]
    const conv = convolutions.get(sum)
    if (conv === undefined || uses.get(sum) !== 1) return undefined
    if (sizeOf(bias.shape) !== sum.shape[3] || bias.shape.at(-1) !== sum.shape[3]) return undefined
    // A bias of more dimensions than the image gives its own rank to the sum.
    if (bias.shape.length > 4) return undefined
    return { ...node, kernel: 'FusedConv2D', inputs: [...conv.inputs, bias], attrs: conv.attrs }
  })
}

function dropUnused(graph: KernelGraph): KernelGraph {
  const needed = new Set<Value>(graph.outputs)
  const nodes = graph.nodes.toReversed().filter((node) => {
    if (!node.outputs.some((v) => needed.has(v))) return false
    for (const input of node.inputs) if (input) needed.add(input)
    return true
  })
  const constants = new Map([...graph.constants].filter(([v]) => needed.has(v)))
  const randoms = graph.randoms.filter(({ value }) => needed.has(value))
  return { ...graph, nodes: nodes.toReversed(), constants, randoms }
}
