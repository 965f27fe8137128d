/**
 * The rules of deploy/: read by promtool, and fired one after the other by a real Prometheus that watches a real job
 * (`npm run test:metrics`, about two minutes). Both come with Debian's package prometheus.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { type AddressInfo, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, describe, expect, it, onTestFailed } from 'vitest'
import { eventually, fixture, start } from '../launcher/launch.js'

const path = (name: string) => fileURLToPath(new URL(`../../${name}`, import.meta.url))
const isThere = (command: string) => spawnSync(command, ['--version']).error === undefined
const run = (...args: string[]) => {
  const { status, stdout, stderr } = spawnSync('promtool', args, { encoding: 'utf8' })
  return { status, output: stdout + stderr }
}

describe.skipIf(!isThere('promtool'))(
  'promtool (skipped where it is not installed: package prometheus)',
  () => {
    it.each([
      ['check', 'rules', 'deploy/alerts.yml'],
      ['check', 'config', 'deploy/prometheus.yml'],
      ['test', 'rules', 'test/observe/alerts.promtool.yml'],
    ])('%s %s %s', (verb, what, file) => {
      const { status, output } = run(verb, what, path(file))
      expect(status, output).toBe(0)
    })
  },
)

const isAsked = process.env.TEST_METRICS === '1'
const why = isAsked ? 'skipped where it is not installed: package prometheus' : 'npm run test:metrics'
describe.skipIf(!isAsked || !isThere('prometheus'))(`a real Prometheus (${why})`, () => {
  // Made by the test: of a suite that is skipped nothing is cleaned up.
  let directory: string | undefined
  const running: ChildProcess[] = []
  afterAll(async () => {
    for (const child of running) {
      if (child.exitCode !== null) continue
      child.kill()
      await once(child, 'close')
    }
    if (directory !== undefined) rmSync(directory, { recursive: true })
  })
  const wait = { timeout: 60_000, interval: 300 }

  it('fires each rule when its time has come, and none before', { timeout: 300_000 }, async () => {
    directory = mkdtempSync(join(tmpdir(), 'lockstep-test-'))
    const word = join(directory, 'word')
    const say = (text: string) => writeFileSync(word, text)
    say('train')
    const flags = ['--nproc', '2', '--max-restarts', '1', '--stop-timeout', '1', '--metrics-port', '0']
    const job = start([...flags, fixture('steered.ts'), word])
    running.push(job.child)
    onTestFailed(() => console.error(job.output.stderr))
    const url = await eventually(() => /metrics of .* are at (http:\S+)/.exec(job.output.stderr)?.[1])
    const api = await startPrometheus(directory, new URL(url).host, running)
    const ask = async (path: string) => ((await (await fetch(`${api}/${path}`)).json()) as Answer).data
    /** Alerts that fire, with the rank, in order. */
    const firing = async () => {
      const { alerts = [] } = await ask('alerts')
      const names = alerts.map(({ labels: { alertname, rank = '' } }) => `${alertname} ${rank}`.trim())
      return names.filter((_, i) => alerts[i]!.state === 'firing').sort()
    }
    const trains = async () => {
      const query = encodeURIComponent('min(increase(lockstep_steps_total[10s]))')
      await expect
        .poll(async () => Number((await ask(`query?query=${query}`)).result?.[0]?.value[1]), wait)
        .toBeGreaterThan(20)
      await expect.poll(firing, wait).toEqual([])
    }

    await trains()
    say('nan')
    await expect.poll(firing, wait).toEqual(['LockstepLossNotFinite 0', 'LockstepLossNotFinite 1'])
    say('train')
    await trains()
    say('fail')
    await expect.poll(firing, wait).toEqual(['LockstepRestarted'])
    say('train')
    await trains()
    say('slow')
    await expect.poll(firing, wait).toEqual(['LockstepThroughputDropped'])
    say('hang')
    const stuck = ['LockstepRankSilent 1', 'LockstepRankStuck 0', 'LockstepRankStuck 1']
    await expect.poll(firing, wait).toEqual(expect.arrayContaining(stuck))
    expect(await firing()).not.toContain('LockstepRankSilent 0')
  })
})

/** What of Prometheus' answers is read here. */
interface Answer {
  readonly data: {
    readonly alerts?: readonly { state: string; labels: { alertname: string; rank?: string } }[]
    readonly result?: readonly { value: [at: number, value: string] }[]
  }
}

/** Scrapes `target` every second by the rules of deploy/, minutes taken as seconds. @returns the address of its API. */
async function startPrometheus(directory: string, target: string, running: ChildProcess[]): Promise<string> {
  const rules = readFileSync(path('deploy/alerts.yml'), 'utf8')
  const faster = rules
    .replaceAll(/\b(\d+)m\b/g, '$1s')
    .replace('> 300', '> 5')
    .replace('> 180', '> 3')
  writeFileSync(join(directory, 'alerts.yml'), faster)
  const scrape = { job_name: 'lockstep', static_configs: [{ targets: [target] }] }
  const config = {
    global: { scrape_interval: '1s', evaluation_interval: '1s' },
    rule_files: ['alerts.yml'],
    scrape_configs: [scrape],
  }
  writeFileSync(join(directory, 'prometheus.yml'), JSON.stringify(config)) // which is YAML too
  const address = `127.0.0.1:${await freePort()}`
  const flags = {
    'config.file': join(directory, 'prometheus.yml'),
    'storage.tsdb.path': join(directory, 'data'),
    'web.listen-address': address,
  }
  const child = spawn(
    'prometheus',
    Object.entries(flags).map(([name, value]) => `--${name}=${value}`),
    { stdio: 'ignore' },
  )
  running.push(child)
  const ready = () =>
    fetch(`http://${address}/-/ready`).then(
      ({ status }) => status,
      () => 0,
    )
  await expect.poll(ready, { timeout: 30_000, interval: 200 }).toBe(200)
  return `http://${address}/api/v1`
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  return port
}
