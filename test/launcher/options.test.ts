import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { parseConfig, readConfigFile } from '../../launcher/options/config-file.js'
import { nearest } from '../../launcher/options/nearest.js'
import { readSettings } from '../../launcher/options/settings.js'
import { type Given, OPTION_NAMES, TABLE, variableOf } from '../../launcher/options/table.js'
import { readToken } from '../../launcher/token.js'
import { LockstepError } from '../../src/errors.js'
import { fixture, launch } from './launch.js'

const directory = mkdtempSync(join(tmpdir(), 'lockstep-test-'))
afterAll(() => rmSync(directory, { recursive: true }))
function file(name: string, text: string): string {
  writeFileSync(join(directory, name), text)
  return join(directory, name)
}

const settings = (given: Given, env: NodeJS.ProcessEnv = {}, config?: string) => {
  const commandLine = { given, config, script: 'train.ts', scriptArguments: [] }
  return readSettings(commandLine, env, config === undefined ? {} : readConfigFile(config))
}
const endpoint = { host: 'node0', port: 29500 }

describe('settings', () => {
  it("are one rank on one node by default, with torchrun's times and no restarts", () => {
    expect(settings({})).toMatchObject({
      ...{ nproc: 1, threads: undefined, timeoutSeconds: 60, transport: 'auto', maxRestarts: 0 },
      ...{ nodes: { min: 1, max: 1 }, endpoint: undefined, nodeRank: undefined, logDirectory: undefined },
    })
  })

  it('come from a flag, else from the environment, else from the file', () => {
    const config = file('job.yaml', 'nproc: 2\nthreads: 2\ntimeout: 2.5\n')
    const env = { LOCKSTEP_NPROC: '3', LOCKSTEP_THREADS: '3', LOCKSTEP_TRANSPORT: '' }
    expect(settings({ nproc: 4 }, env, config)).toMatchObject({
      ...{ nproc: 4, threads: 3, timeoutSeconds: 2.5, transport: 'auto' },
    })
  })

  it('keep to that order across two names of one option', () => {
    expect(settings({ 'nproc-per-node': 4 }, { LOCKSTEP_NPROC: '3' })).toMatchObject({ nproc: 4 })
    const moved = settings({ 'master-addr': 'node1' }, { LOCKSTEP_RDZV_ENDPOINT: 'node0:1' })
    expect(moved.endpoint).toEqual({ host: 'node1', port: 29500 })
  })

  it("know torchrun's names of the endpoint", () => {
    expect(settings({ 'master-port': 1234 }).endpoint).toEqual({ host: '127.0.0.1', port: 1234 })
    expect(settings({ 'rdzv-endpoint': endpoint }).endpoint).toEqual(endpoint)
  })

  it('--standalone is one node, whatever the file says', () => {
    const config = file('many.yaml', 'nnodes: 4\nnode-rank: 3\nrdzv-endpoint: node0:29500\n')
    expect(settings({ standalone: true }, {}, config)).toMatchObject({
      ...{ nodes: { min: 1, max: 1 }, endpoint: undefined, nodeRank: undefined },
    })
  })

  it('--log-dir alone keeps all and shows all', () => {
    const all = { named: new Map(), others: { stdout: true, stderr: true } }
    expect(settings({ 'log-dir': 'logs' })).toMatchObject({ tee: all })
    expect(settings({ 'log-dir': 'logs', redirects: all }).tee.others.stdout).toBe(false)
  })

  it.each<[Given, NodeJS.ProcessEnv, RegExp]>([
    [{ nproc: 2, 'nproc-per-node': 2 }, {}, /nproc cannot be used with nproc-per-node/],
    [{ 'rdzv-endpoint': endpoint, 'master-port': 1 }, {}, /rdzv-endpoint cannot be used with master-addr/],
    [{ nnodes: { min: 2, max: 2 } }, {}, /--nnodes 2 needs --rdzv-endpoint HOST:PORT/],
    [
      { nnodes: { min: 2, max: 2 }, 'rdzv-endpoint': { host: '0.0.0.0', port: 1 } },
      {},
      /0\.0\.0\.0: expected an address at which the other nodes/,
    ],
    [
      { nnodes: { min: 2, max: 2 }, 'rdzv-endpoint': { host: 'a', port: 0 } },
      {},
      /port 0: expected a port that all nodes know/,
    ],
    [
      { nnodes: { min: 1, max: 2 }, 'node-rank': 2, 'rdzv-endpoint': endpoint },
      {},
      /--node-rank 2 with --nnodes 2: expected a node rank from 0 to 1/,
    ],
    [{ tee: { named: new Map(), others: { stdout: true, stderr: true } } }, {}, /--tee needs --log-dir/],
    [{}, { LOCKSTEP_REDIRECTS: '3' }, /--redirects needs --log-dir/],
    [{}, { LOCKSTEP_NPROC: 'many' }, /variable LOCKSTEP_NPROC is "many": expected a whole number/],
  ])('refuse %j with %j in one line', (given, env, message) => {
    expect(() => settings(given, env)).toThrow(LockstepError)
    expect(() => settings(given, env)).toThrow(message)
    expect(() => settings(given, env)).toThrow(/^[^\n]+$/)
  })
})

