/**
 * The part of ONNX's protobuf that Lockstep writes: message descriptors, and plain functions that build them.
 * It knows no TensorFlow.js and runs nothing. Source of the field numbers: onnx/onnx.proto (IR version 10).
 */
import protobuf from 'protobufjs'

/** TensorProto.DataType, the values that appear in the graphs made here. */
export const onnxType = { float32: 1, int32: 6, int64: 7, bool: 9, float16: 10, bfloat16: 16 } as const
/** The domain of onnxruntime's operators on blocked images (builder.ts says what those are). */
export const BLOCKED_DOMAIN = 'com.microsoft.nchwc'

export type OnnxType = keyof typeof onnxType

export type OnnxAttribute = number | string | readonly number[] | { readonly float: number }

export interface OnnxNode {
  /** What a profile calls it; without it the name of its first output. */
  readonly name?: string
  readonly op: string
  readonly inputs: readonly string[]
  readonly outputs: readonly string[]
  readonly attributes: Readonly<Record<string, OnnxAttribute>>
  readonly domain?: string
  /** Its one output, where onnxruntime cannot infer the shape. */
  readonly made?: OnnxValue
}

export interface OnnxTensor {
  readonly name: string
  readonly type: OnnxType
  readonly shape: readonly number[]
  readonly bytes: Uint8Array
}

export interface OnnxValue {
  readonly name: string
  readonly type: OnnxType
  readonly shape: readonly number[]
  /** Names of the dimensions that may have any size, such as N; undefined where `shape` says it. */
  readonly symbols?: readonly (string | undefined)[]
}

export interface OnnxGraph {
  readonly nodes: readonly OnnxNode[]
  readonly constants: readonly OnnxTensor[]
  readonly inputs: readonly OnnxValue[]
  readonly outputs: readonly OnnxValue[]
  /** Names of further outputs, whose types and shapes onnxruntime infers. */
  readonly untyped?: readonly string[]
}

const repeated = (type: string, id: number) => ({ rule: 'repeated', type, id })
const Model = protobuf.Root.fromJSON({
  nested: {
    OperatorSetId: { fields: { domain: { type: 'string', id: 1 }, version: { type: 'int64', id: 2 } } },
    Tensor: {
      fields: {
        dims: repeated('int64', 1),
        dataType: { type: 'int32', id: 2 },
        name: { type: 'string', id: 8 },
        rawData: { type: 'bytes', id: 9 },
      },
    },
    Attribute: {
      fields: {
        name: { type: 'string', id: 1 },
        f: { type: 'float', id: 2 },
        i: { type: 'int64', id: 3 },
        s: { type: 'bytes', id: 4 },
        ints: repeated('int64', 8),
        type: { type: 'int32', id: 20 },
      },
    },
    Node: {
      fields: {
        input: repeated('string', 1),
        output: repeated('string', 2),
        name: { type: 'string', id: 3 },
        opType: { type: 'string', id: 4 },
        attribute: repeated('Attribute', 5),
        domain: { type: 'string', id: 7 },
      },
    },
    Dimension: {
      fields: { dimValue: { type: 'int64', id: 1 }, dimParam: { type: 'string', id: 2 } },
    },
    Shape: { fields: { dim: repeated('Dimension', 1) } },
    TensorType: { fields: { elemType: { type: 'int32', id: 1 }, shape: { type: 'Shape', id: 2 } } },
    Type: { fields: { tensorType: { type: 'TensorType', id: 1 } } },
    ValueInfo: { fields: { name: { type: 'string', id: 1 }, type: { type: 'Type', id: 2 } } },
    Graph: {
      fields: {
        node: repeated('Node', 1),
        name: { type: 'string', id: 2 },
        initializer: repeated('Tensor', 5),
        input: repeated('ValueInfo', 11),
        output: repeated('ValueInfo', 12),
        valueInfo: repeated('ValueInfo', 13),
      },
    },
    Model: {
      fields: {
        irVersion: { type: 'int64', id: 1 },
        producerName: { type: 'string', id: 2 },
        graph: { type: 'Graph', id: 7 },
        opsetImport: repeated('OperatorSetId', 8),
      },
    },
  },
}).lookupType('Model')

const IR_VERSION = 10
const OPSET = 21

/** Encodes a graph as an ONNX model file, ready for an onnxruntime session. */
export function encodeModel(graph: OnnxGraph): Uint8Array {
  const domains = new Set(graph.nodes.flatMap(({ domain }) => domain ?? []))
  const message = Model.fromObject({
    irVersion: IR_VERSION,
    producerName: 'lockstep',
    opsetImport: [{ domain: '', version: OPSET }, ...[...domains].map((domain) => ({ domain, version: 1 }))],
    graph: {
      name: 'lockstep',
      node: graph.nodes.map(encodeNode),
      initializer: graph.constants.map((t) => ({
        name: t.name,
        dims: t.shape,
        dataType: onnxType[t.type],
        rawData: t.bytes,
      })),
      input: graph.inputs.map(encodeValue),
      output: [...graph.outputs.map(encodeValue), ...(graph.untyped ?? []).map((name) => ({ name }))],
      valueInfo: graph.nodes.flatMap(({ made }) => (made ? [encodeValue(made)] : [])),
    },
  })
  return Model.encode(message).finish()
}

function encodeNode(node: OnnxNode): object {
  return {
    name: node.name ?? node.outputs[0],
    opType: node.op,
    domain: node.domain ?? '',
    input: node.inputs,
    output: node.outputs,
    attribute: Object.entries(node.attributes).map(([name, value]) => encodeAttribute(name, value)),
  }
}

/** A bare number is an integer attribute (ONNX tells them apart by type): floats are wrapped in {float}. */
function encodeAttribute(name: string, value: OnnxAttribute): object {
  if (typeof value === 'number') return { name, i: value, type: 2 }
  if (typeof value === 'string') return { name, s: new TextEncoder().encode(value), type: 3 }
  if ('float' in value) return { name, f: value.float, type: 1 }
  return { name, ints: value, type: 7 }
}

function encodeValue(value: OnnxValue): object {
  const dimension = (dimValue: number, i: number) => {
    const dimParam = value.symbols?.[i]
    return dimParam === undefined ? { dimValue } : { dimParam }
  }
  const shape = { dim: value.shape.map(dimension) }
  return { name: value.name, type: { tensorType: { elemType: onnxType[value.type], shape } } }
}
