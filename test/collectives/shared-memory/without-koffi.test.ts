import { expect, test, vi } from 'vitest'
import { loadSystem } from '../../../src/collectives/shared-memory/system.js'

vi.mock('koffi', () => {
  throw new Error("Cannot find package 'koffi' imported from /app/node_modules/lockstep/dist/lib/chunk-A.js")
})

test('where koffi is missing the reason says how to install it', async () => {
  await expect(loadSystem()).rejects.toThrow(
    /^the optional package koffi does not load \(.*\); install it: npm install koffi$/,
  )
})
