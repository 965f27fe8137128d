import { describe, expect, it } from 'vitest'
import { visibleGpus } from '../../launcher/devices.js'
import { makePlan, onMainThread, rankEnvironment, type Wishes } from '../../launcher/plan.js'
import { readEnvironment } from '../../src/runtime/environment/variables.js'

const options: Wishes = {
  nproc: 1,
  threads: undefined,
  timeoutSeconds: 60,
  transport: 'auto' as const,
  script: '/job/train.ts',
  scriptArguments: ['--epochs', '3'],
}
const loaders = {
  typescript: 'file:///tsx.mjs',
  bootstrap: 'file:///bootstrap.js',
  lockstep: 'file:///index.js',
}
const assignment = {
  ...{ attempt: 0, restarts: 0, maxRestarts: 3, runId: 'digits', nodeRank: 0, nodes: 1, firstRank: 0 },
  ...{ worldSize: 4, address: '127.0.0.1', storeHost: '127.0.0.1', storePort: 4242 },
}
const meeting = { assignment, token: 'ab'.repeat(32), launcherPid: 7, live: false }
const cpu = { cores: 8, gpus: [] }
const gpus = { cores: 8, gpus: ['0', '1'] }
const plan = (change: Partial<Wishes>, machine: { cores: number; gpus: string[] } = cpu) =>
  makePlan({ ...options, ...change }, machine, loaders)

describe('plan', () => {
  it.each([
    [3, cpu, 3],
    ['cpu', cpu, 8],
    ['auto', cpu, 8],
    ['auto', gpus, 2],
    ['gpu', gpus, 2],
    ['cpu', gpus, 8],
  ] as const)('--nproc %s on %j makes %i ranks', (nproc, machine, worldSize) => {
    expect(plan({ nproc }, { ...machine, gpus: [...machine.gpus] }).localWorldSize).toBe(worldSize)
  })

  it('refuses --nproc gpu where there is none', () => {
    expect(() => plan({ nproc: 'gpu' })).toThrow(/no CUDA device is visible here; expected .*--nproc cpu$/)
  })

  it.each([
    [1, 8],
    [2, 4],
    [3, 2],
    [8, 1],
    [20, 1],
  ])('divides 8 cores among %i ranks: %i threads each', (nproc, threads) => {
    expect(plan({ nproc }).threads).toBe(threads)
  })

  it('hands --engine to the ranks, and nothing without it', () => {
    expect(rankEnvironment(plan({ engine: 'onnx:webgpu' }), 0, meeting, {}).LOCKSTEP_ENGINE).toBe(
      'onnx:webgpu',
    )
    expect(rankEnvironment(plan({}), 0, meeting, {})).not.toHaveProperty('LOCKSTEP_ENGINE')
  })

  it('hands --profile to the ranks, and nothing without it', () => {
    expect(rankEnvironment(plan({ profile: 'traces' }), 0, meeting, {}).LOCKSTEP_PROFILE).toBe('traces')
    expect(rankEnvironment(plan({}), 0, meeting, {})).not.toHaveProperty('LOCKSTEP_PROFILE')
  })

  it('takes --threads as it is', () => {
    expect(plan({ nproc: 4, threads: 5 }).threads).toBe(5)
  })

  it('loads tsx for TypeScript only', () => {
    const bootstrap = onMainThread(loaders.bootstrap)
    const both = onMainThread(loaders.bootstrap, loaders.lockstep)
    const typescript = ['--inspect-port=0', '--import', both, '--import', loaders.typescript]
    expect(plan({}).nodeArguments).toEqual([...typescript, '/job/train.ts', '--epochs', '3'])
    for (const script of ['a.mts', 'a.cts', 'a.tsx'])
      expect(plan({ script }).nodeArguments).toContain(loaders.typescript)
    for (const script of ['a.js', 'a.mjs', 'a.cjs']) {
      expect(plan({ script }).nodeArguments.slice(0, 5)).toEqual([
        ...['--enable-source-maps', '--inspect-port=0', '--import', bootstrap, script],
      ])
    }
  })

  it.each(['train.py', 'train', 'train.json', '.ts'])('refuses a script called %s', (script) => {
    expect(() => plan({ script })).toThrow(/is neither TypeScript nor JavaScript: expected one of \.ts/)
  })
})

