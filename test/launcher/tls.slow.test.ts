/**
 * Jobs of two nodes, at 127.0.0.1 and 127.0.0.2, that encrypt what they say to each other. What is refused, and in which words,
 * is in test/runtime/environment/tls.test.ts; that nothing can be read on the way in test/collectives/tls.test.ts.
 */
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { type AddressInfo, connect, createServer } from 'node:net'
import { networkInterfaces, tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, describe, expect, it } from 'vitest'
import { fixture, type Launched, start } from './launch.js'

const directory = mkdtempSync(join(tmpdir(), 'lockstep-test-'))
const token = join(directory, 'token')
writeFileSync(token, `${'ab'.repeat(16)}\n`)
afterAll(() => rmSync(directory, { recursive: true }))

const running: Launched[] = []
afterEach(() => {
  for (const { child } of running.splice(0)) child.kill('SIGKILL')
})

const TRAINING = ['examples/mnist/train.ts', '--model', 'mlp', '--steps', '4', '--batch', '8', '--json']
const certificates = (name: string, ca = 'ca') => [
  ...['--tls-ca', fixture(`tls/${ca}.pem`)],
  ...['--tls-cert', fixture(`tls/${name}.pem`), '--tls-key', fixture(`tls/${name}.key`)],
]

/** Node `rank`, which dials `port` of 127.0.0.1, or opens it. */
function node(rank: number, port: number, flags: readonly string[], script: readonly string[]) {
  const where = ['--nnodes', '2', '--node-rank', `${rank}`, '--rdzv-endpoint', `127.0.0.1:${port}`]
  const own = ['--token-file', token, '--local-addr', `127.0.0.${rank + 1}`, '--rdzv-timeout', '20']
  const launched = start([...where, ...own, ...flags, ...script])
  running.push(launched)
  return launched.done
}

async function train(flags: readonly (readonly string[])[]) {
  const port = await freePort()
  const file = join(directory, `${port}.json`)
  const both = await Promise.all(flags.map((own, rank) => node(rank, port, own, [...TRAINING, file])))
  expect(both.map(({ code, stderr }) => (code === 0 ? '' : stderr))).toEqual(['', ''])
  const { losses, paramsSha256 } = JSON.parse(readFileSync(file, 'utf8'))
  return { losses, paramsSha256 }
}

describe('two nodes', () => {
  it('train as they do without TLS', { timeout: 180_000 }, async () => {
    const plain = await train([[], []])
    expect(await train([0, 1].map(() => ['--tls', 'auto']))).toEqual(plain)
    const webSockets = ['node1', 'node2'].map((name) => [...certificates(name), '--transport', 'ws'])
    expect(await train(webSockets)).toEqual(plain)
  })

  it.each<[string, readonly string[], readonly string[], RegExp]>([
    ['one without TLS', ['--tls', 'auto'], [], /closed it during the handshake: .* and the same --tls/],
    [
      'one with TLS',
      [],
      ['--tls', 'auto'],
      /the other end does not speak TLS: give all nodes the same --tls/,
    ],
    [
      'an endpoint whose certificate is for another host',
      certificates('node2'),
      certificates('node2'),
      /its certificate is for IP Address:127\.0\.0\.2, not for 127\.0\.0\.1: make one that is/,
    ],
    [
      'certificates of two authorities',
      certificates('node1'),
      certificates('other', 'other-ca'),
      /the other end's certificate is not of this end's authority/,
    ],
    [
      'one with an old certificate',
      certificates('node1'),
      certificates('expired'),
      /expired\.pem has expired/,
    ],
  ])('with %s: one line, exit 2', async (_, first, second, message) => {
    const port = await freePort()
    void node(0, port, first, [fixture('environment.mjs')])
    const { code, stderr } = await node(1, port, second, [fixture('environment.mjs')])
    expect(stderr).toMatch(/^ddp-launch: [^\n]*\n$/)
    expect(stderr).toMatch(message)
    expect(code).toBe(2)
  })

  it('let nobody read what launchers say', async () => {
    const port = await freePort()
    const seen: Buffer[] = []
    const proxy = createServer((near) => {
      const far = connect(port, '127.0.0.1')
      near.on('data', (chunk) => seen.push(chunk)).pipe(far)
      far.on('data', (chunk) => seen.push(chunk)).pipe(near)
      for (const socket of [near, far]) socket.on('error', () => near.destroy())
    }).listen(0, '127.0.0.1')
    await once(proxy, 'listening')
    const home = node(0, port, ['--tls', 'auto'], [fixture('environment.mjs')])
    const away = (proxy.address() as AddressInfo).port
    const results = await Promise.all([home, node(1, away, ['--tls', 'auto'], [fixture('environment.mjs')])])
    proxy.close()
    expect(results.map(({ code }) => code)).toEqual([0, 0])
    const said = Buffer.concat(seen)
    expect(said.length).toBeGreaterThan(500)
    for (const word of ['LOCKSTEP', 'hello', 'assignment', '127.0.0.2'])
      expect(said.includes(word)).toBe(false)
  })

  const outside = Object.values(networkInterfaces())
    .flat()
    .find((address) => address?.family === 'IPv4' && !address.internal)?.address
  it.skipIf(outside === undefined)('say once that what leaves the host is not encrypted', async () => {
    const where = [
      '--rdzv-endpoint',
      `${outside}:${await freePort()}`,
      '--nnodes',
      '2',
      '--token-file',
      token,
    ]
    const nodes = [0, 1].map((rank) =>
      start([...where, '--node-rank', `${rank}`, fixture('environment.mjs')]),
    )
    running.push(...nodes)
    const said = (await Promise.all(nodes.map(({ done }) => done))).map(({ stderr }) => stderr)
    expect(said).toEqual([
      'ddp-launch: what nodes say to each other is authenticated, not encrypted: --tls auto on all encrypts it\n',
      '',
    ])
  })
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
