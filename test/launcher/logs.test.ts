import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { fixture, launch } from './launch.js'

const directory = mkdtempSync(join(tmpdir(), 'lockstep-test-'))
afterAll(() => rmSync(directory, { recursive: true }))

const sorted = (text: string) => text.split('\n').sort().join('\n').trim()
const logs = (...path: string[]) => readFileSync(join(directory, ...path), 'utf8')

function write(flags: readonly string[], ...args: string[]) {
  return launch(['--nproc', '2', '--log-dir', directory, ...flags, fixture('write.mjs'), ...args])
}

describe('--log-dir', () => {
  it('keeps what ranks write beside showing it, and what they die of, by attempt and rank', async () => {
    const { code, stdout, stderr } = await write(['--rdzv-id', 'job', '--max-restarts', '1'], 'fail')
    expect(code).toBe(0)
    expect(stdout).toContain('[1] out of 1, attempt 1\n')
    expect(logs('job', 'attempt_0', '1', 'stdout.log')).toBe('out of 1, attempt 0\n')
    expect(logs('job', 'attempt_1', '1', 'stdout.log')).toBe('out of 1, attempt 1\n')
    expect(logs('job', 'attempt_1', '0', 'stderr.log')).toBe('err of 0\n')
    const error = JSON.parse(logs('job', 'attempt_0', '1', 'error.json'))
    expect(error).toMatchObject({
      ...{ runId: 'job', attempt: 0, rank: 1, exitCode: 1, signal: null, secondary: false },
      ...{
        message: expect.stringMatching(/^Error: as told\n {4}at .*write\.mjs:6/),
        lastLines: expect.any(Array),
      },
    })
    expect(readdirSync(join(directory, 'job', 'attempt_1', '1'))).not.toContain('error.json')
    expect(stderr).toContain(
      `ddp-launch: rank 1: all of it is in ${join(directory, 'job', 'attempt_0', '1')}\n`,
    )
  })

  it('--redirects hides what it keeps; --tee shows it again; names by local rank', async () => {
    const flags = ['--rdzv-id', 'routes', '--redirects', '3', '--tee', '1:1']
    const { stdout, stderr } = await write(flags)
    expect([stdout, stderr]).toEqual(['[1] out of 1, attempt 0\n', ''])
    for (const rank of [0, 1]) {
      expect(logs('routes', 'attempt_0', String(rank), 'stdout.log')).toBe(`out of ${rank}, attempt 0\n`)
      expect(logs('routes', 'attempt_0', String(rank), 'stderr.log')).toBe(`err of ${rank}\n`)
    }
  })

  it('--redirects of one stream of one rank leaves the rest on the screen only', async () => {
    const { stdout, stderr } = await write(['--rdzv-id', 'one', '--redirects', '0:1'])
    expect(stdout).toBe('[1] out of 1, attempt 0\n')
    expect(sorted(stderr)).toBe('[0] err of 0\n[1] err of 1')
    expect(readdirSync(join(directory, 'one', 'attempt_0'))).toEqual(['0'])
  })

  it('that cannot be written to is said before anything starts, exit 2', async () => {
    writeFileSync(join(directory, 'file'), '')
    const taken = join(directory, 'file')
    const { code, stdout, stderr } = await launch(['--log-dir', taken, fixture('write.mjs')])
    expect(stderr).toMatch(
      /^ddp-launch: --log-dir [^\n]*file cannot be written to \(EEXIST[^\n]*\): give another/,
    )
    expect([code, stdout]).toEqual([2, ''])
  })

  it('on a disk that is full: said once, and the job goes on', async () => {
    const place = join(directory, 'full', 'attempt_0', '0')
    mkdirSync(place, { recursive: true })
    symlinkSync('/dev/full', join(place, 'stdout.log'))
    const { code, stderr } = await write(['--rdzv-id', 'full', '--redirects', '1'])
    expect(code).toBe(0)
    expect(stderr.match(/cannot write .*stdout\.log: ENOSPC: no space left on device/g)).toHaveLength(1)
  })
})

it('--local-ranks-filter shows only some ranks', async () => {
  const { stdout } = await launch(['--nproc', '3', '--local-ranks-filter', '0,2', fixture('write.mjs')])
  expect(sorted(stdout)).toBe('[0] out of 0, attempt 0\n[2] out of 2, attempt 0')
})
