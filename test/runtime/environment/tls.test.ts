import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, describe, expect, it, onTestFinished } from 'vitest'
import { LockstepError } from '../../../src/errors.js'
import { dialChannel, listenForChannels } from '../../../src/runtime/environment/channel.js'
import { StoreClient } from '../../../src/runtime/environment/store-client.js'
import { startStore } from '../../../src/runtime/environment/store-server.js'
import {
  loadTls,
  readTls,
  type Tls,
  type TlsOptions,
  tlsSetting,
  tlsVariables,
} from '../../../src/runtime/environment/tls.js'

const directory = mkdtempSync(join(tmpdir(), 'lockstep-test-'))
afterAll(() => rmSync(directory, { recursive: true }))

const file = (name: string) => fileURLToPath(new URL(`../../launcher/fixtures/tls/${name}`, import.meta.url))
const files = (node: string, ca = 'ca') => ({
  'tls-ca': file(`${ca}.pem`),
  'tls-cert': file(`${node}.pem`),
  'tls-key': file(`${node}.key`),
})
/** Without looking at what is in them. */
const certificates = (...of: Parameters<typeof files>): Tls => {
  const [ca, cert, key] = Object.values(files(...of)).map((path) => readFileSync(path, 'utf8'))
  return { ca: ca!, cert: cert!, key: key! }
}

describe('what is said about TLS', () => {
  it('is nothing, the token or three files, and off has the last word', () => {
    expect(tlsSetting({})).toBe(undefined)
    expect(tlsSetting({ tls: 'auto' })).toBe('token')
    const { 'tls-ca': ca, 'tls-cert': cert, 'tls-key': key } = files('node1')
    expect(tlsSetting(files('node1'))).toEqual({ ca, cert, key })
    expect(tlsSetting({ tls: 'off', ...files('node1') })).toBe(undefined)
  })

  it('reaches ranks as it is, whatever was set before', () => {
    const before = { LOCKSTEP_TLS_CA: 'x', LOCKSTEP_TLS_CERT: 'y' }
    for (const setting of [undefined, tlsSetting(files('node1'))])
      expect(readTls({ ...before, ...tlsVariables(setting) })).toEqual(setting)
    expect(readTls(tlsVariables('token'))).toBe('token')
    expect(() => readTls({ LOCKSTEP_TLS: 'on' })).toThrow(/LOCKSTEP_TLS is "on": expected one of auto, off/)
  })

  const text = join(directory, 'text.pem')
  writeFileSync(text, 'no certificate\n')
  it.each<[string, TlsOptions, RegExp]>([
    ['both ways', { tls: 'auto', ...files('node1') }, /--tls auto cannot be used with --tls-ca/],
    ['a part', { 'tls-ca': 'ca.pem' }, /needs --tls-cert and --tls-key too/],
    ['no file', { ...files('node1'), 'tls-key': 'x' }, /--tls-key \/\S+\/x cannot be read: ENOENT/],
    [
      'no certificate',
      { ...files('node1'), 'tls-cert': text },
      /--tls-cert \S+ is not what .* no certificate/,
    ],
    [
      'no key',
      { ...files('node1'), 'tls-key': text },
      /--tls-key \S+ is not what it should be: expected PEM/,
    ],
    ['another key', { ...files('node1'), 'tls-key': file('node2.key') }, /--tls-key \S+ is not the key of/],
    ['an old one', files('expired'), /--tls-cert \S+expired\.pem has expired on Jan .* 2021 GMT: renew it/],
    ['another authority', files('other'), /--tls-cert \S+ is not signed by the authority in --tls-ca \S+/],
  ])('%s is refused in one line', (_, options, message) => {
    expect(() => loadTls(tlsSetting(options))).toThrow(LockstepError)
    expect(() => loadTls(tlsSetting(options))).toThrow(message)
    expect(() => loadTls(tlsSetting(options))).toThrow(/^[^\n]+$/)
  })
})

