/** A corpus of sentences, and the pairs of words that stand near each other in it. Knows no model. */
import { readFile } from 'node:fs/promises'
import { randomUniform } from '@tensorflow/tfjs-core'
import { type Dataset, LockstepError } from 'lockstep'

const kinds = {
  person: 'anna bruno clara dario elena fabio'.split(' '),
  animal: 'cat dog horse goat crow fox'.split(' '),
  eats: 'eats chews swallows nibbles devours'.split(' '),
  food: 'apple bread carrot cheese melon rice'.split(' '),
  uses: 'lifts cleans repairs borrows grabs'.split(' '),
  tool: 'hammer ladder needle shovel spanner rope'.split(' '),
  goes: 'visits leaves crosses sees reaches'.split(' '),
  place: 'bridge harbour market meadow station village'.split(' '),
}
type Kind = keyof typeof kinds
const patterns: readonly (readonly Kind[])[] = [
  ['animal', 'eats', 'food'],
  ['person', 'eats', 'food'],
  ['person', 'uses', 'tool'],
  ['person', 'goes', 'place'],
  ['animal', 'goes', 'place'],
]

/** What sort of word an invented one is: words of one sort stand among the same words. */
export const kindOf = new Map(
  Object.entries(kinds).flatMap(([kind, list]) => list.map((word) => [word, kind])),
)

export function inventSentences(count: number, seed: number): string[][] {
  const draws = randomUniform([count * 4], 0, 1, 'float32', seed + 1).dataSync()
  const pick = <T>(list: readonly T[], draw: number): T => list[Math.floor(draw * list.length)]!
  return Array.from({ length: count }, (_, i) =>
    pick(patterns, draws[4 * i]!).map((kind, k) => pick(kinds[kind], draws[4 * i + 1 + k]!)),
  )
}

/** One sentence a line. */
export async function readSentences(path: string): Promise<string[][]> {
  const text = await readFile(path, 'utf8').catch((cause: Error) => {
    throw new LockstepError(`${path}: cannot be read (${cause.message}); name a readable file`, { cause })
  })
  return text.split('\n').map((line) => line.toLowerCase().match(/[\p{L}']+/gu) ?? [])
}

/**
 * Every word with each of its neighbours up to `window` words away, and with `negatives` words drawn as often as they
 * occur. Batches: x int32 [B, 2 + negatives], a word, its neighbour and the drawn ones; y float32 [B, 1 + negatives], 1
 * for the neighbour.
 * @param sentences words as numbers
 */
export function pairDataset(
  sentences: readonly (readonly number[])[],
  { window, negatives, seed }: { window: number; negatives: number; seed: number },
): Dataset {
  const pairs = sentences.flatMap((words) =>
    words.flatMap((word, i) =>
      words.flatMap((other, j) => (i !== j && Math.abs(i - j) <= window ? [[word, other]] : [])),
    ),
  )
  const corpus = sentences.flat()
  const draws = randomUniform([pairs.length * negatives], 0, 1, 'float32', seed + 1).dataSync()
  return {
    length: pairs.length,
    batch(indices) {
      const width = 1 + negatives
      const x = Array.from(indices, (index) => {
        const drawn = draws.subarray(index * negatives, (index + 1) * negatives)
        return [...pairs[index]!, ...Array.from(drawn, (draw) => corpus[Math.floor(draw * corpus.length)]!)]
      })
      const y = Float32Array.from({ length: indices.length * width }, (_, i) => (i % width === 0 ? 1 : 0))
      return {
        x: { data: Int32Array.from(x.flat()), shape: [indices.length, 1 + width] },
        y: { data: y, shape: [indices.length, width] },
      }
    },
  }
}
