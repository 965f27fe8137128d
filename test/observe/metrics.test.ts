import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { NodeMetrics } from '../../launcher/metrics.js'
import { RankMetrics } from '../../src/observe/metrics.js'
import { decodeReport, encodeReport, joinReports, type Report } from '../../src/observe/metrics-report.js'

/** A rank whose clock is turned by hand; `last()` is its last report. */
function rank(number: number, counts = { bytes: 0, tensors: 0 }) {
  const reports: string[] = []
  const clock = { ms: 0 }
  const metrics = new RankMetrics({
    ...{ rank: number, host: 'node-a', send: (report) => void reports.push(report), now: () => clock.ms },
    bytesSent: () => counts.bytes,
    tensors: () => counts.tensors,
  })
  return { metrics, clock, counts, reports, last: () => decodeReport(reports.at(-1)!)! }
}

/** The value of a sample on a page, e.g. `lockstep_step{rank="0"`: labels as far as they are given. */
function sample(page: string, start: string): number | undefined {
  const line = page.split('\n').find((each) => each.startsWith(start))
  return line === undefined ? undefined : Number(line.split(' ').at(-1)!.replace('Nan', 'NaN'))
}

const assignment = {
  ...{ attempt: 0, restarts: 0, maxRestarts: 3, runId: 'digits', nodeRank: 0, nodes: 1, firstRank: 0 },
  ...{ worldSize: 2, address: '127.0.0.1', storeHost: '127.0.0.1', storePort: 4242 },
}
const who = (number: number) => ({ rank: number, localRank: number, isAmongNodes: false })

describe("a rank's metrics", () => {
  it('count steps, samples and the time of each part', async () => {
    const { metrics, clock, counts, last } = rank(0)
    for (const step of [11, 12, 13]) {
      for (const part of ['between steps (data)', 'forward and backward', 'exchange', 'optimizer'] as const) {
        clock.ms += { 'between steps (data)': 10, 'forward and backward': 500, exchange: 60, optimizer: 30 }[
          part
        ]
        metrics.mark(part)
      }
      metrics.pass(32)
      metrics.endStep({ step, loss: 1 / step, gradientNorm: step })
    }
    Object.assign(counts, { bytes: 4096, tensors: 7 })
    await metrics.close()
    const page = await joinReports([last()])
    expect(sample(page, 'lockstep_steps_total{')).toBe(3)
    expect(sample(page, 'lockstep_step{')).toBe(13)
    expect(sample(page, 'lockstep_samples_total{')).toBe(96)
    expect(sample(page, 'lockstep_loss{')).toBe(1 / 13)
    expect(sample(page, 'lockstep_gradient_norm{')).toBe(13)
    expect(sample(page, 'lockstep_step_seconds_sum{')).toBeCloseTo(1.2)
    expect(sample(page, 'lockstep_step_seconds_count{')).toBe(2)
    // What came before the first mark is no part of a step.
    const seconds = (phase: string) => sample(page, `lockstep_phase_seconds_total{phase="${phase}"`)
    expect(seconds('between_steps')).toBeCloseTo(0.02)
    expect(seconds('forward_backward')).toBeCloseTo(1.5)
    expect(seconds('communication')).toBeCloseTo(0.18)
    expect(seconds('optimizer')).toBeCloseTo(0.09)
    expect(sample(page, 'lockstep_sent_bytes_total{')).toBe(4096)
    expect(sample(page, 'lockstep_tensors{')).toBe(7)
    expect(sample(page, 'lockstep_resident_memory_bytes{')).toBeGreaterThan(1e7)
    expect(page).toContain('lockstep_step_seconds_bucket{le="1.024",rank="0",host="node-a"} 2')
  })

  it('say nothing of a loss that nobody has computed', async () => {
    const { metrics, last } = rank(0)
    await metrics.close()
    const page = await joinReports([last()])
    for (const name of ['loss', 'gradient_norm', 'last_step_timestamp_seconds'])
      expect(sample(page, `lockstep_${name}{`)).toBeUndefined()
    expect(sample(page, 'lockstep_steps_total{')).toBe(0)
  })

  it('tell what a compressor saves, and what the loss scale is', async () => {
    const { metrics, last } = rank(0)
    metrics.compressed('topk:0.01', { ratio: 48.5, share: 0.97 })
    metrics.lossScale(65536, false)
    metrics.lossScale(32768, true)
    await metrics.close()
    const page = await joinReports([last()])
    expect(sample(page, 'lockstep_compression_ratio{compressor="topk:0.01"')).toBe(48.5)
    expect(sample(page, 'lockstep_compressed_gradients_ratio{compressor="topk:0.01"')).toBe(0.97)
    expect(sample(page, 'lockstep_loss_scale{')).toBe(32768)
    expect(sample(page, 'lockstep_skipped_steps_total{')).toBe(1)
  })

  it('are reported once a second, however fast the steps are, and a refused step at once', async () => {
    const { metrics, clock, reports, last } = rank(0)
    for (let step = 1; step <= 25; step++) {
      clock.ms += 100
      const wanted = metrics.wantsGradientNorm
      expect(wanted).toBe(step % 10 === 1)
      metrics.endStep({ step, loss: 1, gradientNorm: wanted ? step : undefined })
      await new Promise(setImmediate)
    }
    expect(reports).toHaveLength(3)
    await metrics.notFinite()
    const page = await joinReports([last()])
    expect(sample(page, 'lockstep_loss{')).toBeNaN()
    expect(sample(page, 'lockstep_nonfinite_losses_total{')).toBe(1)
    await metrics.close()
  })
})

