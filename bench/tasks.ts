/** What benchmarks of accuracy train: the reference models, on digits or on a text. */
import { readFileSync } from 'node:fs'
import type { LayersModel } from '@tensorflow/tfjs-layers'
import { cnn, type Dataset, generateDigits, gpt, mlp, readIdx } from '../src/index.js'

export interface Task {
  readonly make: () => LayersModel
  readonly train: Dataset
  readonly test: Dataset
}

const CONTEXT = 64
const CORIOLANUS = new URL('../examples/gpt/coriolanus.txt', import.meta.url)

/** @param source MNIST's directory, or a text file; undefined: digits are generated, the text is the GPT example's */
export async function taskOf(model: 'mlp' | 'cnn' | 'gpt', source?: string): Promise<Task> {
  if (model === 'gpt') return characters(source ?? CORIOLANUS)
  const make = () => (model === 'cnn' ? cnn({ seed: 1 }) : mlp({ seed: 1 }))
  const [train, test] =
    source === undefined
      ? [generateDigits(12_000, 1), generateDigits(2_000, 2)]
      : [await readIdx(source, 'train'), await readIdx(source, 'test')]
  return { make, train, test }
}

/** Stretches of a text's bytes, and the byte that follows each; the last tenth is for testing. */
function characters(source: string | URL): Task {
  const text = readFileSync(source)
  const end = Math.floor(0.9 * text.length)
  const stretches = (from: number, to: number, stride: number): Dataset => {
    const cut = (indices: ArrayLike<number>, shift: number) => ({
      data: Int32Array.from(
        { length: indices.length * CONTEXT },
        (_, i) => text[from + indices[Math.floor(i / CONTEXT)]! * stride + shift + (i % CONTEXT)]!,
      ),
      shape: [indices.length, CONTEXT],
    })
    return {
      length: Math.floor((to - from - CONTEXT - 1) / stride) + 1,
      batch: (indices) => ({ x: cut(indices, 0), y: cut(indices, 1) }),
    }
  }
  return {
    make: () => gpt({ context: CONTEXT, seed: 1 }),
    train: stretches(0, end, 1),
    test: stretches(end, text.length, CONTEXT),
  }
}
