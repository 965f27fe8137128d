import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { cp, mkdir, readdir, readFile, rename, rm, symlink, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, onTestFinished, test } from 'vitest'
import { LockstepError } from '../../../src/errors.js'
import {
  type Checkpoint,
  readCheckpoint,
  writeCheckpoint,
} from '../../../src/runtime/checkpoint/checkpoints.js'
import { temporaryFolder } from './temporary.js'

const savingForever = fileURLToPath(new URL('saving-forever.ts', import.meta.url))

function checkpoint(step: number): Checkpoint {
  const data = Float32Array.from({ length: 6 }, (_, i) => i / 7 + step)
  return {
    step,
    model: [{ name: 'dense/kernel', shape: [2, 3], data }],
    optimizer: [{ name: 'm', shape: [6], data: data.map((x) => -x) }],
    state: { epoch: 2, optimizer: { name: 'adam', lr: 0.001 }, random: [1, 2, 3], note: 'é' },
  }
}

describe('checkpoints', () => {
  test('the latest comes back as it was written', async () => {
    const dir = join(await temporaryFolder(), 'made', 'on the way')
    for (const step of [9, 150, 20]) await writeCheckpoint(dir, checkpoint(step))
    expect(await readCheckpoint(dir)).toEqual({
      path: join(dir, 'step-00000150'),
      damaged: [],
      ...checkpoint(150),
    })
    expect((await readdir(dir)).sort()).toEqual(['step-00000009', 'step-00000020', 'step-00000150'])
  })

  test('there is none in a directory that is not there, empty, or full of other things', async () => {
    const dir = await temporaryFolder()
    expect(await readCheckpoint(join(dir, 'absent'))).toBeUndefined()
    expect(await readCheckpoint(dir)).toBeUndefined()
    for (const name of ['step-1', 'step-00000001.tmp-12', 'step-00000001x', 'best'])
      await mkdir(join(dir, name))
    expect(await readCheckpoint(dir)).toBeUndefined()
  })

  test('one that is itself taken for the directory of checkpoints is an error, not a beginning', async () => {
    const dir = await temporaryFolder()
    const path = await writeCheckpoint(dir, checkpoint(9))
    await expect(readCheckpoint(path)).rejects.toThrow(
      `${path} is a checkpoint itself: expected the directory that holds it; load it by load('${dir}', { step: 9 })`,
    )
  })

  test('step numbers of more than eight digits are later, not first in the alphabet', async () => {
    const dir = await temporaryFolder()
    for (const step of [123_456_789, 99_999_999]) await writeCheckpoint(dir, checkpoint(step))
    expect((await readCheckpoint(dir))!.step).toBe(123_456_789)
  })

  test('sha256sum(1) verifies it', async () => {
    const folder = await writeCheckpoint(await temporaryFolder(), checkpoint(3))
    expect(execFileSync('sha256sum', ['-c', 'SHA256SUMS'], { cwd: folder, encoding: 'utf8' })).toBe(
      'model.safetensors: OK\noptimizer.safetensors: OK\nstate.json: OK\n',
    )
  })

  test('one of the same step is replaced', async () => {
    const dir = await temporaryFolder()
    await writeCheckpoint(dir, checkpoint(3))
    await writeCheckpoint(dir, { ...checkpoint(3), state: { epoch: 7 } })
    expect((await readCheckpoint(dir))!.state).toEqual({ epoch: 7 })
    expect(await readdir(dir)).toEqual(['step-00000003'])
  })

  test('a crash between the two renames of a replacement loses nothing', async () => {
    const dir = await temporaryFolder()
    await rename(await writeCheckpoint(dir, checkpoint(3)), join(dir, 'step-00000003.old-1'))
    expect((await readCheckpoint(dir))!.step).toBe(3)
    await writeCheckpoint(dir, checkpoint(3))
    await writeCheckpoint(dir, checkpoint(4))
    expect((await readdir(dir)).sort()).toEqual(['step-00000003', 'step-00000004'])
  })

  test('what dead runs left is removed, what a living one writes is not', async () => {
    const dir = await temporaryFolder()
    const child = spawn('true')
    await once(child, 'exit')
    const names = [
      `step-00000001.tmp-${child.pid}`,
      `step-00000002.tmp-${process.pid}`,
      'step-00000001.tmp-1',
    ]
    for (const name of names) await mkdir(join(dir, name))
    await writeCheckpoint(dir, checkpoint(2))
    expect((await readdir(dir)).sort()).toEqual(['step-00000001.tmp-1', 'step-00000002'])
  })

  test('an error while writing leaves nothing, and what was there stays', async () => {
    const dir = await temporaryFolder()
    await writeCheckpoint(dir, checkpoint(2))
    const tensor = checkpoint(3).model[0]!
    await expect(writeCheckpoint(dir, { ...checkpoint(3), model: [tensor, tensor] })).rejects.toThrow(
      'two tensors',
    )
    expect(await readdir(dir)).toEqual(['step-00000002'])
    expect((await readCheckpoint(dir))!.step).toBe(2)
  })

  test('a process killed while saving leaves complete checkpoints only', { timeout: 60_000 }, async () => {
    const dir = await temporaryFolder()
    for (let round = 0; round < 4; round++) {
      const saver = spawn(process.execPath, ['--import', 'tsx', savingForever, dir], {
        stdio: ['ignore', 'pipe', 'inherit'],
      })
      onTestFinished(() => void saver.kill('SIGKILL'))
      await once(saver.stdout, 'data') // the first two are written
      await new Promise((resolve) => setTimeout(resolve, 7 + 11 * round))
      saver.kill('SIGKILL')
      await once(saver, 'exit')
      expect((await readCheckpoint(dir))!.model[0]!.data).toHaveLength(200_000)
    }
    await writeCheckpoint(dir, checkpoint(999))
    expect((await readdir(dir)).filter((name) => !/^step-\d{8}$/.test(name))).toEqual([])
  })

  test('a directory that cannot be: the error names path, cause and what to do', async () => {
    const file = join(await temporaryFolder(), 'file')
    await writeFile(file, '')
    for (const dir of [file, join(file, 'below')]) {
      await expect(writeCheckpoint(dir, checkpoint(1))).rejects.toThrow(
        expect.objectContaining({
          name: 'LockstepError',
          message: expect.stringMatching(
            /^cannot write checkpoint .*file.*step-00000001: (EEXIST|ENOTDIR): .*; give a directory/,
          ),
        }),
      )
      await expect(readCheckpoint(dir)).rejects.toThrow(
        expect.objectContaining({
          name: 'LockstepError',
          message: expect.stringMatching(
            /^cannot read checkpoints in .*file.*: ENOTDIR: .*; give a directory/,
          ),
        }),
      )
    }
  })
})

