import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import { eventually, fixture, isAlive, launch, pids, start } from './launch.js'

const meetingPlaces: string[] = []
afterEach(() => {
  for (const directory of meetingPlaces.splice(0)) rmSync(directory, { recursive: true })
})

function fail(way: string, rank: number | 'all', nproc = 3) {
  const directory = mkdtempSync(join(tmpdir(), 'lockstep-test-'))
  meetingPlaces.push(directory)
  return launch(['--nproc', String(nproc), fixture('fail.mjs'), way, String(rank)], {
    MEETING_PLACE: directory,
  })
}

/** All process ids that were printed are gone. */
function expectAllGone(stdout: string): void {
  const printed = [...stdout.matchAll(/pid (\d+)$/gm)].map((match) => Number(match[1]))
  expect(printed.filter(isAlive)).toEqual([])
}

describe('the first failure stops all ranks, and is told last', () => {
  it('a throw: with its stack, its cause and the last lines', async () => {
    const { code, stdout, stderr } = await fail('throw', 1)
    expect(code).toBe(1)
    expect(stderr).toMatch(
      /^ddp-launch: the last lines of rank 1:\n {2}\| pid (\d+)\n {2}\| about to fail\nddp-launch: the error of rank 1:\nError: boom\n {4}at .*fail\.mjs:\d+/,
    )
    expect(stderr).toContain('Error: the fuse')
    expect(stderr).toMatch(/\nddp-launch: rank 1 \(pid \d+\) failed with exit code 1: Error: boom\n$/)
    expect(stderr).not.toContain('closed its connection')
    expectAllGone(stdout)
  })

  it.each([
    [
      'user',
      2,
      /^ddp-launch: rank 2 \(pid \d+\) failed with exit code 2: learning rate is -1: expected a number above 0\n$/,
    ],
    ['reject', 1, /the error of rank 2:\nError: nobody caught me\n {4}at /],
    [
      'string',
      1,
      /rank 2 \(pid \d+\) failed with exit code 1: something that is no Error was thrown: 'a string'\n$/,
    ],
    [
      'exit',
      3,
      /about to fail\nddp-launch: rank 2 \(pid \d+\) failed with exit code 3: process\.exit\(3\) was called at [^\n]*fail\.mjs:\d+:\d+\)?\n$/,
    ],
    ['kill', 137, /\nddp-launch: rank 2 \(pid \d+\) was killed by SIGKILL, from outside the job [^\n]*\n$/],
    [
      'leave',
      1,
      /^ddp-launch: rank 2 \(pid \d+\) left with exit code 0 before the others were done; rank \d saw: rank 2 closed its connection\n$/,
    ],
  ])('%s: exit %i', async (way, expected, message) => {
    const { code, stdout, stderr } = await fail(way, 2)
    expect(stderr).toMatch(message)
    expect(code).toBe(expected)
    expectAllGone(stdout)
  })

  it('tells what all ranks have in common once', async () => {
    const { code, stderr } = await fail('user', 'all')
    expect(stderr).toBe(
      'ddp-launch: ranks 0, 1 and 2 failed with exit code 2: learning rate is -1: expected a number above 0\n',
    )
    expect(code).toBe(2)
  })

  it('does not repeat the output of an only rank', async () => {
    const { stderr } = await fail('exit', 0, 1)
    expect(stderr).toMatch(/^ddp-launch: rank 0 \(pid \d+\) failed with exit code 3: process\.exit[^\n]*\n$/)
  })

  it('a throw at import on one rank only', async () => {
    const { code, stderr } = await launch(['--nproc', '2', fixture('import-throws.mjs')])
    expect(stderr).toMatch(
      /\nddp-launch: rank 1 \(pid \d+\) failed with exit code 1: Error: thrown at import\n$/,
    )
    expect(code).toBe(1)
  })

  it('a script that waits for nothing', async () => {
    const { code, stderr } = await launch([fixture('await-forever.mjs')])
    expect(stderr).toMatch(/exit code 13: it waited for a promise that nothing was left to fulfil\n$/)
    expect(code).toBe(13)
  })

  it('kill -9 from outside, with ranks that are busy and have children: all gone within two seconds', {
    retry: 2,
  }, async () => {
    const job = start(['--nproc', '3', fixture('busy.mjs')])
    const all = await pids(job, 6)
    const victim = Number(/^\[1\] pid (\d+)$/m.exec(job.output.stdout)?.[1])
    const killedAt = Date.now()
    process.kill(victim, 'SIGKILL')
    const { code, stderr } = await job.done
    expect(Date.now() - killedAt).toBeLessThan(2000)
    expect(stderr).toMatch(
      new RegExp(`\\nddp-launch: rank 1 \\(pid ${victim}\\) was killed by SIGKILL[^\\n]*\\n$`),
    )
    expect(code).toBe(137)
    expect(all.filter(isAlive)).toEqual([])
  })

  it('ends ranks that ignore SIGTERM too', async () => {
    const job = start(['--nproc', '2', fixture('stubborn.mjs')])
    const [first] = await pids(job, 2)
    process.kill(first!, 'SIGKILL')
    const { stdout } = await job.done
    expect(stdout).toContain('not yet')
    expectAllGone(stdout)
  })
})

describe('no orphans', () => {
  it.each([
    ['SIGINT', 130],
    ['SIGTERM', 143],
    ['SIGHUP', 129],
  ] as const)('%s to the launcher stops all: exit %i', async (signal, expected) => {
    const job = start(['--nproc', '2', fixture('busy.mjs')])
    const all = await pids(job, 4)
    job.child.kill(signal)
    const { code, stderr } = await job.done
    expect([code, stderr]).toEqual([expected, `ddp-launch: ${signal}, all ranks were stopped\n`])
    expect(all.filter(isAlive)).toEqual([])
  })

  it('a second Ctrl-C does not wait for the ranks', { retry: 2 }, async () => {
    const job = start(['--nproc', '2', fixture('stubborn.mjs')])
    const all = await pids(job, 2)
    const startedAt = Date.now()
    job.child.kill('SIGINT')
    await eventually(() => job.output.stdout.match(/not yet/g)?.length === 2)
    job.child.kill('SIGINT')
    const { code } = await job.done
    expect(code).toBe(130)
    expect(Date.now() - startedAt).toBeLessThan(900) // the grace period is 1000
    expect(all.filter(isAlive)).toEqual([])
  })

  it('kill -9 of the launcher takes busy ranks, stubborn ranks and their children along', async () => {
    for (const [script, count] of [
      ['busy.mjs', 4],
      ['stubborn.mjs', 2],
    ] as const) {
      const job = start(['--nproc', '2', fixture(script)])
      const all = await pids(job, count)
      job.child.kill('SIGKILL')
      await eventually(() => !all.some(isAlive), 5000)
      await job.done
    }
  })

  it('whoever stops reading the output ends the job', async () => {
    const job = start(['--nproc', '2', fixture('speak.mjs')])
    await eventually(() => job.output.stdout.length > 0)
    job.child.stdout!.destroy()
    const { code, stderr } = await job.done
    expect(stderr).not.toMatch(/\n {4}at /)
    expect([0, 141]).toContain(code) // 0 if all was written before
  })
})
