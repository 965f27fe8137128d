/** Where models are cut: the places that there are, and the balance over them. */
import { describe, expect, test } from 'vitest'
import { gpt } from '../../../src/models/gpt.js'
import { residualBlocks } from '../../../src/models/resnet.js'
import { balancedCuts, possibleCuts } from '../../../src/runtime/pipeline/cuts.js'
import { type LayerGraph, layerGraph } from '../../../src/runtime/pipeline/layer-graph.js'
import { tinyModel } from '../ranks.js'

function built(options = {}) {
  const model = tinyModel(options)
  model.build([null, 6])
  return model
}

const names = ({ calls }: LayerGraph, cuts: readonly number[]) => cuts.map((at) => calls[at]!.layer.name)

describe('places with one tensor', () => {
  test('a GPT: between halves of blocks, and behind its embeddings', () => {
    const graph = layerGraph(gpt({ depth: 2, width: 8, heads: 2 }))
    expect(names(graph, possibleCuts(graph))).toEqual([
      'token',
      'position',
      ...[0, 1].flatMap((i) => [`block${i}_residual1`, `block${i}_residual2`]),
      'norm',
    ])
  })

  test('residual blocks: outside of them', () => {
    const graph = layerGraph(residualBlocks())
    const places = names(graph, possibleCuts(graph))
    expect(places.filter((name) => name.startsWith('add'))).toHaveLength(2)
    expect(places.filter((name) => /^(conv|norm)/.test(name))).toEqual([])
    expect(places.at(-1)).toBe('pool')
  })

  test('a sequential model: everywhere', () => {
    const graph = layerGraph(built({ dropout: 0.5 }))
    expect(possibleCuts(graph)).toEqual([0, 1])
  })
})

describe('balance', () => {
  const graph = layerGraph(gpt({ depth: 4, width: 8, heads: 2 }))
  const weigh = (heavy: Readonly<Record<string, number>>) =>
    graph.calls.map(({ layer }) => heavy[layer.name] ?? 0)

  test('of equal blocks', () => {
    const weights = weigh({ block0_up: 1, block1_up: 1, block2_up: 1, block3_up: 1 })
    const cuts = balancedCuts(graph, weights, 4)
    const stages = [...cuts, graph.calls.length - 1].map((end, i) =>
      weights.slice(i === 0 ? 0 : cuts[i - 1]! + 1, end + 1).reduce((a, b) => a + b, 0),
    )
    expect(stages).toEqual([1, 1, 1, 1])
  })

  test('the heaviest stage is as light as may be, then the others are equal', () => {
    const weights = weigh({ token: 1, block0_up: 1, block1_up: 6, block2_up: 2, block3_up: 2, head: 2 })
    const cuts = balancedCuts(graph, weights, 3)
    const ends = [...cuts, graph.calls.length - 1]
    const stages = ends.map((end, i) =>
      weights.slice(i === 0 ? 0 : ends[i - 1]! + 1, end + 1).reduce((a, b) => a + b, 0),
    )
    expect(stages).toEqual([2, 6, 6])
  })

  test('more stages than places', () => {
    expect(() => balancedCuts(layerGraph(built()), [1, 1], 3)).toThrow(
      'it has 2 layers, and a single tensor crosses at 1 of the places between them, which makes at most 2',
    )
  })
})
