/** `ddp-launch bench scaling`: its arithmetic on made-up figures, wrong command lines, and one tiny run. */
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import {
  amdahlShare,
  efficiency,
  gustafsonShare,
  percentile,
  speedUp,
} from '../../launcher/scaling/arithmetic.js'
import { readOptions } from '../../launcher/scaling/options.js'
import { crowding, hiddenBehindPasses, markdown, scalingOf, verdict } from '../../launcher/scaling/report.js'
import { lastSteps } from '../../launcher/scaling/steps.js'
import { LockstepError } from '../../src/errors.js'
import { launch } from './launch.js'

const directory = mkdtempSync(join(tmpdir(), 'lockstep-scaling-test-'))
afterAll(() => rmSync(directory, { recursive: true }))

const one = { ranks: 1, samplesPerSecond: 100 }

describe('arithmetic', () => {
  it("has numpy's percentiles", () => {
    // numpy.percentile([4, 1, 3, 2], [0, 50, 90, 99, 100])
    const shares = [0, 0.5, 0.9, 0.99, 1]
    const found = shares.map((share) => percentile([4, 1, 3, 2], share))
    for (const [i, expected] of [1, 2.5, 3.7, 3.97, 4].entries()) expect(found[i]).toBeCloseTo(expected, 12)
    expect(percentile([7], 0.99)).toBe(7)
  })

  it('compares with one rank', () => {
    const four = { ranks: 4, samplesPerSecond: 300 }
    expect(speedUp(four, one)).toBe(3)
    expect(efficiency(four, one)).toBe(0.75)
  })

  it("finds Amdahl's and Gustafson's serial share again", () => {
    const share = 0.2
    const by = (law: (ranks: number) => number) =>
      [1, 2, 4, 8].map((ranks) => ({ ranks, samplesPerSecond: 100 * law(ranks) }))
    const amdahl = by((n) => 1 / (share + (1 - share) / n))
    const gustafson = by((n) => n - share * (n - 1))
    expect(amdahlShare(amdahl, one)).toBeCloseTo(share, 12)
    expect(gustafsonShare(gustafson, one)).toBeCloseTo(share, 12)
    expect(amdahlShare([one], one)).toBeUndefined()
    expect(gustafsonShare([one], one)).toBeUndefined()
  })

  it('fits between points that no law fits: the least sum of squares', () => {
    const points = [one, { ranks: 2, samplesPerSecond: 160 }, { ranks: 4, samplesPerSecond: 200 }]
    const share = amdahlShare(points, one)!
    const error = (s: number) =>
      points.reduce((sum, p) => sum + (1 / speedUp(p, one) - (s + (1 - s) / p.ranks)) ** 2, 0)
    expect(error(share)).toBeLessThan(error(share + 1e-3))
    expect(error(share)).toBeLessThan(error(share - 1e-3))
  })
})

describe('a timeline', () => {
  const event = (pid: number, name: string, ts: number, dur: number, args = {}) => {
    return { ph: 'X', cat: 'step', pid, name, ts, dur, args }
  }
  const step = (pid: number, n: number, ts: number, dur: number) =>
    event(pid, `step ${n}`, ts, dur, { step: n })

  it('says how long the last steps took, and how much of them all ranks waited', () => {
    const traceEvents = [
      ...[event(0, 'exchange', 0, 9000), step(0, 1, 0, 90_000)], // warms up
      ...[event(0, 'exchange', 100_000, 1000), step(0, 2, 95_000, 10_000)],
      ...[event(0, 'exchange', 108_000, 2000), step(0, 3, 106_000, 20_000)],
      ...[event(1, 'exchange', 100_000, 12_000), step(1, 2, 95_000, 10_000), step(1, 3, 106_000, 20_000)],
    ]
    expect(lastSteps({ traceEvents }, 2)).toEqual({ ms: [10, 20], communicationShare: 15 / 60 })
  })

  it('says what of the exchange the backward pass hides, by the steps that tried it after the pass', () => {
    const segment = (n: number, ts: number, dur: number) => ({
      ...event(0, `segment ${n}`, ts, dur),
      cat: 'pass',
    })
    const tried = [
      event(0, 'tried after the backward pass: 20.0 ms a step', 0, 40_000),
      ...[step(0, 1, 0, 20_000), event(0, 'exchange', 1000, 19_000)], // compiles
      ...[step(0, 2, 20_000, 20_000), event(0, 'exchange', 30_000, 10_000)],
    ]
    const chosen = [
      ...[step(0, 3, 50_000, 13_000), event(0, 'exchange', 60_000, 3000)],
      ...[segment(1, 50_000, 6000), segment(2, 56_000, 3000), segment(3, 59_000, 1000)],
    ]
    const { hidden } = lastSteps({ traceEvents: [...tried, ...chosen] }, 1)
    expect(hidden!.share).toBeCloseTo(0.7, 12)
    expect(hidden!.room).toBeCloseTo(0.4, 12)
    expect(lastSteps({ traceEvents: tried }, 1).hidden).toBeUndefined()
    const run = { ranks: 2, steps: { ms: [13], communicationShare: 0.2, hidden } }
    expect(
      hiddenBehindPasses(
        scalingOf('weak', 32, [{ ...run, ranks: 1, steps: { ...run.steps, hidden: undefined } }, run]),
      ),
    ).toEqual([
      'weak scaling, 2 ranks: the backward pass hides 70.0 % of what the exchange takes after it, of 40.0 % that it could hide',
    ])
  })
})

