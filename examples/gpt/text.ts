/** Text as numbers: one a character. Knows files and characters, no model. */
import { readFile } from 'node:fs/promises'
import { type Dataset, LockstepError } from 'lockstep'

/** The opening of Shakespeare's Coriolanus. */
export const CORIOLANUS = new URL('coriolanus.txt', import.meta.url)

export class Text {
  /** Every character that occurs, in order; a character's number is its place here. */
  readonly vocabulary: readonly string[]
  readonly numbers: Int32Array

  constructor(text: string) {
    this.vocabulary = [...new Set(text)].sort()
    const numberOf = new Map(this.vocabulary.map((character, i) => [character, i]))
    this.numbers = Int32Array.from(text, (character) => numberOf.get(character)!)
  }

  decode(numbers: Iterable<number>): string {
    return Array.from(numbers, (number) => this.vocabulary[number]).join('')
  }

  /**
   * Stretches of `context` characters, one from every `stride`-th character of [from, to) on, and what follows each of
   * their characters. Batches: x and y int32 [B, context].
   */
  stretches(from: number, to: number, context: number, stride: number): Dataset {
    const { numbers } = this
    const length = Math.floor((to - from - context - 1) / stride) + 1
    if (length < 1)
      throw new LockstepError(
        `the text's characters from ${from} to ${to} are fewer than --context (${context}) + 1: take a longer text or ` +
          'a shorter context',
      )
    return {
      length,
      batch(indices) {
        const [x, y] = [0, 1].map((shift) => {
          const data = new Int32Array(indices.length * context)
          for (let row = 0; row < indices.length; row++) {
            const start = from + indices[row]! * stride + shift
            data.set(numbers.subarray(start, start + context), row * context)
          }
          return { data, shape: [indices.length, context] }
        })
        return { x: x!, y: y! }
      },
    }
  }
}

export async function readText(path: string | URL): Promise<Text> {
  const text = await readFile(path, 'utf8').catch((cause: Error) => {
    throw new LockstepError(`--text ${path}: cannot be read (${cause.message}); name a readable file`, {
      cause,
    })
  })
  return new Text(text)
}
