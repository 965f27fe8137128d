import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { type AddressInfo, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, describe, expect, it } from 'vitest'
import { joinDirectly, whereabouts } from '../../src/runtime/environment/direct.js'
import { fixture, launch } from './launch.js'

const ROOT = fileURLToPath(new URL('../..', import.meta.url))
const LAUNCHER = join(ROOT, 'launcher/main.ts')
const version = spawnSync('mpirun', ['--version'], { encoding: 'utf8' }).stdout ?? ''
const isThere = version.includes('Open MPI')

const directory = mkdtempSync(join(tmpdir(), 'lockstep-test-'))
const token = join(directory, 'token')
writeFileSync(token, `${'ab'.repeat(16)}\n`)
afterAll(() => rmSync(directory, { recursive: true }))
const fresh = () => mkdtempSync(join(directory, 'job-'))

/** Two processes of this machine, started by mpirun. */
async function mpirun(args: readonly string[]) {
  return run('mpirun', ['--oversubscribe', '-n', '2', process.execPath, '--import', 'tsx', ...args], {
    ...{
      OMPI_ALLOW_RUN_AS_ROOT: '1',
      OMPI_ALLOW_RUN_AS_ROOT_CONFIRM: '1',
      OMPI_MCA_orte_tmpdir_base: directory,
    },
    LOCKSTEP_MASTER_PORT: await freePort(),
  })
}

async function run(command: string, args: readonly string[], variables: Record<string, string>) {
  const { PATH, HOME } = process.env
  const env = {
    ...{ PATH, HOME, TSX_TSCONFIG_PATH: join(ROOT, 'tsconfig.source.json'), TSX_DISABLE_CACHE: '1' },
    ...{ LOCKSTEP_TOKEN_FILE: token, ...variables },
  }
  const child = spawn(command, args, { cwd: ROOT, env, stdio: ['ignore', 'pipe', 'pipe'] })
  let output = ''
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding('utf8').on('data', (text: string) => {
      output += text
    })
  const [code] = await once(child, 'close')
  return { code, output }
}

async function freePort(): Promise<string> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, 'close')
  return String(port)
}

const sumOf = (text: string) => /world 2 restarts \w+ sum (\S+)/.exec(text)?.[1]

describe.skipIf(!isThere)(`two processes of mpirun${isThere ? '' : ' (skipped: needs Open MPI)'}`, () => {
  const plain = isThere ? launch(['--nproc', '2', fixture('train.ts'), fresh()]) : undefined

  it.each([
    ['two nodes', [LAUNCHER, fixture('train.ts')]],
    ['two ranks', [fixture('train.ts')]],
  ])('are %s, and train as two ranks of one launcher do', async (_, args) => {
    const sum = sumOf((await plain)?.stdout ?? '')
    const { code, output } = await mpirun([...args, fresh()])
    expect(sum).toBeDefined()
    expect([code, sumOf(output)]).toEqual([0, sum])
  })
})

describe('ranks without a launcher', () => {
  it.each([
    [['a', 'a', 'b', 'b'], 2, { localRank: 0, localWorldSize: 2, groupRank: 1 }],
    [['a', 'b', 'a', 'b'], 3, { localRank: 1, localWorldSize: 2, groupRank: 1 }],
    [['a', 'b', 'c'], 2, { localRank: 0, localWorldSize: 1, groupRank: 2 }],
  ])('on hosts %j: rank %i', (hosts, rank, expected) => {
    expect(whereabouts(rank, hosts)).toEqual(expected)
  })

  const two = { OMPI_COMM_WORLD_SIZE: '2', OMPI_COMM_WORLD_RANK: '0', OMPI_COMM_WORLD_LOCAL_SIZE: '2' }

  it.each([
    [two, /^2 ranks that Open MPI started need a secret .*: set LOCKSTEP_TOKEN_FILE or LOCKSTEP_TOKEN/],
    [{ ...two, LOCKSTEP_TOKEN_FILE: '/no/such' }, /^LOCKSTEP_TOKEN_FILE \/no\/such cannot be read: /],
    [
      { ...two, LOCKSTEP_MASTER_PORT: 'x' },
      /^environment variable LOCKSTEP_MASTER_PORT is "x": expected a port/,
    ],
    [
      { ...two, OMPI_COMM_WORLD_LOCAL_SIZE: '1' },
      /^Open MPI does not say where rank 0 is: set LOCKSTEP_MASTER_ADDR/,
    ],
    [
      { PET_NNODES: '1:2', PET_RDZV_ENDPOINT: 'a:1' },
      /^Kubeflow does not say which rank this is: expected ddp-launch/,
    ],
  ])('say what is missing: %j', async (env, message) => {
    await expect(joinDirectly(env)).rejects.toThrow(message)
    await expect(joinDirectly(env)).rejects.toThrow(/^[^\n]+$/)
  })

  it.each([
    {},
    { ...two, RANK: '0', WORLD_SIZE: '1' },
    { ...two, OMPI_COMM_WORLD_SIZE: '1', OMPI_COMM_WORLD_LOCAL_SIZE: '1' },
    { JOB_COMPLETION_INDEX: '3' },
  ])('are none where a launcher is, or one process: %j', async (env) => {
    expect(await joinDirectly(env)).toBeUndefined()
  })

  it.each([
    ['encrypt with LOCKSTEP_TLS', ['auto', 'auto'], [0, 0], /^world 2 restarts \S+ sum /m],
    [
      'say who does not',
      ['auto', 'off'],
      [2, 2],
      /127\.0\.0\.1 was refused: the other end does not speak TLS/,
    ],
  ])('%s', async (_, modes, codes, message) => {
    const [port, here] = [await freePort(), fresh()]
    const where = { LOCKSTEP_MASTER_ADDR: '127.0.0.1', LOCKSTEP_MASTER_PORT: port, LOCKSTEP_TIMEOUT: '20' }
    const ranks = modes.map((mode, rank) =>
      run(process.execPath, ['--import', 'tsx', fixture('train.ts'), here], {
        ...{ OMPI_COMM_WORLD_SIZE: '2', OMPI_COMM_WORLD_LOCAL_SIZE: '1', OMPI_COMM_WORLD_RANK: `${rank}` },
        ...{ ...where, LOCKSTEP_TRANSPORT: 'tcp', LOCKSTEP_TLS: mode },
      }),
    )
    const results = await Promise.all(ranks)
    expect(results.map(({ code }) => code)).toEqual(codes)
    expect(results.map(({ output }) => output).join('')).toMatch(message)
  })

  it('say when the port is taken', async () => {
    const server = createServer().listen(0, '127.0.0.1')
    await once(server, 'listening')
    const { port } = server.address() as AddressInfo
    const variables = { ...two, LOCKSTEP_MASTER_PORT: String(port) }
    const { code, output } = await run(process.execPath, ['--import', 'tsx', fixture('train.ts')], variables)
    server.close()
    expect(output).toMatch(
      /^rank 0 cannot listen at 127\.0\.0\.1:\d+: listen EADDRINUSE.*; set LOCKSTEP_MASTER_ADDR/,
    )
    expect(code).toBe(2)
  })
})
