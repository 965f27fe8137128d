import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { type AddressInfo, createServer } from 'node:net'
import { hostname, tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, describe, expect, it } from 'vitest'
import { eventually, fixture, isAlive, type Launched, launch, pids, start } from './launch.js'

const directory = mkdtempSync(join(tmpdir(), 'lockstep-test-'))
const token = join(directory, 'token')
writeFileSync(token, `${'ab'.repeat(16)}\n`)
afterAll(() => rmSync(directory, { recursive: true }))

const running: Launched[] = []
afterEach(() => {
  for (const { child } of running.splice(0)) child.kill('SIGKILL')
})

/** A port that nobody listens at just now. */
async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, 'close')
  return port
}

/** One launcher of a job of several; all "nodes" are this machine. */
function node(port: number, flags: readonly string[], script: string, ...args: string[]): Launched {
  const where = ['--rdzv-endpoint', `127.0.0.1:${port}`, '--token-file', token]
  const launched = start([...where, ...flags, fixture(script), ...args])
  running.push(launched)
  return launched
}

const lastLine = (text: string) => text.trimEnd().split('\n').at(-1)
const fresh = () => mkdtempSync(join(directory, 'job-'))

describe('several nodes', () => {
  it('agree on ranks and world, whoever comes first', async () => {
    const port = await freePort()
    const flags = ['--nnodes', '2', '--rdzv-id', 'digits']
    const second = node(port, [...flags, '--node-rank', '1', '--nproc', '1'], 'environment.mjs')
    const first = node(port, [...flags, '--node-rank', '0', '--nproc', '2'], 'environment.mjs')
    const results = await Promise.all([first.done, second.done])
    expect(results.map(({ code, stderr }) => [code, stderr])).toEqual([0, 1].map(() => [0, '']))
    const seen = results
      .flatMap(({ stdout }) => stdout.trim().split('\n').sort())
      .map((line) => JSON.parse(line.replace(/^\[\d+\] /, '')).env)
    expect(seen.map((env) => [env.RANK, env.LOCAL_RANK, env.GROUP_RANK, env.LOCAL_WORLD_SIZE])).toEqual([
      ['0', '0', '0', '2'],
      ['1', '1', '0', '2'],
      ['2', '0', '1', '1'],
    ])
    for (const env of seen)
      expect(env).toMatchObject({ WORLD_SIZE: '3', LOCKSTEP_RUN_ID: 'digits', MASTER_ADDR: '127.0.0.1' })
    expect(new Set(seen.map((env) => `${env.MASTER_PORT} ${env.LOCKSTEP_TOKEN}`)).size).toBe(1)
  })

  it('train together, and start again together after a failure on one of them', async () => {
    const [port, here] = [await freePort(), fresh()]
    const flags = ['--nnodes', '2', '--nproc', '1', '--max-restarts', '1']
    const nodes = [0, 1].map(() => node(port, flags, 'train.ts', here, '12'))
    const results = await Promise.all(nodes.map(({ done }) => done))
    expect(results.map(({ code }) => code)).toEqual([0, 0])
    for (const { stderr } of results) {
      expect(stderr).toMatch(
        new RegExp(`rank 1 \\(pid \\d+ on ${hostname()}\\) failed with exit code 1: Error: as told\\n`),
      )
      expect(lastLine(stderr)).toBe('ddp-launch: all ranks start again, restart 1 of 1')
    }
    const undisturbed = await launch(['--nproc', '2', fixture('train.ts'), fresh()])
    const sum = /sum (\S+)/.exec(undisturbed.stdout)?.[1]
    expect(results.map(({ stdout }) => stdout).join('')).toContain(`world 2 restarts 1 sum ${sum}\n`)
  })

  it('all stop within a second when a rank of one is killed, and name it last', { retry: 2 }, async () => {
    const port = await freePort()
    const flags = ['--nnodes', '2', '--nproc', '1']
    const nodes = [0, 1].map((rank) => node(port, [...flags, '--node-rank', `${rank}`], 'busy.mjs'))
    const [all] = await Promise.all(nodes.map((launched) => pids(launched, 2)))
    const killedAt = Date.now()
    process.kill(all![0]!, 'SIGKILL')
    const results = await Promise.all(nodes.map(({ done }) => done))
    expect(Date.now() - killedAt).toBeLessThan(1000)
    for (const { code, stderr } of results) {
      expect(lastLine(stderr)).toMatch(
        new RegExp(`^ddp-launch: rank 0 \\(pid ${all![0]} on ${hostname()}\\) was killed by SIGKILL`),
      )
      expect(code).toBe(137)
    }
  })

  it('all stop when a launcher is killed, and name its node', async () => {
    for (const victim of [0, 1]) {
      const port = await freePort()
      const flags = ['--nnodes', '2', '--nproc', '1']
      const nodes = [0, 1].map((rank) => node(port, [...flags, '--node-rank', `${rank}`], 'stubborn.mjs'))
      const all = (await Promise.all(nodes.map((launched) => pids(launched, 1)))).flat()
      nodes[victim]!.child.kill('SIGKILL')
      const { code, stderr } = await nodes[1 - victim]!.done
      expect(lastLine(stderr)).toMatch(
        victim === 1
          ? /node \S+ \(127\.0\.0\.1\) was lost: the connection with its launcher (was closed|broke)/
          : /node at the endpoint \(127\.0\.0\.1:\d+\) was lost: the connection with its launcher (was closed|broke)/,
      )
      expect(code).toBe(1)
      await eventually(() => !all.some(isAlive), 5000)
    }
  })

  it('shrink and grow: a node is killed, the rest goes on, another takes its place', async () => {
    const [port, here] = [await freePort(), fresh()]
    const flags = ['--nnodes', '1:2', '--nproc', '1', '--max-restarts', '3', '--rdzv-last-call', '20']
    const slowly = ['train.ts', here, '', '150'] as const
    const home = node(port, [...flags, '--node-rank', '0'], ...slowly)
    await eventually(() => isListening(port)) // whoever comes first would be the endpoint
    const victim = node(port, flags, ...slowly)
    await pids(victim, 1)
    victim.child.kill('SIGKILL')
    await pids(home, 2)
    expect(home.output.stderr).toContain('ddp-launch: all ranks start again, restart 1 of 3\n')
    const late = node(port, flags, ...slowly)
    const [{ code, stdout }, { code: lateCode }] = await Promise.all([home.done, late.done])
    expect([code, lateCode]).toEqual([0, 0])
    expect(stdout).toMatch(/world 2 restarts 1 sum/)
  })

  it('take a node back that was silent: its launcher stops its ranks, and comes again', async () => {
    const [port, here] = [await freePort(), fresh()]
    const flags = ['--nnodes', '1:2', '--nproc', '1', '--max-restarts', '2', '--monitor-interval', '0.2']
    const slowly = ['train.ts', here, '', '250'] as const
    const home = node(port, [...flags, '--node-rank', '0'], ...slowly)
    await eventually(() => isListening(port))
    const away = node(port, flags, ...slowly)
    await pids(away, 1)
    away.child.kill('SIGSTOP')
    await pids(home, 2) // alone
    away.child.kill('SIGCONT')
    const results = await Promise.all([home.done, away.done])
    expect(results.map(({ code, stderr }) => code ?? stderr)).toEqual([0, 0])
    expect(results[0]!.stderr).toMatch(
      /node \S+ \(127\.0\.0\.1\) was lost: the connection with its launcher is silent/,
    )
    expect(results[1]!.stderr).toMatch(/ this node's ranks were stopped, and start again if it comes back /)
    expect(results[0]!.stdout).toMatch(/world 2 restarts 1 sum/)
  })

  it('end when one is asked to, with the signal', async () => {
    const port = await freePort()
    const flags = ['--nnodes', '2', '--nproc', '1']
    const nodes = [0, 1].map((rank) => node(port, [...flags, '--node-rank', `${rank}`], 'busy.mjs'))
    await Promise.all(nodes.map((launched) => pids(launched, 2)))
    nodes[1]!.child.kill('SIGTERM')
    for (const { code, stderr } of await Promise.all(nodes.map(({ done }) => done))) {
      expect(lastLine(stderr)).toBe(`ddp-launch: SIGTERM at ${hostname()}, all ranks were stopped`)
      expect(code).toBe(143)
    }
  })
})

describe('nodes that do not come together say why, exit 2', () => {
  const two = ['--nnodes', '2', '--rdzv-timeout', '0.5']

  it('nobody at the endpoint', async () => {
    const port = await freePort()
    const { code, stderr } = await node(port, [...two, '--node-rank', '1'], 'environment.mjs').done
    expect(stderr).toMatch(
      new RegExp(
        `^ddp-launch: no launcher answers at --rdzv-endpoint 127\\.0\\.0\\.1:${port} since 0\\.5 s \\(connect ECONNREFUSED[^\\n]*: start ddp-launch on the node[^\\n]*\\n$`,
      ),
    )
    expect(code).toBe(2)
  })

  it('too few', async () => {
    const { code, stderr } = await node(await freePort(), two, 'environment.mjs').done
    expect(stderr).toMatch(
      /^ddp-launch: 1 of at least 2 nodes came within 0\.5 s \(--rdzv-timeout\): only [^\n]*\n$/,
    )
    expect(code).toBe(2)
  })

  it('the endpoint is taken', async () => {
    const server = createServer().listen(0, '127.0.0.1')
    await once(server, 'listening')
    const { port } = server.address() as AddressInfo
    const { code, stderr } = await node(port, [...two, '--node-rank', '0'], 'environment.mjs').done
    expect(stderr).toMatch(
      new RegExp(
        `^ddp-launch: cannot listen at --rdzv-endpoint 127\\.0\\.0\\.1:${port}: the port is taken: end what`,
      ),
    )
    expect(code).toBe(2)
    server.close()
  })

  it('the endpoint is no address of node 0', async () => {
    const flags = [
      '--nnodes',
      '2',
      '--node-rank',
      '0',
      '--rdzv-endpoint',
      '192.0.2.1:29500',
      '--token-file',
      token,
    ]
    const { code, stderr } = await launch([...flags, fixture('environment.mjs')])
    expect(stderr).toMatch(
      /192\.0\.2\.1 is no address of this machine: node rank 0 belongs on the node that has it\n$/,
    )
    expect(code).toBe(2)
  })

  it('another token', async () => {
    const port = await freePort()
    const home = node(port, ['--nnodes', '2', '--rdzv-timeout', '5'], 'environment.mjs')
    await eventually(() => isListening(port))
    const flags = ['--nnodes', '2', '--rdzv-endpoint', `127.0.0.1:${port}`, '--node-rank', '1']
    const { code, stderr } = await launch([...flags, fixture('environment.mjs')], {
      LOCKSTEP_TOKEN: 'x'.repeat(16),
    })
    expect(stderr).toMatch(
      /^ddp-launch: --rdzv-endpoint 127\.0\.0\.1:\d+: [^\n]* all nodes have the same token[^\n]*\n$/,
    )
    expect(code).toBe(2)
    expect(home.output.stderr).toMatch(/was refused: the other end did not prove the job token/)
  })

  it('no token', async () => {
    const { code, stderr } = await launch([
      '--nnodes',
      '2',
      '--rdzv-endpoint',
      'node0:1',
      fixture('environment.mjs'),
    ])
    expect(stderr).toMatch(/^ddp-launch: --nnodes 2 needs a secret[^\n]*\n$/)
    expect(code).toBe(2)
  })

  it('two with one number', async () => {
    const port = await freePort()
    const three = ['--nnodes', '3', '--node-rank']
    node(port, [...three, '0'], 'environment.mjs')
    const twins = [1, 2].map(() => node(port, [...three, '1'], 'environment.mjs'))
    const { code, stderr } = await Promise.race(twins.map(({ done }) => done))
    expect(stderr).toMatch(/^ddp-launch: --node-rank 1 is claimed by two nodes, [^\n]*: give each its own\n$/)
    expect(code).toBe(2)
  })
})

/** Whether the kernel lists a listener at `port` of 127.0.0.1. */
function isListening(port: number): boolean {
  const hexadecimal = port.toString(16).toUpperCase().padStart(4, '0')
  return readFileSync('/proc/net/tcp', 'utf8').includes(`0100007F:${hexadecimal} 00000000:0000 0A`)
}
