import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { fixture, launch, pids, start } from './launch.js'

const directory = mkdtempSync(join(tmpdir(), 'lockstep-test-'))
afterAll(() => rmSync(directory, { recursive: true }))
const fresh = () => mkdtempSync(join(directory, 'job-'))
const sumOf = (stdout: string) => /sum (\S+)/.exec(stdout)?.[1]

describe('a job that is asked to end', () => {
  it.each(['the launcher', 'one rank'])('by SIGTERM to %s saves, and goes on from there', async (who) => {
    const here = fresh()
    const job = start(['--nproc', '2', fixture('train.ts'), here, '', '100'])
    const ranks = await pids(job, 2)
    process.kill(who === 'one rank' ? ranks[1]! : job.child.pid!, 'SIGTERM')
    const { code, stdout, stderr } = await job.done
    expect(stdout).toMatch(/saved step \d+\n/)
    if (who === 'one rank') expect([code, stderr]).toEqual([0, ''])
    else expect([code, stderr]).toEqual([143, 'ddp-launch: SIGTERM, all ranks were stopped\n'])
    const [rest, undisturbed] = [
      await launch(['--nproc', '2', fixture('train.ts'), here]),
      await launch(['--nproc', '2', fixture('train.ts'), fresh()]),
    ]
    expect(sumOf(rest.stdout)).toBe(sumOf(undisturbed.stdout))
    expect(sumOf(rest.stdout)).toBeDefined()
  })

  it('is ended after --stop-timeout', async () => {
    const job = start(['--nproc', '2', '--stop-timeout', '0.3', fixture('stubborn.mjs')])
    await pids(job, 2)
    const askedAt = Date.now()
    job.child.kill('SIGTERM')
    expect((await job.done).code).toBe(143)
    expect(Date.now() - askedAt).toBeLessThan(5000)
  })
})
