import { describe, expect, it, vi } from 'vitest'
import { Progress } from '../../src/observe/progress.js'
import { formatDuration, formatProgress, formatSummary, SpeedMeter } from '../../src/observe/progress-line.js'

const job = { totalSteps: 282, epochs: 3 }
const report = { step: 12, epoch: 1, loss: 0.12345, samples: 128 }

describe('formatting', () => {
  it('says what is known', () => {
    expect(formatProgress(report, job, { samples: 5321.4, steps: 6 })).toBe(
      'epoch 2/3  step  12/282  loss 0.1235  5,321 samples/s  0:45 left',
    )
    expect(formatProgress(report, job, undefined)).toBe(
      'epoch 2/3  step  12/282  loss 0.1235  - samples/s  -:-- left',
    )
    expect(formatSummary(report, job, 54_900, 61)).toBe(
      'epoch 2/3  step  12/282  loss 0.1235  900 samples/s  in 1:01',
    )
  })

  it.each([
    [0, '0.0000'],
    [Math.LN10, '2.3026'],
    [0.00012345, '1.23e-4'],
    [123456, '1.23e+5'],
    [Number.NaN, 'NaN'],
  ])('writes a loss of %d as %s', (loss, text) => {
    expect(formatProgress({ ...report, loss }, job, undefined)).toContain(`loss ${text}  `)
  })

  it.each([
    [0.4, '0:00'],
    [59.6, '1:00'],
    [754, '12:34'],
    [3723, '1:02:03'],
  ])('writes %d seconds as %s', (seconds, text) => {
    expect(formatDuration(seconds)).toBe(text)
  })
})

describe('SpeedMeter', () => {
  it('knows nothing from one step', () => {
    const meter = new SpeedMeter()
    expect(meter.speed).toBeUndefined()
    meter.add(100, { samples: 10, step: 1 })
    expect(meter.speed).toBeUndefined()
  })

  it('forgets what was more than five seconds ago', () => {
    const meter = new SpeedMeter()
    for (let step = 1; step <= 10; step++) meter.add(step * 1000, { samples: 10, step })
    expect(meter.speed).toEqual({ samples: 10, steps: 1 })
    for (let step = 11; step <= 110; step++) meter.add(10_000 + (step - 10) * 100, { samples: 10, step })
    expect(meter.speed!.samples).toBeCloseTo(100)
    expect(meter.speed!.steps).toBeCloseTo(10)
  })

  it('has a speed also where single steps are slow', () => {
    const meter = new SpeedMeter()
    for (let step = 1; step <= 3; step++) meter.add(step * 60_000, { samples: 30, step })
    expect(meter.speed!.samples).toBeCloseTo(0.5)
  })
})

describe('Progress', () => {
  function start(
    stream: { isTTY?: boolean; rows?: number },
    env: Record<string, string> = {},
    plainMs?: number,
  ) {
    const written: string[] = []
    const clock = { ms: 0 }
    const sink = { columns: 80, ...stream, write: (text: string) => written.push(text) > 0 }
    const progress = new Progress({
      totalSteps: 100,
      epochs: 2,
      stream: sink as unknown as NodeJS.WriteStream,
      env,
      now: () => clock.ms,
      ...(plainMs === undefined ? {} : { plainMs }),
    })
    const run = (msPerStep: number, from = 1) => {
      for (let step = from; step <= 100; step++) {
        clock.ms += msPerStep
        progress.update({ step, epoch: step > 50 ? 1 : 0, loss: 1 / step, samples: 64 })
      }
    }
    return { progress, run, written }
  }
  const steps = (written: string[]) => written.map((text) => Number(/step +(\d+)\/100/.exec(text)?.[1]))

  it('writes plain lines to a file: the first, every tenth, the last', () => {
    const { progress, run, written } = start({})
    run(10)
    progress.done()
    expect(steps(written)).toEqual([1, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100])
    expect(written[0]).toBe('epoch 1/2  step   1/100  loss 1.0000  - samples/s  -:-- left\n')
    expect(written[5]).toBe('epoch 1/2  step  50/100  loss 0.0200  6,400 samples/s  0:01 left\n')
    expect(written.at(-1)).toBe('epoch 2/2  step 100/100  loss 0.0100  6,400 samples/s  in 0:01\n')
    for (const text of written) expect(text).toMatch(/^epoch [\x20-\x7e]+\n$/)
  })

  it('writes plain lines more often where tenths are far apart', () => {
    const { run, written } = start({}, {}, 3_000)
    run(1_000)
    expect(steps(written).slice(0, 6)).toEqual([1, 4, 7, 10, 13, 16])
  })

  it('counts the time left of a resumed job from where it resumed', () => {
    const { run, written } = start({})
    run(1_000, 61)
    expect(written[0]).toContain('step  61/100')
    expect(written.find((text) => text.includes('step  70/100'))).toMatch(/64 samples\/s {2}0:30 left/)
  })

  it('renews one line on a terminal, at most ten times a second, and leaves the last', async () => {
    const { progress, run, written } = start({ isTTY: true, rows: 24 })
    run(10)
    await vi.waitFor(() => expect(written).toHaveLength(10)) // what draws it is loaded first
    progress.done()
    expect(written.at(-1)).toContain('step 100/100  loss 0.0100  6,400 samples/s  in 0:01')
    expect(written.slice(1).every((text) => text.includes('\u001b[2K'))).toBe(true)
    expect(written.join('')).not.toContain('\u001b[?25l') // the cursor is never hidden
  })

  it('falls back to plain lines on a terminal without rows', () => {
    const { run, written } = start({ isTTY: true, rows: 0 })
    run(10)
    expect(written[0]).toMatch(/^epoch 1\/2 .*\n$/)
  })

  it('marks live lines for the launcher with a carriage return and ends lines that stay', () => {
    const { progress, run, written } = start({}, { LOCKSTEP_LIVE: '1' })
    run(50)
    progress.print('epoch 2: test accuracy 97.1 %')
    progress.done()
    for (const text of written.slice(0, -2)) expect(text).toMatch(/^\repoch [^\r\n]+\r$/)
    expect(written.at(-2)).toBe('\repoch 2: test accuracy 97.1 %\n')
    expect(written.at(-1)).toMatch(/^\repoch 2\/2 .* in 0:05\n$/)
  })

  it('has nothing to say about a job that made no step', () => {
    const { progress, written } = start({})
    progress.done()
    expect(written).toEqual([])
  })
})
