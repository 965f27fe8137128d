/** Saving to a disk that is full: a real one of 256 KiB, which only root may mount. */
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readdirSync, rmdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import { adam } from '../../../src/runtime/optimizers/index.js'
import { asRanks, samples, tinyModel } from '../ranks.js'

const disk = mkdtempSync(join(tmpdir(), 'lockstep-test-disk-'))
const mounted = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=256k', 'tmpfs', disk]).status === 0
afterAll(() => {
  if (mounted) spawnSync('umount', [disk])
  rmdirSync(disk)
})

test.skipIf(!mounted).each([false, true])(
  'every rank gets ENOSPC and the former checkpoint stays (skipped where tmpfs cannot be mounted); background: %s',
  async (background) => {
    const [directory, filler] = [join(disk, 'checkpoints'), join(disk, 'filler')]
    await asRanks(2, async (world) => {
      const ddp = await world.ddp(tinyModel(), { loss: 'softmaxCrossEntropy', optimizer: adam(0.01) })
      const { x, y } = samples(0, 8)
      await ddp.save(directory, { at: 'first' })
      await ddp.step(x, y)
      if (world.rank === 0) expect(() => writeFileSync(filler, Buffer.alloc(300_000))).toThrow('ENOSPC')
      const saving = async () => {
        await ddp.save(directory, {}, { background })
        await ddp.saved()
      }
      await expect(saving()).rejects.toThrow(
        /^cannot write checkpoint \S+step-00000001: ENOSPC: .*; give a directory that .* on a disk with room$/,
      )
      expect(readdirSync(directory)).toEqual(['step-00000000'])
      if (world.rank === 0) rmSync(filler)
      await saving()
      expect(await ddp.load(directory)).toEqual({})
      expect(ddp.stepCount).toBe(1)
    })
    rmSync(directory, { recursive: true })
  },
)
