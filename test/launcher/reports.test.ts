import { describe, expect, it } from 'vitest'
import { hintsFor, saysHeapIsFull } from '../../launcher/hints.js'
import { fixture, launch } from './launch.js'

describe('what to look at', () => {
  it('a JavaScript heap that is full', async () => {
    const { code, stderr } = await launch(['--nproc', '2', fixture('memory.mjs')], {
      NODE_OPTIONS: '--max-old-space-size=40',
    })
    expect(code).toBe(134)
    expect(stderr).toMatch(
      /\nddp-launch: rank 1: its JavaScript heap was full: .*--max-old-space-size=MIB\nddp-launch: rank 1 \(pid \d+\) was killed by SIGABRT\n$/,
    )
  })

  it.each([
    [
      { signal: 'SIGKILL', heapIsFull: false, memoryKills: 1 },
      [/kernel has killed a process for want of memory/],
    ],
    [{ signal: 'SIGKILL', heapIsFull: false, memoryKills: 0 }, []],
    [{ signal: 'SIGKILL', heapIsFull: false, memoryKills: undefined }, []],
    [{ signal: 'SIGSEGV', heapIsFull: false, memoryKills: 0 }, [/native code has crashed/]],
    [{ signal: null, heapIsFull: false, memoryKills: 3 }, []],
  ] as const)('%j', (end, expected) => {
    expect(hintsFor(end)).toEqual(expected.map((pattern) => expect.stringMatching(pattern)))
  })

  it('knows the words of V8', () => {
    const words = [
      'FATAL ERROR: Reached heap limit Allocation failed - JavaScript heap out of memory',
      'FATAL ERROR: Ineffective mark-compacts near heap limit Allocation failed - JavaScript heap out of memory',
    ]
    expect(words.map(saysHeapIsFull)).toEqual([true, true])
    expect(saysHeapIsFull('my heap out of memory')).toBe(false)
  })
})

describe('a rank that the others wait for in vain', () => {
  it('is named, with the stack of its loop as the source has it', async () => {
    const { code, stderr } = await launch(['--nproc', '2', '--timeout', '2', fixture('stuck.ts'), 'loop'])
    expect(stderr).toMatch(/\nddp-launch: rank 1: it was in\n {4}at neverEnds \(.*stuck\.ts:12:\d+\)\n/)
    expect(stderr).toMatch(
      /\nddp-launch: rank 1 \(pid \d+\) kept the others waiting; rank 0 saw: barrier[^\n]*\n$/,
    )
    expect(stderr).not.toContain('Debugger')
    expect(code).toBe(2)
  })

  it('is said to be stopped if it is', async () => {
    const { stderr } = await launch(['--nproc', '2', '--timeout', '2', fixture('stuck.ts'), 'stop'])
    expect(stderr).toMatch(/\nddp-launch: rank 1: it is stopped: somebody has sent it SIGSTOP/)
    expect(stderr).toMatch(/\nddp-launch: rank 1 \(pid \d+\) kept the others waiting; [^\n]*\n$/)
  })

  it('is said to be stopped though nobody waits for it any more', async () => {
    const { code, stderr } = await launch(['--nproc', '2', '--timeout', '0.1', fixture('stops-itself.mjs')])
    expect(stderr).toMatch(
      /^ddp-launch: rank 1 \(pid \d+\) failed with exit code 1: it is stopped: somebody has sent it SIGSTOP [^\n]*\n$/,
    )
    expect(code).toBe(1)
  })
})
