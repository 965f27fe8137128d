import { describe, expect, it } from 'vitest'
import type { RankState } from '../../launcher/rank-state.js'
import { findRootCause } from '../../launcher/root-cause.js'
import type { Failure } from '../../src/runtime/environment/failure.js'

const state = (rank: number, change: Partial<RankState>): RankState => ({
  ...{
    rank,
    pid: 100 + rank,
    running: false,
    code: 1,
    signal: null,
    at: 0,
    failure: undefined,
    lastLines: [],
    hostName: undefined,
    hints: [],
  },
  ...change,
})
const failure = (text: string, change: Partial<Failure> = {}): Failure => ({
  ...{ text, oneLine: false, exitCode: 1, secondary: false, timedOut: false, at: 0 },
  ...change,
})
const lost = (at: number) => ({
  at,
  failure: failure('rank 2 is gone', { oneLine: true, secondary: true, at }),
})
const running = { running: true, code: null }

describe('root cause', () => {
  it('is the rank that was killed, though the others were gone before it was seen', () => {
    const killed = state(2, { code: null, signal: 'SIGKILL', at: 9, lastLines: ['step 7', 'step 8'] })
    expect(findRootCause([state(0, lost(5)), state(1, lost(4)), killed])).toEqual({
      exitCode: 137,
      report:
        'ddp-launch: the last lines of rank 2:\n  | step 7\n  | step 8\n' +
        'ddp-launch: rank 2 (pid 102) was killed by SIGKILL, from outside the job (the system does so when memory runs out)',
    })
  })

  it('is the rank that was killed, whatever another one makes of its silence', () => {
    const puzzled = state(0, { at: 4, failure: failure('cannot join rank 1', { oneLine: true, at: 4 }) })
    expect(findRootCause([puzzled, state(1, { code: null, signal: 'SIGSEGV', at: 9 })])).toEqual({
      exitCode: 139,
      report:
        'ddp-launch: also, rank 0 (pid 100) failed: cannot join rank 1\n' +
        'ddp-launch: rank 1 (pid 101) was killed by SIGSEGV',
    })
  })

  it('is the earliest of those who failed by themselves; later ones are told before it', () => {
    const early = state(3, { at: 4, failure: failure('Error: early\n    at x.ts:1', { at: 4 }) })
    const late = state(1, { at: 6, failure: failure('Error: late\n    at y.ts:2', { at: 6 }) })
    expect(findRootCause([state(0, lost(3)), late, state(2, running), early])).toEqual({
      exitCode: 1,
      report:
        'ddp-launch: also, rank 1 (pid 101) failed: Error: late\n' +
        'ddp-launch: the error of rank 3:\nError: early\n    at x.ts:1\n' +
        'ddp-launch: rank 3 (pid 103) failed with exit code 1: Error: early',
    })
  })

  it('is told once when all ranks have the same', () => {
    const missing = { code: 2, failure: failure('data/train is missing', { oneLine: true, exitCode: 2 }) }
    expect(findRootCause([0, 1, 2].map((rank) => state(rank, { ...missing, at: 9 - rank })))).toEqual({
      exitCode: 2,
      report: 'ddp-launch: ranks 0, 1 and 2 failed with exit code 2: data/train is missing',
    })
  })

  it('is told once when one has found it and told the others', () => {
    const said = (rank: number, text: string) =>
      state(rank, { code: 2, at: rank, failure: failure(text, { oneLine: true, exitCode: 2, at: rank }) })
    const ranks = [said(0, 'rank 1 called barrier() (told by rank 2)'), said(1, 'rank 1 called barrier()')]
    expect(findRootCause(ranks).report).toBe(
      'ddp-launch: ranks 0 and 1 failed with exit code 2: rank 1 called barrier()',
    )
  })

  it('is who left early with exit code 0, if the others only waited for it', () => {
    const text = 'rank 0 waits for rank 1: key "host/1" was not set within 60 s'
    const waited = { code: 2, failure: failure(text, { oneLine: true, exitCode: 2, timedOut: true }) }
    expect(findRootCause([state(0, waited), state(1, { code: 0 })]).report).toBe(
      `ddp-launch: rank 1 (pid 101) left with exit code 0 before the others were done; rank 0 saw: ${text}`,
    )
  })

  it('is who left early with exit code 0, if the others only lost a peer', () => {
    expect(findRootCause([state(0, lost(5)), state(1, lost(4)), state(2, { code: 0 })])).toEqual({
      exitCode: 1,
      report:
        'ddp-launch: rank 2 (pid 102) left with exit code 0 before the others were done; rank 1 saw: rank 2 is gone',
    })
  })

  it('is the first lost connection if nobody is to blame for it', () => {
    const verdict = findRootCause([state(0, lost(5)), state(1, lost(4)), state(2, running)])
    expect(verdict.report).toBe('ddp-launch: ranks 0 and 1 failed with exit code 1: rank 2 is gone')
  })

  it('is a lost node, whatever the ranks of other nodes make of it', () => {
    const node = { hostName: 'node-b', address: '10.0.0.2', reason: 'is silent since 10 s' }
    expect(findRootCause([state(0, lost(5)), state(1, { signal: 'SIGTERM' })], [node])).toEqual({
      exitCode: 1,
      report: expect.stringMatching(
        /^ddp-launch: node node-b \(10\.0\.0\.2\) was lost: .* is silent since 10 s; /,
      ),
    })
  })

  it('is the rank that still runs when another has waited in vain', () => {
    const vain = failure('barrier() made no progress for 60 s', {
      oneLine: true,
      exitCode: 2,
      timedOut: true,
    })
    const stuck = state(1, { ...running, hints: ['it was in\n    at loop (train.ts:3:1)'] })
    expect(findRootCause([state(0, { code: 2, failure: vain }), stuck, state(2, lost(3))])).toEqual({
      exitCode: 2,
      report:
        'ddp-launch: rank 1: it was in\n    at loop (train.ts:3:1)\n' +
        'ddp-launch: rank 1 (pid 101) kept the others waiting; rank 0 saw: barrier() made no progress for 60 s',
    })
  })

  it('is named with its host where there are several', () => {
    expect(findRootCause([state(5, { code: 3, hostName: 'node-b' })]).report).toBe(
      'ddp-launch: rank 5 (pid 105 on node-b) ended with exit code 3',
    )
  })

  it('is the rank that was asked to end, not those that end with it', () => {
    const along = { code: 143, at: 1, failure: failure('asked elsewhere', { secondary: true, at: 1 }) }
    expect(findRootCause([state(0, along), state(1, { code: 143, at: 2 })]).report).toMatch(
      /^ddp-launch: rank 1 \(pid 101\) ended with exit code 143: /,
    )
  })

  it.each([
    [{ code: 3 }, 3, 'ddp-launch: rank 0 (pid 100) ended with exit code 3'],
    [{ code: null, signal: 'SIGSEGV' }, 139, 'ddp-launch: rank 0 (pid 100) was killed by SIGSEGV'],
    [{ code: 143 }, 143, expect.stringMatching(/exit code 143: somebody has asked it to end \(SIGTERM\)$/)],
    [{ code: 13 }, 13, expect.stringMatching(/exit code 13: it waited for a promise/)],
    [
      { code: null, pid: undefined, failure: failure('could not be started: EAGAIN', { oneLine: true }) },
      1,
      'ddp-launch: rank 0 (pid none) failed with exit code 1: could not be started: EAGAIN',
    ],
  ] as const)('%j', (change, exitCode, report) => {
    expect(findRootCause([state(0, change)])).toEqual({ exitCode, report })
  })
})