describe('environment of a rank', () => {
  it('is what the runtime reads', () => {
    const env = rankEnvironment(plan({ nproc: 4, timeoutSeconds: 1.5 }), 3, meeting, {})
    expect(readEnvironment(env)).toEqual({
      ...{ rank: 3, localRank: 3, worldSize: 4, localWorldSize: 4, groupRank: 0, address: '127.0.0.1' },
      ...{
        masterAddr: '127.0.0.1',
        masterPort: 4242,
        token: meeting.token,
        threads: 2,
        timeoutMs: 1500,
        transport: 'auto',
      },
    })
  })

  it('counts ranks over all nodes, and tells scripts of restarts', () => {
    const second = { ...assignment, nodeRank: 1, nodes: 2, firstRank: 3, worldSize: 7, address: '10.0.0.2' }
    const env = rankEnvironment(
      plan({ nproc: 4 }),
      2,
      { ...meeting, assignment: { ...second, restarts: 2, storeHost: '10.0.0.1' } },
      {},
    )
    expect(env).toMatchObject({
      ...{ RANK: '5', LOCAL_RANK: '2', WORLD_SIZE: '7', LOCAL_WORLD_SIZE: '4', GROUP_RANK: '1' },
      ...{ LOCKSTEP_ADDR: '10.0.0.2', MASTER_ADDR: '10.0.0.1', MASTER_PORT: '4242' },
      ...{ LOCKSTEP_RESTART_COUNT: '2', LOCKSTEP_MAX_RESTARTS: '3', LOCKSTEP_RUN_ID: 'digits' },
    })
  })

  it.each([
    [undefined, 'glibc.malloc.hugetlb=1'],
    ['glibc.malloc.arena_max=1', 'glibc.malloc.arena_max=1:glibc.malloc.hugetlb=1'],
    ['glibc.malloc.hugetlb=0', 'glibc.malloc.hugetlb=0'],
  ])('asks malloc for huge pages, unless the user has decided: %s', (given, expected) => {
    const env = rankEnvironment(plan({ nproc: 2 }), 0, meeting, { GLIBC_TUNABLES: given })
    expect(env.GLIBC_TUNABLES).toBe(expected)
  })

  it("keeps the user's variables, and OMP_NUM_THREADS if it is among them", () => {
    const two = plan({ nproc: 2 })
    expect(rankEnvironment(two, 0, meeting, { HOME: '/root' })).toMatchObject({
      HOME: '/root',
      OMP_NUM_THREADS: '4',
    })
    expect(rankEnvironment(two, 0, meeting, { OMP_NUM_THREADS: '7' })).toMatchObject({
      OMP_NUM_THREADS: '7',
      LOCKSTEP_THREADS: '4',
    })
  })

  it('shows each rank one GPU, shared where there are fewer', () => {
    const seen = [0, 1, 2].map(
      (rank) => rankEnvironment(plan({ nproc: 3 }, gpus), rank, meeting, {}).CUDA_VISIBLE_DEVICES,
    )
    expect(seen).toEqual(['0', '1', '0'])
    expect(rankEnvironment(plan({ nproc: 3 }), 0, meeting, {})).not.toHaveProperty('CUDA_VISIBLE_DEVICES')
  })

  it('says whether somebody watches', () => {
    const env = (live: boolean) => rankEnvironment(plan({}), 0, { ...meeting, live }, { LOCKSTEP_LIVE: '1' })
    expect([env(true).LOCKSTEP_LIVE, env(false).LOCKSTEP_LIVE]).toEqual(['1', '0'])
  })
})

describe('CUDA_VISIBLE_DEVICES', () => {
  it.each([
    [undefined, 2, ['0', '1']],
    [undefined, 0, []],
    ['', 2, []],
    ['-1', 2, []],
    ['1', 2, ['1']],
    ['1, 0', 2, ['1', '0']],
    ['0,-1,1', 2, ['0']],
    ['0,5', 2, ['0']],
    ['0', 0, []],
    ['GPU-8a1c,MIG-77', 2, ['GPU-8a1c', 'MIG-77']],
    ['NoDevFiles', 2, []],
  ])('%j with %i present shows %j', (setting, present, expected) => {
    expect(visibleGpus(setting, present)).toEqual(expected)
  })
})
