import { describe, expect, it } from 'vitest'
import { parseArguments } from '../../launcher/options/arguments.js'
import { LockstepError } from '../../src/errors.js'
import { fixture, launch } from './launch.js'

const parse = (...argv: string[]) => parseArguments(argv, '1.2.3')
const given = (...argv: string[]) => parse(...argv, 'train.ts')?.given

describe('command line', () => {
  it('says nothing of what was not given', () => {
    expect(parse('train.ts')).toEqual({
      given: {},
      config: undefined,
      script: 'train.ts',
      scriptArguments: [],
    })
  })

  it('leaves all that follows the script to the script', () => {
    const rest = ['--nproc', '9', '--help', '-x', '--', '--version', 'a b']
    expect(parse('--nproc', '2', 'train.ts', ...rest)).toMatchObject({
      given: { nproc: 2 },
      scriptArguments: rest,
    })
  })

  it.each([
    [['--nproc', '4'], { nproc: 4 }],
    [['--nproc=4'], { nproc: 4 }],
    [['--nproc-per-node', '4'], { 'nproc-per-node': 4 }],
    [['--nproc', 'auto'], { nproc: 'auto' }],
    [['--nproc', 'gpu'], { nproc: 'gpu' }],
    [['--nproc', 'cpu'], { nproc: 'cpu' }],
    [['--threads', '3'], { threads: 3 }],
    [['--timeout', '0.5'], { timeout: 0.5 }],
    [['--transport', 'ws'], { transport: 'ws' }],
    [['--standalone'], { standalone: true }],
    [['--nnodes', '3'], { nnodes: { min: 3, max: 3 } }],
    [['--nnodes', '2:4'], { nnodes: { min: 2, max: 4 } }],
    [['--node-rank', '0'], { 'node-rank': 0 }],
    [['--rdzv-endpoint', 'node0:29500'], { 'rdzv-endpoint': { host: 'node0', port: 29500 } }],
    [['--rdzv-endpoint', '[fe80::1]:1'], { 'rdzv-endpoint': { host: 'fe80::1', port: 1 } }],
    [['--rdzv-id', 'digits-1'], { 'rdzv-id': 'digits-1' }],
    [['--max-restarts', '0'], { 'max-restarts': 0 }],
    [['--local-ranks-filter', '0,2'], { 'local-ranks-filter': new Set([0, 2]) }],
    [['--redirects', '3'], { redirects: { named: new Map(), others: { stdout: true, stderr: true } } }],
    [
      ['--tee', '0:3,1:1'],
      {
        tee: {
          named: new Map([
            [0, { stdout: true, stderr: true }],
            [1, { stdout: true, stderr: false }],
          ]),
          others: { stdout: false, stderr: false },
        },
      },
    ],
  ])('reads %j', (flags, expected) => {
    expect(given(...flags)).toEqual(expected)
  })

  it.each([
    [['--nporc', '2', 'train.ts'], /unknown option '--nporc' \(Did you mean --nproc\?\)/],
    [['--nproc_per_node', '2', 'train.ts'], /Did you mean --nproc-per-node/],
    // Nothing takes the secret itself, and nothing repeats it.
    [['--token', 'c0rrect-horse', 'train.ts'], /^(?!.*c0rrect).*unknown option '--token'/],
    [['--frobnicate', 'train.ts'], /unknown option '--frobnicate' \(see --help\)/],
    [[], /no script was given: expected ddp-launch/],
    [['--nproc', '2'], /no script was given/],
    [['--nproc'], /--nproc.*argument missing/],
    [
      ['--nproc', '0', 'train.ts'],
      /argument '0' is invalid. Expected a whole number of at least 1, auto, gpu or cpu/,
    ],
    [['--nproc', '-3', 'train.ts'], /argument '-3' is invalid/],
    [['--nproc', 'x', 'train.ts'], /argument 'x' is invalid/],
    [['--nproc', '2.5', 'train.ts'], /argument '2.5' is invalid/],
    [['--nproc', '1e9', 'train.ts'], /argument '1e9' is invalid/],
    [['--nproc', '', 'train.ts'], /argument '' is invalid/],
    [['--threads', '0', 'train.ts'], /--threads.*argument '0' is invalid/],
    [['--timeout', '-1', 'train.ts'], /--timeout.*argument '-1' is invalid/],
    [['--timeout', '0', 'train.ts'], /argument '0' is invalid. Expected a number of seconds above 0/],
    [['--nnodes', '4:2', 'train.ts'], /Expected a number of nodes, or MIN:MAX with 1 <= MIN <= MAX/],
    [['--nnodes', '0', 'train.ts'], /Expected a number of nodes/],
    [['--rdzv-endpoint', 'node0', 'train.ts'], /Expected HOST:PORT/],
    [['--rdzv-endpoint', 'node0:99999', 'train.ts'], /Expected HOST:PORT/],
    [['--rdzv-id', '../up', 'train.ts'], /Expected a name of letters, digits/],
    [['--redirects', '4', 'train.ts'], /Expected 0 \(none\), 1 \(stdout\)/],
    [['--tee', '0:3,0:1', 'train.ts'], /Expected 0 \(none\)/],
    [['--local-ranks-filter', 'a', 'train.ts'], /Expected local ranks, as in 0,2/],
  ])('refuses %j in one line', (argv, message) => {
    expect(() => parse(...argv)).toThrow(LockstepError)
    expect(() => parse(...argv)).toThrow(message)
    expect(() => parse(...argv)).toThrow(/^[^\n]+$/)
  })
})

describe('ddp-launch with a wrong command line', () => {
  it.each([
    [['--nporc', '2', 'train.ts'], /Did you mean --nproc/],
    [[], /no script was given/],
    [['no-such-script.ts'], /script no-such-script.ts is not a file/],
    [['.'], /is not a file/],
    [['docter'], /docter is not a file .*: did you mean ddp-launch doctor\?/],
    [['package.json'], /neither TypeScript nor JavaScript: expected one of \.ts/],
    [['--nproc', 'gpu', fixture('environment.mjs')], /no CUDA device is visible/],
  ])('%j: one line on stderr, exit 2', async (argv, message) => {
    const { code, stdout, stderr } = await launch(argv, { CUDA_VISIBLE_DEVICES: '' })
    expect(stderr).toMatch(message)
    expect(stderr).toMatch(/^ddp-launch: [^\n]+\n$/)
    expect([code, stdout]).toEqual([2, ''])
  })

  it('prints help with examples, and its version', async () => {
    const [help, version] = await Promise.all([launch(['--help']), launch(['--version'])])
    expect(help).toMatchObject({
      code: 0,
      stderr: '',
      stdout: expect.stringContaining('$ ddp-launch --nproc 4'),
    })
    expect(version).toMatchObject({ code: 0, stdout: expect.stringMatching(/^\d+\.\d+\.\d+\n$/) })
  })
})
