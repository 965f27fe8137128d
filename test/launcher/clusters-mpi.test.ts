import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { type AddressInfo, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, describe, expect, it } from 'vitest'
import { whereabouts } from '../../src/runtime/environment/direct.js'
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
async function mpirun(args: readonly string[], variables: Record<string, string> = {}) {
  const { PATH, HOME } = process.env
  const env = {
    ...{ PATH, HOME, TSX_TSCONFIG_PATH: join(ROOT, 'tsconfig.source.json'), TSX_DISABLE_CACHE: '1' },
    ...{ OMPI_ALLOW_RUN_AS_ROOT: '1', OMPI_ALLOW_RUN_AS_ROOT_CONFIRM: '1', LOCKSTEP_TOKEN_FILE: token },
    ...{ OMPI_MCA_orte_tmpdir_base: directory, LOCKSTEP_MASTER_PORT: await freePort(), ...variables },
  }
  const child = spawn(
    'mpirun',
    ['--oversubscribe', '-n', '2', process.execPath, '--import', 'tsx', ...args],
    {
      ...{ cwd: ROOT, env, stdio: ['ignore', 'pipe', 'pipe'] },
    },
  )
  let output = ''
  for (const stream of [child.stdout!, child.stderr!])
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
  it('are two nodes, or two ranks, and train as two ranks of one launcher do', async () => {
    const plain = await launch(['--nproc', '2', fixture('train.ts'), fresh()])
    const nodes = await mpirun([LAUNCHER, fixture('train.ts'), fresh()])
    const ranks = await mpirun([fixture('train.ts'), fresh()])
    expect(sumOf(plain.stdout)).toBeDefined()
    for (const { code, output } of [nodes, ranks])
      expect([code, sumOf(output)]).toEqual([0, sumOf(plain.stdout)])
  })

  it('without a secret say so', async () => {
    const { code, output } = await mpirun([fixture('train.ts'), fresh()], { LOCKSTEP_TOKEN_FILE: '' })
    expect(output).toMatch(/^2 ranks that Open MPI started need a secret .*: set LOCKSTEP_TOKEN_FILE or /m)
    expect(code).toBe(2)
  })

  it('say when the port is taken', async () => {
    const server = createServer().listen(0, '127.0.0.1')
    await once(server, 'listening')
    const { port } = server.address() as AddressInfo
    const { code, output } = await mpirun([fixture('train.ts'), fresh()], {
      LOCKSTEP_MASTER_PORT: String(port),
    })
    server.close()
    expect(output).toMatch(
      /^rank 0 cannot listen at 127\.0\.0\.1:\d+: listen EADDRINUSE.*; set LOCKSTEP_MASTER_ADDR/m,
    )
    expect(code).toBe(2)
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
})
