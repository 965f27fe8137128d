/** Both ways into onnxruntime do the same; the direct one copies nothing. */
import { describe, expect, test } from 'vitest'
import type { Numbers } from '../../src/compiler/graph.js'
import { loadNativeApi } from '../../src/compiler/native-api.js'
import { NativeSession } from '../../src/compiler/native-session.js'
import { NodeSession } from '../../src/compiler/node-session.js'
import type { OnnxGraph, OnnxNode, OnnxType, OnnxValue } from '../../src/compiler/onnx.js'

const native = await loadNativeApi()
const backends = [
  { name: 'onnxruntime-node', create: (graph: OnnxGraph) => NodeSession.create(graph, { threads: 1 }) },
  ...(native
    ? [
        {
          name: 'its library',
          create: (graph: OnnxGraph) => NativeSession.create(native, graph, { threads: 1 }),
        },
        {
          name: 'its library, which remembers two buffers a name',
          create: (graph: OnnxGraph) => NativeSession.create(native, graph, { threads: 1, remembered: 2 }),
        },
      ]
    : []),
]
test.skipIf(native)('without koffi there is one way only', () => {})

const value = (name: string, type: OnnxType, shape: number[]): OnnxValue => ({ name, type, shape })
const node = (op: string, inputs: string[], output: string): OnnxNode => ({
  ...{ op, inputs, outputs: [output], attributes: {} },
})
const graphOf = (nodes: OnnxNode[], inputs: OnnxValue[], outputs: OnnxValue[], untyped: string[] = []) => ({
  ...{ nodes, constants: [], inputs, outputs, untyped },
})

describe.each(backends)('$name', ({ create }) => {
  test('computes into the buffers that are bound, and into others when they are bound anew', async () => {
    const [x, y] = [value('x', 'float32', [2, 3]), value('y', 'float32', [2, 3])]
    const session = await create(graphOf([node('Neg', ['x'], 'y')], [x], [y]))
    const [first, second] = [new Float32Array(6), new Float32Array(6)]
    session.bindInput(x, Float32Array.of(1, 2, 3, 4, 5, 6))
    session.bindOutput(y, first)
    await session.run()
    expect([...first]).toEqual([-1, -2, -3, -4, -5, -6])
    session.bindInput(x, Float32Array.of(7, 7, 7, 7, 7, 7))
    session.bindOutput(y, second)
    await session.run()
    expect([...first]).toEqual([-1, -2, -3, -4, -5, -6])
    expect([...second]).toEqual([-7, -7, -7, -7, -7, -7])
    await session.release()
  })

  test('buffers in turn, more of them than are remembered', async () => {
    const [x, y] = [value('x', 'float32', [1]), value('y', 'float32', [1])]
    const session = await create(graphOf([node('Neg', ['x'], 'y')], [x], [y]))
    const pairs = [1, 2, 3].map((n) => [Float32Array.of(n), new Float32Array(1)] as const)
    for (const turn of [0, 1, 0, 1, 2, 0, 0, 2, 1]) {
      const [given, made] = pairs[turn]!
      given[0]! += 10
      session.bindInput(x, given)
      session.bindOutput(y, made)
      await session.run()
      expect(made[0]).toBe(-given[0]!)
    }
    expect(pairs.map(([, [made]]) => made)).toEqual([-41, -32, -23])
    await session.release()
  })

  test('takes whole numbers, truth values, scalars and nothing at all, and tells the types of what it infers', async () => {
    const inputs = [
      ...[value('i', 'int32', [2]), value('l', 'int64', []), value('b', 'bool', [3])],
      value('none', 'float32', [0, 4]),
    ]
    const outputs = [value('i2', 'int32', [2]), value('l2', 'int64', []), value('none2', 'float32', [0, 4])]
    const nodes = [
      ...[node('Neg', ['i'], 'i2'), node('Neg', ['l'], 'l2'), node('Not', ['b'], 'b2')],
      node('Neg', ['none'], 'none2'),
    ]
    const session = await create(graphOf(nodes, inputs, outputs, ['b2']))
    expect(session.describe('b2')).toEqual({ name: 'b2', type: 'bool', shape: [3] })
    const made = [new Int32Array(2), new BigInt64Array(1), new Float32Array(0), new Uint8Array(3)] as const
    const given = [Int32Array.of(1, -2), BigInt64Array.of(3n), Uint8Array.of(1, 0, 1), new Float32Array(0)]
    for (const [i, input] of inputs.entries()) session.bindInput(input, given[i]! as Numbers)
    for (const [i, output] of [...outputs, session.describe('b2')].entries())
      session.bindOutput(output, made[i]! as Numbers)
    await session.run()
    expect([...made[0]]).toEqual([-1, 2])
    expect([...made[1]]).toEqual([-3n])
    expect([...made[3]]).toEqual([0, 1, 0])
    await session.release()
  })

  test('fails with onnxruntime’s words, and runs again', async () => {
    const [x, at, y] = [value('x', 'float32', [3]), value('at', 'int32', [1]), value('y', 'float32', [1])]
    const session = await create(graphOf([node('Gather', ['x', 'at'], 'y')], [x, at], [y]))
    const [index, result] = [Int32Array.of(5), new Float32Array(1)]
    session.bindInput(x, Float32Array.of(1, 2, 3))
    session.bindInput(at, index)
    session.bindOutput(y, result)
    await expect(session.run()).rejects.toThrow(/idx=5 must be within the inclusive range \[-3,2\]/)
    index[0] = 2
    await session.run()
    expect(result[0]).toBe(3)
    session.unbindInput('x')
    await expect(session.run()).rejects.toThrow(/input 'x'/)
    await session.release()
  })

  test('says what is wrong with a graph', async () => {
    const graph = graphOf(
      [node('NoSuchOp', ['x'], 'y')],
      [value('x', 'float32', [1])],
      [value('y', 'float32', [1])],
    )
    await expect((async () => create(graph))()).rejects.toThrow(/NoSuchOp/)
  })
})

test.skipIf(!native)('a run makes no arrays', async () => {
  const [x, y] = [value('x', 'float32', [2 ** 22]), value('y', 'float32', [2 ** 22])]
  const session = NativeSession.create(native!, graphOf([node('Neg', ['x'], 'y')], [x], [y]), { threads: 1 })
  session.bindInput(x, new Float32Array(2 ** 22))
  session.bindOutput(y, new Float32Array(2 ** 22))
  await session.run()
  const before = process.memoryUsage().arrayBuffers
  for (let i = 0; i < 3; i++) await session.run()
  expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(2 ** 20)
  await session.release()
})
