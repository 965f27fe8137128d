/** A checkpoint of one mesh goes on on another, on the curve of one rank: four ranks. */
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { beforeAll, describe, expect, test } from 'vitest'
import { type MeshName, run } from './meshes.js'
import { temporaryFolder } from './temporary.js'

const HALF = 6
let whole: readonly number[]
beforeAll(async () => {
  whole = (await run('one rank', { steps: 2 * HALF })).losses
})

const furthest = (a: readonly number[], b: readonly number[]) =>
  Math.max(...a.map((value, i) => Math.abs(value - b[i]!)))

const froms: MeshName[] = ['tp 2, dp 2', 'tp 2, dp 2, zero 1', 'pp 2, tp 2']

describe.each(froms)('from %s', (from) => {
  test.each<MeshName>([
    'pp 4',
    'zero 3 on four',
    'one rank',
    'tp 2, dp 2, zero 1',
    'pp 2, tp 2',
    'zero 3 on two',
  ])('to %s', async (to) => {
    const directory = await temporaryFolder()
    const before = await run(from, { steps: HALF, saveTo: directory })
    const files = readdirSync(join(directory, 'step-00000006'))
    expect(files.filter((name) => name.startsWith('shard-'))).toHaveLength(4)
    const after = await run(to, { steps: HALF, loadFrom: directory })
    expect(after.loaded).toBe(before.sha)
    expect(furthest([...before.losses, ...after.losses], whole)).toBeLessThan(1e-4)
  })
})
