import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'

const room = new URL('../../../src/', import.meta.url)

/** A script without a launcher, as in `tsx train.ts`. */
function run(script: string, flags: readonly string[] = []) {
  const prelude = `
    import { installErrorReporter } from '${room}runtime/environment/error-reporter.ts'
    import { LockstepError } from '${room}errors.ts'
    installErrorReporter()
    installErrorReporter()
  `
  const args = ['--import', 'tsx', ...flags, '--input-type=module', '-e', prelude + script]
  const cwd = fileURLToPath(new URL('..', room))
  const { status, stdout, stderr } = spawnSync(process.execPath, args, { encoding: 'utf8', cwd })
  return { status, stdout, stderr }
}

describe('without a launcher', () => {
  it("shows a user's error as its one line, exit 2", () => {
    expect(run('throw new LockstepError("batch 0: expected at least 1")')).toEqual({
      ...{ status: 2, stdout: '', stderr: 'batch 0: expected at least 1\n' },
    })
    expect(
      run('Promise.reject(new LockstepError("late")); await new Promise((r) => setTimeout(r, 1000))'),
    ).toEqual({
      ...{ status: 2, stdout: '', stderr: 'late\n' },
    })
  })

  it('shows the last collectives above the line of a collective that failed', () => {
    const failed = (name: string) =>
      run(
        `throw Object.assign(new LockstepError("no progress"), { name: '${name}', recentOperations: ['#1 barrier() 0.1 ms', '#2 all_reduce(…)'] })`,
      ).stderr
    expect(failed('CollectiveError')).toBe(
      'last collectives of this rank, oldest first:\n  #1 barrier() 0.1 ms\n  #2 all_reduce(…)\nno progress\n',
    )
    expect(failed('PeerFailedError')).toBe('no progress\n')
  })

  it('shows a bug with its stack, exit 1', () => {
    const { status, stderr } = run('throw new RangeError("off by one")')
    expect(stderr).toMatch(/^RangeError: off by one\n {4}at /)
    expect(status).toBe(1)
  })
})
