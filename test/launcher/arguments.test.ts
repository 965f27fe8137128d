import { describe, expect, it } from 'vitest'
import { parseArguments } from '../../launcher/arguments.js'
import { LockstepError } from '../../src/errors.js'
import { fixture, launch } from './launch.js'

const parse = (...argv: string[]) => parseArguments(argv, '1.2.3')

describe('command line', () => {
  it('has one rank and 60 s by default, as torchrun', () => {
    expect(parse('train.ts')).toEqual({
      nproc: 1,
      threads: undefined,
      timeoutSeconds: 60,
      transport: 'auto',
      script: 'train.ts',
      scriptArguments: [],
    })
  })

  it('leaves all that follows the script to the script', () => {
    const rest = ['--nproc', '9', '--help', '-x', '--', '--version', 'a b']
    expect(parse('--nproc', '2', 'train.ts', ...rest)).toMatchObject({ nproc: 2, scriptArguments: rest })
  })

  it.each([
    [['--nproc', '4'], { nproc: 4 }],
    [['--nproc=4'], { nproc: 4 }],
    [['--nproc-per-node', '4'], { nproc: 4 }],
    [['--nproc', 'auto'], { nproc: 'auto' }],
    [['--nproc', 'gpu'], { nproc: 'gpu' }],
    [['--nproc', 'cpu'], { nproc: 'cpu' }],
    [['--threads', '3'], { threads: 3 }],
    [['--timeout', '0.5'], { timeoutSeconds: 0.5 }],
    [['--transport', 'ws'], { transport: 'ws' }],
  ])('reads %j', (flags, expected) => {
    expect(parse(...flags, 'train.ts')).toMatchObject(expected)
  })

  it.each([
    [['--nporc', '2', 'train.ts'], /unknown option '--nporc' \(Did you mean --nproc\?\)/],
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
    [['--nproc', '2', '--nproc-per-node', '3', 'train.ts'], /cannot be used with/],
    [['--threads', '0', 'train.ts'], /--threads.*argument '0' is invalid/],
    [['--timeout', '-1', 'train.ts'], /--timeout.*argument '-1' is invalid/],
    [['--timeout', '0', 'train.ts'], /argument '0' is invalid. Expected a number of seconds above 0/],
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
    [['--nproc', '-3', 'train.ts'], /'-3' is invalid/],
    [['no-such-script.ts'], /script no-such-script.ts is not a file/],
    [['.'], /is not a file/],
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
