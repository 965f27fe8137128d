/** A checkpoint of one mesh goes on on another, on the curve of one rank: two ranks. */
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { beforeAll, expect, test } from 'vitest'
import { type MeshName, run } from './meshes.js'
import { temporaryFolder } from './temporary.js'

const HALF = 4
let whole: readonly number[]
beforeAll(async () => {
  whole = (await run('one rank', { steps: 2 * HALF })).losses
})

const furthest = (a: readonly number[], b: readonly number[]) =>
  Math.max(...a.map((value, i) => Math.abs(value - b[i]!)))

test.each<[MeshName, MeshName, boolean]>([
  ['tp 2', 'pp 2', true],
  ['pp 2', 'zero 3 on two', true],
  ['pp 2', 'tp 2', false],
])('from %s to %s (sharded: %s)', async (from, to, sharded) => {
  const directory = await temporaryFolder()
  const before = await run(from, { steps: HALF, saveTo: directory, sharded })
  const files = readdirSync(join(directory, 'step-00000004'))
  expect(files.filter((name) => name.startsWith('shard-'))).toHaveLength(sharded ? 2 : 0)
  const after = await run(to, { steps: HALF, loadFrom: directory })
  expect(after.loaded).toBe(before.sha)
  expect(furthest([...before.losses, ...after.losses], whole)).toBeLessThan(1e-4)
})
