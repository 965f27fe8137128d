import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { parseAllDocuments } from 'yaml'
import { place } from '../../launcher/clusters/place.js'
import { generate } from '../../launcher/generate.js'
import { parseArguments } from '../../launcher/options/arguments.js'
import { launch } from './launch.js'

const directory = mkdtempSync(join(tmpdir(), 'lockstep-test-'))
afterAll(() => rmSync(directory, { recursive: true }))

const kubernetes = (...argv: string[]) => {
  const text = generate('kubernetes', ['--image', 'me/train:1', ...argv]) ?? ''
  const [secret, service, job] = parseAllDocuments(text).map((document) => document.toJS())
  return {
    secret,
    service,
    job,
    pod: job.spec.template.spec,
    container: job.spec.template.spec.containers[0],
  }
}
/** What each pod's ddp-launch is given, as it reads it. */
const launched = (command: readonly string[]) => parseArguments(command.slice(4), '')

describe('generate slurm', () => {
  it('is a batch script of the same options', () => {
    const argv = [
      '--nnodes',
      '2',
      '--nproc=8',
      '--threads',
      '2',
      '--engine',
      'onnx:cuda',
      '--rdzv-id',
      'My_Job',
    ]
    const text = generate('slurm', [...argv, 'train.ts', '--lr', "it's 0.1", '--image', 'x'])
    expect(text).toBe(`#!/bin/bash
#SBATCH --job-name=my-job
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --gpus-per-node=8
#SBATCH --signal=TERM@60
set -euo pipefail
export PATH="$PWD/node_modules/.bin:$PATH"
token="$PWD/.lockstep-$SLURM_JOB_ID.token"
trap 'rm -f "$token"' EXIT
(umask 077; head -c 32 /dev/urandom | od -An -tx1 | tr -d " \\n" > "$token")
srun --cpus-per-task=16 ddp-launch --token-file "$token" --nproc=8 --threads 2 --engine onnx:cuda --rdzv-id My_Job train.ts --lr 'it'\\''s 0.1' --image x
`)
    expect(spawnSync('bash', ['-n'], { input: text }).status).toBe(0)
  })

  it('takes whole nodes where no threads are given, and a secret that is there', () => {
    const text = generate('slurm', [
      '--nnodes',
      '4',
      '--token-file',
      'my token',
      '--master-port=1234',
      'train.ts',
    ])
    expect(text).toContain('#SBATCH --exclusive\n')
    expect(text).toContain("token='my token'\n")
    expect(text).toContain(
      'srun --cpus-per-task="$SLURM_CPUS_ON_NODE" ddp-launch --token-file "$token" --master-port 1234 train.ts\n',
    )
  })
})

describe('generate kubernetes', () => {
  it('is an Indexed Job whose pods find each other', () => {
    const { secret, service, job, pod, container } = kubernetes(
      '--nnodes',
      '3',
      '--nproc',
      '2',
      'my train.ts',
      '$(A)',
    )
    for (const { metadata } of [secret, service, job]) expect(metadata.name).toBe('my-train')
    expect(job.spec).toMatchObject({
      completionMode: 'Indexed',
      completions: 3,
      parallelism: 3,
      backoffLimit: 0,
    })
    // Pods of the service's name and selector have names in its domain: JOB-INDEX.SERVICE.
    expect(service.spec).toEqual({
      ...{ clusterIP: 'None', publishNotReadyAddresses: true },
      selector: { 'batch.kubernetes.io/job-name': job.metadata.name },
    })
    expect(pod.subdomain).toBe(service.metadata.name)
    expect(launched(container.command)).toEqual({
      given: {
        ...{ nnodes: { min: 3, max: 3 }, nproc: 2, 'token-file': '/run/secrets/lockstep/token' },
        'rdzv-endpoint': { host: 'my-train-0.my-train', port: 29500 },
      },
      ...{ config: undefined, script: 'my train.ts', scriptArguments: ['$$(A)'] },
    })
  })

  it("numbers nodes by the pods' indices", () => {
    const { container } = kubernetes('--nnodes', '2', 'train.ts')
    const { given } = launched(container.command)!
    const placed = [0, 1].map((index) =>
      place(given, { JOB_COMPLETION_INDEX: String(index), HOSTNAME: `train-${index}` }),
    )
    expect(placed.map((one) => [one['node-rank'], one['rdzv-endpoint']?.host])).toEqual([
      [0, 'train-0'],
      [1, 'train-0.train'],
    ])
  })

  it('holds a secret: the one of the file, else one of its own', () => {
    const file = join(directory, 'token')
    writeFileSync(file, `${'cd'.repeat(16)}\n`)
    expect(kubernetes('--token-file', file, 'train.ts').secret.stringData.token).toBe('cd'.repeat(16))
    const [one, other] = [0, 1].map(() => kubernetes('train.ts'))
    expect(one!.secret.stringData.token).toMatch(/^[0-9a-f]{64}$/)
    expect(one!.secret.stringData.token).not.toBe(other!.secret.stringData.token)
    const { name, mountPath } = one!.container.volumeMounts[0]
    expect(one!.pod.volumes).toContainEqual({ name, secret: { secretName: one!.secret.metadata.name } })
    expect(launched(one!.container.command)?.given['token-file']).toBe(`${mountPath}/token`)
  })

  it('asks for cores and GPUs', () => {
    const flags = ['--nproc', '4', '--threads', '2', '--engine', 'onnx:cuda', '--stop-timeout', '90']
    const { pod, container } = kubernetes(...flags, 'train.ts')
    expect(container.resources).toEqual({ requests: { cpu: '8' }, limits: { 'nvidia.com/gpu': '4' } })
    expect(pod.terminationGracePeriodSeconds).toBe(120)
  })
})

describe('generate refuses in one line', () => {
  it.each([
    ['slurm', ['--nproc', 'gpu', 'train.ts'], /--nproc gpu is unknown before the job runs/],
    ['slurm', ['--nnodes', '1:2', 'train.ts'], /--nnodes 1:2: expected one number/],
    ['slurm', ['--node-rank=1', 'train.ts'], /--node-rank cannot be used/],
    ['slurm', ['--image', 'x', 'train.ts'], /--image is for kubernetes/],
    ['slurm', [], /no script was given/],
    ['kubernetes', ['train.ts'], /needs --image IMAGE/],
  ] as const)('%s %j', (target, argv, message) => {
    expect(() => generate(target, argv)).toThrow(message)
    expect(() => generate(target, argv)).toThrow(/^[^\n]+$/)
  })

  it('and writes nothing else to stdout', async () => {
    const good = await launch(['generate', 'slurm', 'train.ts'])
    expect([good.code, good.stderr, good.stdout.startsWith('#!/bin/bash\n')]).toEqual([0, '', true])
    const bad = await launch(['generate', 'pbs', 'train.ts'])
    expect([bad.code, bad.stdout]).toEqual([2, ''])
    expect(bad.stderr).toMatch(/^ddp-launch: generate pbs: expected slurm\|kubernetes [^\n]*\n$/)
  })
})
