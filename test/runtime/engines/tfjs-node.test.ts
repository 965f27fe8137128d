/**
 * The eager engine on tfjs-node beside the compiled engine: `npm run test:tfjs-node`. tfjs-node may be installed here or
 * in the project TFJS_NODE; `npm run link-tfjs-node` builds its addon where libtensorflow 2.9 cannot be had.
 */
import { createRequire } from 'node:module'
import { resolve } from 'node:path'
import * as tf from '@tensorflow/tfjs-core'
import { beforeAll, describe, expect, test } from 'vitest'
import { cases, train } from './cases.js'

const project = resolve(process.env.TFJS_NODE ?? '.', 'package.json')

/** Why there is nothing to test; undefined where there is. Registers the backend. */
const missing = process.env.TEST_TFJS_NODE ? load() : 'npm run test:tfjs-node'

function load(): string | undefined {
  try {
    createRequire(project)('@tensorflow/tfjs-node')
  } catch (error) {
    return (error as Error).message.split('\n')[0]
  }
  return undefined
}

describe.skipIf(missing)(`on tfjs-node${missing === undefined ? '' : `: ${missing}`}`, () => {
  beforeAll(async () => {
    await tf.setBackend('tensorflow')
  })

  test.each(Object.entries(cases))('%s: the same losses to 1e-4', async (_, given) => {
    const compiled = await train(given, { engine: 'onnx' })
    expect(tf.getBackend()).toBe('tensorflow')
    const eager = await train(given, { engine: 'tfjs' })
    eager.losses.forEach((loss, i) => {
      expect(Math.abs(loss - compiled.losses[i]!)).toBeLessThan(1e-4)
    })
  })
})