describe('config file', () => {
  it('reads every option as its flag does', () => {
    const text = [
      'nproc: auto # comment',
      'nnodes: 1:2',
      'standalone: true',
      'redirects: 0:3,1:1',
      'rdzv-id: 007',
      'rdzv-endpoint: "node0:29500"',
    ].join('\n')
    expect(parseConfig(text, 'job.yaml')).toEqual({
      nproc: 'auto',
      nnodes: { min: 1, max: 2 },
      standalone: true,
      redirects: TABLE.redirects.form.read('0:3,1:1'),
      'rdzv-id': '007',
      'rdzv-endpoint': endpoint,
    })
    expect(parseConfig('# nothing\n', 'job.yaml')).toEqual({})
  })

  it.each([
    ['nporc: 2', 'job.yaml:1:1: unknown key "nporc": did you mean nproc?'],
    ['nproc: 2\nmax_restarts: 2', 'job.yaml:2:1: unknown key "max_restarts": did you mean max-restarts?'],
    [
      'colour: red',
      'job.yaml:1:1: unknown key "colour": expected the name of a flag (see ddp-launch --help)',
    ],
    ['nproc: two', 'job.yaml:1:8: nproc is "two": expected a whole number of at least 1, auto, gpu or cpu'],
    ['threads:', 'job.yaml:1:9: threads has no plain value: expected a whole number of at least 1'],
    ['threads: [1]', 'job.yaml:1:10: threads has no plain value: expected a whole number of at least 1'],
    ['- nproc', 'job.yaml:1:1: expected lines of the form "key: value", as in "nproc: 2"'],
    ['nproc: 1\nnproc: 2', 'job.yaml:2:1: Map keys must be unique'],
    ['nproc: "1', expect.stringMatching(/^job\.yaml:1:\d+: Missing closing "quote$/)],
  ])('%j: %s', (text, message) => {
    let said = ''
    try {
      parseConfig(text, 'job.yaml')
    } catch (error) {
      expect(error).toBeInstanceOf(LockstepError)
      said = (error as Error).message
    }
    expect(said).toEqual(message)
  })

  it('is used by a launch, after flags and environment', async () => {
    const config = file('launch.yaml', 'nproc: 2\ntimeout: 9\n')
    const { code, stdout } = await launch(['--timeout', '8', fixture('environment.mjs')], {
      LOCKSTEP_CONFIG: config,
    })
    expect(code).toBe(0)
    expect(stdout.match(/"WORLD_SIZE":"2".*"LOCKSTEP_TIMEOUT":"8"/g)).toHaveLength(2)
  })

  it('that is not there is an error', () => {
    expect(() => readConfigFile('nowhere.yaml')).toThrow(/^--config nowhere\.yaml cannot be read: ENOENT/)
  })

  it('that is wrong ends a launch in one line, exit 2', async () => {
    const config = file('wrong.yaml', 'nproc: 2\nlogdir: x\n')
    const { code, stderr } = await launch(['--config', config, fixture('environment.mjs')])
    expect(stderr).toBe(`ddp-launch: ${config}:2:1: unknown key "logdir": did you mean log-dir?\n`)
    expect(code).toBe(2)
  })
})

describe('names', () => {
  it('are all in docs/launcher.md', () => {
    const docs = readFileSync(new URL('../../docs/launcher.md', import.meta.url), 'utf8')
    expect(
      OPTION_NAMES.filter((name) => !docs.includes(`| \`--${name}\``) && !docs.includes(`, \`--${name}\``)),
    ).toEqual([])
  })

  it('each have a variable of their own', () => {
    expect(variableOf('nproc-per-node')).toBe('LOCKSTEP_NPROC_PER_NODE')
    expect(new Set(OPTION_NAMES.map(variableOf)).size).toBe(OPTION_NAMES.length)
    expect(OPTION_NAMES.map(variableOf)).not.toContain('LOCKSTEP_TOKEN') // never on a command line
  })

  it.each([
    ['nproc', 'nproc'],
    ['tea', 'tee'],
    ['NPROC_PER_NODE', 'nproc-per-node'],
    ['frobnicate', undefined],
  ])('nearest to %s is %s', (given, expected) => {
    expect(nearest(given, OPTION_NAMES)).toBe(expected)
  })
})

describe('the secret of a job', () => {
  const secret = 'correct horse battery'
  it('is made up on one node, and given on several', () => {
    expect(readToken(undefined, {}, 1)).toMatch(/^[0-9a-f]{64}$/)
    expect(readToken(undefined, { LOCKSTEP_TOKEN: secret }, 2)).toBe(secret)
    expect(readToken(file('token', `${secret}\n`), { LOCKSTEP_TOKEN: 'another' }, 2)).toBe(secret)
  })

  it.each<[string | undefined, NodeJS.ProcessEnv, RegExp]>([
    [
      undefined,
      {},
      /--nnodes 2 needs a secret .*openssl rand -hex 32.* --token-file, or set LOCKSTEP_TOKEN$/,
    ],
    [
      undefined,
      { LOCKSTEP_TOKEN: 'short' },
      /LOCKSTEP_TOKEN has 5 characters: expected a secret of at least 16/,
    ],
    ['/no/such/file', {}, /--token-file \/no\/such\/file cannot be read: ENOENT/],
  ])('is refused: %s %j', (path, env, message) => {
    expect(() => readToken(path, env, 2)).toThrow(message)
  })
})