/** A dialler at 127.0.0.1 and a listener at 127.0.0.2: the first message, or why there is none, at either end. */
async function talk(near: Tls | undefined, far: Tls | undefined, tokens = ['one', 'one']) {
  const where = { host: '127.0.0.2', beatMs: 1000 }
  let received!: (text: string) => void
  const heard = new Promise<string>((resolve) => {
    received = resolve
  })
  const listener = await listenForChannels({
    ...{ ...where, port: 0, token: tokens[1]!, tls: far },
    onChannel: (channel) => {
      channel.onMessage = (message) => received(JSON.stringify(message))
      onTestFinished(() => channel.close())
    },
    onRefused: ({ message }) => received(message),
  })
  onTestFinished(() => listener.close())
  const dialled = dialChannel({
    ...where,
    port: listener.port,
    token: tokens[0]!,
    tls: near,
    timeoutMs: 5000,
  })
  const said = await dialled.then(
    (channel) => {
      channel.send({ hello: 1 })
      onTestFinished(() => channel.close())
      return 'connected'
    },
    (error: Error) => error.message,
  )
  return { said, heard: await Promise.race([heard, new Promise((r) => setTimeout(r, 200, ''))]) }
}

describe('a channel', () => {
  it.each<[string, Tls, Tls]>([
    ['the token', 'token', 'token'],
    ['certificates', certificates('node1'), certificates('node2')],
  ])('is encrypted with %s', async (_, near, far) => {
    expect(await talk(near, far)).toEqual({ said: 'connected', heard: '{"hello":1}' })
  })

  it.each<[string, Tls | undefined, Tls | undefined, RegExp, RegExp]>([
    [
      'TLS with plain',
      'token',
      undefined,
      /does not speak TLS: give all nodes the same --tls/,
      /127\.0\.0\.1.* speaks TLS/,
    ],
    [
      'plain with TLS',
      undefined,
      'token',
      /127\.0\.0\.2.*closed it.*the same --tls/,
      /127\.0\.0\.1.*does not speak TLS/,
    ],
    [
      'both ways',
      'token',
      certificates('node2'),
      /or all --tls auto|one end has certificates/,
      /has hung up while TLS|one end has certificates/,
    ],
    [
      'another authority',
      certificates('node1'),
      certificates('other', 'other-ca'),
      /the other end's certificate is not of this end's authority: give all nodes certificates of the same --tls-ca/,
      /was refused: the other end has hung up while TLS was agreed on, and says why/,
    ],
    ['an expired listener', certificates('node1'), certificates('expired'), /certificate has expired/, /./],
    [
      'an expired dialler',
      certificates('expired'),
      certificates('node2'),
      /closed it/,
      /127\.0\.0\.1 was refused: the other end's certificate has expired/,
    ],
    [
      'another host',
      certificates('node1'),
      certificates('node1'),
      /its certificate is for IP Address:127\.0\.0\.1, not for 127\.0\.0\.2: make one/,
      /^/,
    ],
  ])('%s: says why at both ends, in one line', async (_, near, far, said, heard) => {
    const outcome = await talk(near, far)
    expect(outcome).toEqual({ said: expect.stringMatching(said), heard: expect.stringMatching(heard) })
    expect(`${outcome.said}${outcome.heard}`).not.toContain('\n')
  })

  it('is not had with another token', async () => {
    const { said, heard } = await talk('token', 'token', ['one', 'two'])
    expect(said).toBe('the other end has another job token')
    expect(heard).toMatch(
      /^the connection with 127\.0\.0\.1 was refused: the other end has another job token$/,
    )
  })
})

describe('a store', () => {
  it('is encrypted, and says why not', async () => {
    const store = await startStore({ host: '127.0.0.2', token: 'one', tls: 'token' })
    onTestFinished(() => store.close())
    const address = { host: '127.0.0.2', port: store.port, token: 'one', timeoutMs: 5000 }
    const client = await StoreClient.connect({ ...address, tls: 'token' })
    await client.set('key', 'value')
    expect(await client.get('key')).toBe('value')
    client.close()
    await expect(StoreClient.connect(address)).rejects.toThrow(
      /127\.0\.0\.2:\d+ was refused: .*the same --tls/,
    )
    await expect(StoreClient.connect({ ...address, tls: certificates('node1') })).rejects.toThrow(
      /cannot reach the launcher's store at 127\.0\.0\.2:\d+ .*: one end has certificates and the other has not/,
    )
  })
})
