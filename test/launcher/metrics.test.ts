import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { serveMetrics } from '../../launcher/metrics-server.js'
import { readSettings } from '../../launcher/options/settings.js'
import type { Given } from '../../launcher/options/table.js'
import { eventually, fixture, type Launched, launch, start } from './launch.js'

const directory = mkdtempSync(join(tmpdir(), 'lockstep-test-'))
afterAll(() => rmSync(directory, { recursive: true }))
const word = join(directory, 'word')

describe('--metrics-port', () => {
  let job: Launched
  let url: string
  beforeAll(async () => {
    writeFileSync(word, 'train')
    job = start(['--nproc', '2', '--metrics-port', '0', fixture('steered.ts'), word])
    url = await eventually(() => /metrics of .* are at (http:\S+)/.exec(job.output.stderr)?.[1])
  })
  afterAll(async () => {
    job.child.kill()
    await job.done
  })

  it('serves one page with all ranks, at a loopback port that is printed', { timeout: 60_000 }, async () => {
    expect(url).toMatch(/^http:\/\/127\.0\.0\.1:\d+\/metrics$/)
    let page = ''
    let type: string | null = ''
    const trained = (rank: number) =>
      new RegExp(`^lockstep_steps_total{rank="${rank}",host="[^"]+"} [1-9]`, 'm').test(page)
    while (!trained(0) || !trained(1)) {
      const response = await fetch(url)
      type = response.headers.get('content-type')
      page = await response.text()
      await new Promise((resolve) => setTimeout(resolve, 200))
    }
    expect(type).toBe('text/plain; version=0.0.4; charset=utf-8')
    for (const name of [
      'loss',
      'gradient_norm',
      'samples_total',
      'resident_memory_bytes',
      'tensors',
      'rank_running',
    ])
      expect(page.match(new RegExp(`^lockstep_${name}{rank="[01]",host="[^"]+"} `, 'gm'))).toHaveLength(2)
    const phases = [...page.matchAll(/^lockstep_phase_seconds_total{phase="(\w+)",rank="0",.*} (.*)$/gm)]
    expect(Object.fromEntries(phases.map(([, phase, seconds]) => [phase, Number(seconds) > 0]))).toEqual({
      ...{ between_steps: true, forward_backward: true, communication: true, optimizer: true, rest: true },
    })
    // Of (Σ 0.1·w)²; the norm may be a second older than the loss.
    const [loss, norm] = ['loss', 'gradient_norm'].map((name) =>
      Number(new RegExp(`^lockstep_${name}{rank="0".* (.*)$`, 'm').exec(page)![1]),
    ) as [number, number]
    expect(norm / (0.4 * Math.sqrt(loss))).toBeCloseTo(1, 0.5)
    expect(page).toMatch(/^lockstep_restarts_total{host="[^"]+"} 0$/m)
    const checked = spawnSync('promtool', ['check', 'metrics'], { input: page, encoding: 'utf8' })
    if (checked.error === undefined) expect(checked.stdout + checked.stderr).toBe('')
  })

  it('answers nothing else', async () => {
    expect((await fetch(new URL('/', url))).status).toBe(404)
    expect((await fetch(url, { method: 'POST' })).status).toBe(405)
  })

  it('says in one line that the port is taken, before any rank starts', async () => {
    const { port } = new URL(url)
    const { code, stdout, stderr } = await launch(['--metrics-port', port, fixture('environment.mjs')])
    expect([code, stdout]).toEqual([2, ''])
    expect(stderr).toBe(
      `ddp-launch: cannot serve --metrics-port ${port} at 127.0.0.1: the port is taken: choose another one, or 0 for any that is free\n`,
    )
  })
})

describe('metrics', () => {
  it('do not hold up a rank whose launcher does not read them', async () => {
    const pipe = fileURLToPath(new URL('../../src/runtime/environment/metrics-pipe.ts', import.meta.url))
    const script = `
      const { takeMetricsPipe } = await import(${JSON.stringify(pipe)})
      const send = takeMetricsPipe()
      for (let i = 0; i < 200; i++) {
        send('x'.repeat(10_000))
        await new Promise(setImmediate)
      }
      console.log(typeof takeMetricsPipe())
      process.exit()`
    const rank = spawn(process.execPath, ['--import', 'tsx', '--input-type=module', '--eval', script], {
      env: { ...process.env, LOCKSTEP_METRICS_FD: '4' },
      stdio: ['ignore', 'pipe', 'inherit', 'ignore', 'pipe'],
    })
    const output = text(rank.stdout!)
    expect(await once(rank, 'exit')).toEqual([0, null])
    expect(await output).toBe('undefined\n')
    rank.stdio[4]!.destroy()
  })

  const settings = (given: Given, env: NodeJS.ProcessEnv = {}) =>
    readSettings({ given, config: undefined, script: 'train.ts', scriptArguments: [] }, env, {}).metrics

  it('are asked for by flag or variable, and served on loopback unless told otherwise', () => {
    expect(settings({})).toBeUndefined()
    expect(settings({}, { LOCKSTEP_METRICS_PORT: '9470' })).toEqual({ host: '127.0.0.1', port: 9470 })
    expect(settings({ 'metrics-port': 0, 'metrics-addr': '::' })).toEqual({ host: '::', port: 0 })
  })

  it('refuse in one line what cannot be', async () => {
    expect(() => settings({}, { LOCKSTEP_METRICS_PORT: '65536' })).toThrow(
      'variable LOCKSTEP_METRICS_PORT is "65536": expected a whole number from 0 to 65535',
    )
    expect(() => settings({ 'metrics-addr': '::' })).toThrow(
      /^--metrics-addr needs --metrics-port PORT, [^\n]*$/,
    )
    await expect(serveMetrics('192.0.2.1', 0, async () => '')).rejects.toThrow(
      /^cannot serve --metrics-port 0 at 192\.0\.2\.1: 192\.0\.2\.1 is no address of this machine: [^\n]*$/,
    )
  })
})