describe('a report', () => {
  const steps = (ms: number) => ({ ms: [ms, ms, ms], communicationShare: 0.1 })
  const strong = scalingOf('strong', 32, [
    { ranks: 1, steps: steps(30) },
    { ranks: 2, steps: steps(20) },
  ])
  const options = readOptions(['--nproc', '1,2', '--threads', '2'], 2)!

  it('says what laws make of the figures', () => {
    expect(strong.runs[1]).toMatchObject({
      batchPerRank: 16,
      samplesPerSecond: 1600,
      speedUp: 1.5,
      efficiency: 0.75,
    })
    expect(verdict(strong)).toBe(
      "strong scaling up to 2 ranks: a serial share of 33.3 % by Amdahl's law: however many ranks, at most 3.0 times as fast",
    )
    const linear = scalingOf('weak', 32, [
      { ranks: 1, steps: steps(30) },
      { ranks: 2, steps: steps(30) },
    ])
    expect(verdict(linear)).toMatch(/no serial share by Gustafson's law: linear, or faster$/)
    expect(verdict({ ...strong, serialShare: 1.2 })).toMatch(/slower than one rank/)
    expect(verdict({ ...strong, serialShare: undefined })).toBeUndefined()
  })

  it('says where ranks share cores', () => {
    expect(crowding(options, 2)).toMatch(/^2 ranks of 2 threads share 2 cores/)
    expect(crowding(options, 4)).toBeUndefined()
  })

  it('has the machine, the date and the command', () => {
    const circumstances = {
      ...{ date: '2030-01-02', command: 'ddp-launch bench scaling', machine: '2 cores of X' },
      ...{ node: 'v20', lockstep: '0.1.0' },
    }
    const page = markdown(options, [strong], circumstances, ['a note'])
    for (const text of [
      '| machine | 2 cores of X |',
      '| date | 2030-01-02 |',
      '`ddp-launch bench scaling`',
      '- a note',
    ])
      expect(page).toContain(text)
    expect(page).toContain('| strong | 2 | 16 | 1600.0 | 1.50 | 75.0 % | 10.0 % | 20.00 | 20.00 | 20.00 |')
  })
})

describe('the command line', () => {
  it('has defaults that the machine has cores for', () => {
    expect(readOptions([], 2)).toMatchObject({
      ...{ nproc: [1, 2], model: 'cnn', batch: 32, steps: 30, threads: 1, kinds: ['weak', 'strong'] },
      ...{ transport: 'auto', compression: 'none', json: undefined, report: undefined },
    })
    expect(readOptions(['--nproc', '4,1,4', '--weak', '--batch', '3'], 1)).toMatchObject({
      ...{ nproc: [1, 4], kinds: ['weak'], batch: 3 },
    })
    expect(readOptions(['--help'], 1)).toBeUndefined()
  })

  it.each<[string[], RegExp]>([
    [['--nproc', '2,4'], /--nproc is "2,4": expected numbers of ranks as in 1,2,4, with the 1/],
    [['--nproc', '1,x'], /--nproc is "1,x"/],
    [['--model', 'vgg'], /--model is "vgg": expected one of mlp, cnn, /],
    [['--transport', 'udp'], /--transport is "udp": expected one of auto, /],
    [['--steps', '0'], /--steps is "0": expected a whole number of at least 1/],
    [['--weak', '--strong'], /--weak cannot be used with --strong/],
    [['--nproc', '1,3'], /a batch of 32 cannot be shared by 3 ranks/],
    [['--bogus'], /Unknown option '--bogus'/],
  ])('refuses %j in one line', (argv, message) => {
    expect(() => readOptions(argv, 8)).toThrow(LockstepError)
    expect(() => readOptions(argv, 8)).toThrow(message)
    expect(() => readOptions(argv, 8)).not.toThrow('\n')
  })
})

it('measures two ranks, and writes what it has measured', async () => {
  const [json, report] = [join(directory, 'scaling.json'), join(directory, 'scaling.md')]
  const { code, stdout } = await launch([
    ...['bench', 'scaling', '--nproc', '1,2', '--model', 'mlp', '--batch', '4', '--steps', '4', '--weak'],
    ...['--json', json, '--report', report],
  ])
  expect(code).toBe(0)
  expect(stdout).toMatch(/^scaling +ranks +batch per rank/)
  const result = JSON.parse(readFileSync(json, 'utf8'))
  expect(result).toMatchObject({ model: 'mlp', batch: 4, steps: 4, date: expect.stringMatching(/^\d{4}-/) })
  const { runs } = result.scalings[0]
  expect(runs.map(({ ranks }: { ranks: number }) => ranks)).toEqual([1, 2])
  for (const run of runs) {
    expect(run.p50).toBeGreaterThan(0)
    expect(run.p99).toBeGreaterThanOrEqual(run.p50)
    expect(run.samplesPerSecond).toBeCloseTo((1000 * run.ranks * 4) / run.p50, 6)
    expect(run.communicationShare).toBeGreaterThanOrEqual(0)
    expect(run.communicationShare).toBeLessThan(1)
  }
  expect(readFileSync(report, 'utf8')).toContain('# Scaling of mlp')
})

it('ends with the reason of a rank that fails, and leaves no file', async () => {
  const temporary = mkdtempSync(join(directory, 'tmp-'))
  const argv = ['bench', 'scaling', '--nproc', '1', '--compression', 'zip']
  const { code, stderr } = await launch(argv, { TMPDIR: temporary })
  expect(code).toBe(2)
  expect(stderr.trim().split('\n').at(-1)).toMatch(/^ddp-launch: bench scaling: .*exit code 2: .*zip/)
  // (tsx, which runs the source here, leaves a folder of its own.)
  expect(readdirSync(temporary).filter((name) => name.startsWith('lockstep'))).toEqual([])
})
