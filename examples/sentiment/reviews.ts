/** Reviews to classify: read from a file or made up, and turned into numbers. Knows words and labels, no model. */
import { readFile } from 'node:fs/promises'
import { randomUniform } from '@tensorflow/tfjs-core'
import { type Dataset, LockstepError } from 'lockstep'

export interface Review {
  readonly words: readonly string[]
  /** 1: positive. */
  readonly label: 0 | 1
}

/** One review a line: `0` or `1`, a tab, the text. */
export async function readReviews(path: string): Promise<Review[]> {
  const text = await readFile(path, 'utf8').catch((cause: Error) => {
    throw new LockstepError(`${path}: cannot be read (${cause.message}); name a readable file`, { cause })
  })
  const lines = text.split('\n').filter(Boolean)
  return lines.map((line, i) => {
    const [, label, words] = /^([01])\t(.+)$/.exec(line) ?? []
    if (words === undefined)
      throw new LockstepError(`${path}, line ${i + 1}: expected 0 or 1, a tab and the review's text`)
    return { words: words.toLowerCase().match(/[\p{L}\p{N}']+/gu) ?? [], label: label === '1' ? 1 : 0 }
  })
}

const things = 'plot acting music ending dialogue camera story cast pace humour'.split(' ')
const good = 'brilliant moving clever charming gripping lovely fresh superb'.split(' ')
const bad = 'dull clumsy boring shallow noisy weak stale awful'.split(' ')
const turns = 'but yet still however'.split(' ')

/** "the plot was not dull but the acting was weak": the last clause counts, and `not` turns it around. */
export function inventReviews(count: number, seed: number): Review[] {
  const drawsPerReview = 9
  const draws = randomUniform([count * drawsPerReview], 0, 1, 'float32', seed + 1).dataSync()
  let at = 0
  const pick = <T>(list: readonly T[]): T => list[Math.floor(draws[at++]! * list.length)]!
  const clause = () => {
    const [negated, liked] = [pick([false, true]), pick([false, true])]
    const words = ['the', pick(things), 'was', ...(negated ? ['not'] : []), pick(liked ? good : bad)]
    return { words, positive: liked !== negated }
  }
  return Array.from({ length: count }, () => {
    const [first, turn, last] = [clause(), pick(turns), clause()]
    return { words: [...first.words, turn, ...last.words], label: last.positive ? 1 : 0 }
  })
}

/** Word 1, 2, … in order of frequency; what is not among the first `size - 1` is 0, as is the padding before a review. */
export function numberWords(reviews: readonly Review[], size: number): Map<string, number> {
  const counts = new Map<string, number>()
  for (const word of reviews.flatMap(({ words }) => words)) counts.set(word, (counts.get(word) ?? 0) + 1)
  const byCount = [...counts].sort(([, a], [, b]) => b - a).slice(0, size - 1)
  return new Map(byCount.map(([word], i) => [word, i + 1]))
}

/** Batches: x int32 [B, length], the last `length` words of each review; y int32 [B]. */
export function reviewDataset(
  reviews: readonly Review[],
  numbers: ReadonlyMap<string, number>,
  length: number,
): Dataset {
  return {
    length: reviews.length,
    batch(indices) {
      const chosen = Array.from(indices, (index) => reviews[index]!)
      const x = new Int32Array(chosen.length * length)
      chosen.forEach(({ words }, row) => {
        const known = words.slice(-length).map((word) => numbers.get(word) ?? 0)
        x.set(known, (row + 1) * length - known.length)
      })
      const y = Int32Array.from(chosen, ({ label }) => label)
      return { x: { data: x, shape: [chosen.length, length] }, y: { data: y, shape: [chosen.length] } }
    },
  }
}