test.skipIf(process.platform !== 'linux')(
  'a directory in /proc (Linux) is refused, and not tried for ever',
  async () => {
    await expect(writeCheckpoint('/proc/checkpoints/here', checkpoint(1))).rejects.toThrow(
      /^cannot write checkpoint .*: ENOENT: .*mkdir '\/proc\/checkpoints'; give a directory/,
    )
  },
)

describe('a damaged checkpoint', () => {
  const files = ['model.safetensors', 'optimizer.safetensors', 'state.json', 'SHA256SUMS']

  async function damaged(damage: (path: string) => Promise<unknown>, file: string): Promise<string> {
    const dir = await temporaryFolder()
    await writeCheckpoint(dir, checkpoint(1))
    const folder = await writeCheckpoint(dir, checkpoint(2))
    await damage(join(folder, file))
    return dir
  }

  /** Passed over for step 1, saying why; and as the only one, or the one asked for, an error. */
  async function expectPassedOver(dir: string, file: string, what: RegExp): Promise<void> {
    const newest = join(dir, 'step-00000002')
    const found = (await readCheckpoint(dir))!
    expect(found.step).toBe(1)
    expect(found.damaged).toHaveLength(1)
    expect(found.damaged[0]).toMatch(what)
    expect(found.damaged[0]).toContain(`checkpoint ${newest} is damaged (`)
    expect(found.damaged[0]).toContain(file)
    expect(found.damaged[0]).not.toContain('\n')
    await expect(readCheckpoint(dir, { step: 2 })).rejects.toThrow(
      new LockstepError(`cannot resume: ${found.damaged[0]}; load another`),
    )
    await rm(join(dir, 'step-00000001'), { recursive: true })
    await expect(readCheckpoint(dir)).rejects.toThrow(
      new LockstepError(
        `cannot resume: ${found.damaged[0]}; delete what is damaged to start from the beginning`,
      ),
    )
  }

  test.each(files)('%s cut short', async (file) => {
    const dir = await damaged(async (path) => truncate(path, (await readFile(path)).length - 4), file)
    const what = {
      'model.safetensors': /it has 20 bytes of tensors, its header describes 24/,
      'optimizer.safetensors': /it has 20 bytes of tensors, its header describes 24/,
      'state.json': /has SHA-256 [0-9a-f]{64}, expected [0-9a-f]{64}/,
      SHA256SUMS: /has SHA-256 [0-9a-f]{64}, expected|no line for state.json|state/,
    }[file]!
    await expectPassedOver(dir, file === 'SHA256SUMS' ? 'state.json' : file, what)
  })

  test.each(files.slice(0, 3))('%s with one bit changed', async (file) => {
    const dir = await damaged(async (path) => {
      const bytes = await readFile(path)
      bytes[bytes.length - 3]! ^= 1
      await writeFile(path, bytes)
    }, file)
    await expectPassedOver(dir, file, /has SHA-256 [0-9a-f]{64}, expected [0-9a-f]{64}/)
  })

  test.each(files)('%s missing', async (file) => {
    await expectPassedOver(await damaged((path) => rm(path), file), file, /ENOENT/)
  })

  test('several damaged ones are all passed over; when all are, the error counts them', async () => {
    const dir = await temporaryFolder()
    for (const step of [1, 2, 3]) await writeCheckpoint(dir, checkpoint(step))
    for (const step of [2, 3]) await rm(join(dir, `step-0000000${step}`, 'state.json'))
    const found = (await readCheckpoint(dir))!
    expect([found.step, found.damaged.length]).toEqual([1, 2])
    await rm(join(dir, 'step-00000001', 'state.json'))
    await expect(readCheckpoint(dir)).rejects.toThrow(
      /step-00000003 is damaged .*, and so are the 2 before it;/,
    )
  })

  test('one that this process may not read is no damaged one', async () => {
    const dir = await temporaryFolder()
    await writeCheckpoint(dir, checkpoint(1))
    const folder = await writeCheckpoint(dir, checkpoint(2))
    const sums = join(folder, 'SHA256SUMS')
    await rm(sums)
    await symlink(sums, sums) // ELOOP: as refused as EACCES is, and for root too
    await expect(readCheckpoint(dir)).rejects.toThrow(
      /^cannot resume from checkpoint .*step-00000002: ELOOP: .*; see that this process can read it$/,
    )
  })

  test('of another format version', async () => {
    const dir = await temporaryFolder()
    const folder = await writeCheckpoint(dir, checkpoint(1))
    const text = (await readFile(join(folder, 'state.json'), 'utf8')).replace('"version": 1', '"version": 3')
    await writeFile(join(folder, 'state.json'), text)
    const sums = execFileSync('sha256sum', ['model.safetensors', 'optimizer.safetensors', 'state.json'], {
      cwd: folder,
    })
    await writeFile(join(folder, 'SHA256SUMS'), sums)
    await writeCheckpoint(dir, { ...checkpoint(0) }) // not passed over for this one
    await expect(readCheckpoint(dir)).rejects.toThrow(
      'state.json says lockstep-checkpoint version 3, expected lockstep-checkpoint version 1',
    )
  })

  test('a copy of a checkpoint is one', async () => {
    const [from, to] = [await temporaryFolder(), await temporaryFolder()]
    await cp(await writeCheckpoint(from, checkpoint(5)), join(to, 'step-00000005'), { recursive: true })
    expect((await readCheckpoint(to))!.step).toBe(5)
  })
})