describe('reports', () => {
  it('keep NaN and infinities on their way', () => {
    const values = [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, 1e-300]
    const report = [{ name: 'a', values: values.map((value) => ({ labels: { le: '+Inf' }, value })) }]
    expect(decodeReport(encodeReport(report as unknown as Report))).toEqual(report)
  })
})

describe("a node's metrics", () => {
  it('hold every metric once, and every rank in it', async () => {
    const node = new NodeMetrics()
    node.begin(assignment, 2)
    for (const number of [0, 1]) {
      const { metrics, last } = rank(number)
      metrics.endStep({ step: number + 1, loss: 1 })
      await metrics.close()
      node.take(who(number), encodeReport(last()))
    }
    node.ended(who(1))
    const page = await node.page()
    expect(page.match(/# TYPE lockstep_step gauge/g)).toHaveLength(1)
    expect([0, 1].map((n) => sample(page, `lockstep_step{rank="${n}"`))).toEqual([1, 2])
    expect([0, 1].map((n) => sample(page, `lockstep_rank_running{rank="${n}"`))).toEqual([1, 0])
    expect(sample(page, 'lockstep_report_timestamp_seconds{rank="1"')).toBeCloseTo(Date.now() / 1000, -1)
  })

  it('survive half a line, keep last reports over a restart, and forget ranks that went elsewhere', async () => {
    const node = new NodeMetrics()
    node.begin(assignment, 2)
    for (const number of [0, 1]) {
      const { metrics, last } = rank(number)
      await metrics.close()
      node.take(who(number), encodeReport(last()))
    }
    node.take(who(1), '[{"name":"lockstep_st')
    node.begin({ ...assignment, attempt: 1, restarts: 1, firstRank: 1 }, 2)
    const page = await node.page()
    expect(sample(page, 'lockstep_restarts_total{')).toBe(1)
    expect([0, 1, 2].map((n) => sample(page, `lockstep_steps_total{rank="${n}"`))).toEqual([
      undefined,
      0,
      undefined,
    ])
    expect([0, 1, 2].map((n) => sample(page, `lockstep_rank_running{rank="${n}"`))).toEqual([undefined, 1, 1])
    expect(sample(page, 'lockstep_report_timestamp_seconds{rank="0"')).toBeUndefined()
  })
})

describe('what refers to the metrics', () => {
  const read = (path: string) => readFileSync(new URL(`../../${path}`, import.meta.url), 'utf8')
  const named = (text: string) => new Set(text.match(/\blockstep_[a-z_]+(?<!_)/g))
  const all = async () => {
    const { metrics, last } = rank(0)
    metrics.endStep({ step: 1, loss: 1, gradientNorm: 1 })
    await metrics.close()
    const node = new NodeMetrics()
    node.take(who(0), encodeReport(last()))
    return new Set([...(await node.page()).matchAll(/# TYPE (\w+)/g)].map((match) => match[1]!))
  }

  it('docs/metrics.md lists every one', async () => {
    const rows = read('docs/metrics.md').match(/^\| `(lockstep_\w+)`/gm) ?? []
    expect(new Set(rows.map((row) => row.slice(3, -1)))).toEqual(await all())
  })

  it.each(['deploy/alerts.yml', 'deploy/grafana-dashboard.json'])(
    '%s asks for none but those',
    async (path) => {
      const known = await all()
      const names = [...named(read(path))].map((name) =>
        name.replace(/(step_seconds)_(bucket|sum|count)$/, '$1'),
      )
      expect(names.filter((name) => !known.has(name))).toEqual([])
      expect(names.length).toBeGreaterThan(4)
    },
  )

  it('the dashboard has panels that lie side by side, each with a query', () => {
    const { panels } = JSON.parse(read('deploy/grafana-dashboard.json')) as {
      panels: { gridPos: { x: number; y: number; w: number; h: number }; targets: { expr: string }[] }[]
    }
    const cells = panels.flatMap(({ gridPos: { x, y, w, h } }) =>
      Array.from({ length: w * h }, (_, i) => `${x + (i % w)},${y + Math.floor(i / w)}`),
    )
    expect(new Set(cells).size).toBe(cells.length)
    for (const { targets } of panels)
      expect(targets.every(({ expr }) => expr.includes('lockstep_'))).toBe(true)
  })
})
