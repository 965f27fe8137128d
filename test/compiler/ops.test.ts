/** Every covered op against TensorFlow.js' cpu backend: outputs and gradients. */
import { describe, expect, test } from 'vitest'
import { kernelNames, opFor } from '../../src/compiler/ops/index.js'
import { runCases } from './case.js'
import { elementwiseCases } from './elementwise.cases.js'
import { lowered } from './harness.js'
import { imageCases } from './image.cases.js'
import { matmulCases } from './matmul.cases.js'
import { rearrangeCases } from './rearrange.cases.js'
import { reductionCases } from './reduction.cases.js'
import { shapeCases } from './shape.cases.js'
import { windowCases } from './window.cases.js'

describe('elementwise', () => runCases(elementwiseCases))
describe('matrix products', () => runCases(matmulCases))
describe('reductions', () => runCases(reductionCases))
describe('shapes', () => runCases(shapeCases))
describe('images', () => runCases(imageCases))
describe('windows', () => runCases(windowCases))
describe('rearranged', () => runCases(rearrangeCases))

test('every covered kernel was compared', () => {
  // Identity gives back what it was given, so no node of it is ever recorded; our own kernels: layers.test.ts.
  const elsewhere = (name: string) => name === 'Identity' || name.startsWith('Lockstep')
  const covered = kernelNames().filter((name) => opFor(name) !== undefined)
  expect(covered.filter((name) => !lowered.has(name) && !elsewhere(name))).toEqual([])
})
