import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import { afterEach, describe, expect, it } from 'vitest'
import { acceptHandshake, initiateHandshake } from '../../../src/collectives/wire/handshake.js'

const cleanups: (() => void)[] = []
afterEach(() => {
  for (const cleanup of cleanups.splice(0)) cleanup()
})

/** Two ends of one loopback connection. */
async function pair(): Promise<{ near: Socket; far: Socket }> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const accepted = once(server, 'connection') as Promise<[Socket]>
  const near = connect((server.address() as AddressInfo).port, '127.0.0.1')
  const [far] = await accepted
  if (near.connecting) await once(near, 'connect')
  for (const socket of [near, far]) socket.on('error', () => {})
  cleanups.push(() => {
    near.destroy()
    far.destroy()
    server.close()
  })
  return { near, far }
}

async function read(socket: Socket, bytes: number): Promise<Buffer> {
  const chunks: Buffer[] = []
  for await (const chunk of socket.iterator({ destroyOnReturn: false })) {
    chunks.push(chunk)
    if (Buffer.concat(chunks).length >= bytes) break
  }
  return Buffer.concat(chunks)
}

const GREETING_BYTES = 42

describe('handshake', () => {
  it('lets both ends in when they hold the same token, and loses no byte that follows', async () => {
    const { near, far } = await pair()
    const initiated = initiateHandshake(near, 'secret').then(() => near.write('from near'))
    const accepted = acceptHandshake(far, 'secret').then(() => far.write('from far'))
    await Promise.all([initiated, accepted])
    expect((await read(near, 8)).toString()).toBe('from far')
    expect((await read(far, 9)).toString()).toBe('from near')
  })

  it('hands what follows to a data listener too', async () => {
    const { near, far } = await pair()
    const initiated = initiateHandshake(near, 'secret').then(() => near.write('more'))
    await acceptHandshake(far, 'secret')
    await initiated
    const [chunk] = await once(far, 'data')
    expect(chunk.toString()).toBe('more')
  })

  it('keeps bytes that arrive in one piece with the last message', async () => {
    const { near, far } = await pair()
    const relay = await pair()
    const initiated = initiateHandshake(far, 'secret')
    const accepted = acceptHandshake(relay.far, 'secret')
    const [greetingI, greetingA] = [await read(near, GREETING_BYTES), await read(relay.near, GREETING_BYTES)]
    near.write(greetingA)
    relay.near.write(greetingI)
    relay.near.write(Buffer.concat([await read(near, 32), Buffer.from('right behind')]))
    near.write(Buffer.concat([await read(relay.near, 32), Buffer.from('me too')]))
    await Promise.all([initiated, accepted])
    expect((await read(relay.far, 12)).toString()).toBe('right behind')
    expect((await read(far, 6)).toString()).toBe('me too')
  })

  it('works when the bytes come one at a time', async () => {
    const { near, far } = await pair()
    const relay = await pair()
    const drip = (from: Socket, to: Socket) =>
      from.on('data', async (chunk: Buffer) => {
        from.pause()
        for (const byte of chunk) {
          to.write(Buffer.from([byte]))
          await new Promise(setImmediate)
        }
        from.resume()
      })
    near.setNoDelay()
    relay.near.setNoDelay()
    drip(near, relay.near)
    drip(relay.near, near)
    await Promise.all([initiateHandshake(far, 'secret'), acceptHandshake(relay.far, 'secret')])
  })

  it('refuses another token on both ends, naming the address', async () => {
    const { near, far } = await pair()
    const [initiated, accepted] = await Promise.allSettled([
      initiateHandshake(near, 'wrong'),
      acceptHandshake(far, 'secret'),
    ])
    expect(accepted).toMatchObject({
      status: 'rejected',
      reason: {
        message: expect.stringMatching(/127\.0\.0\.1:\d+ was refused: .*did not prove the job token/),
      },
    })
    expect(initiated).toMatchObject({
      reason: { message: expect.stringMatching(/closed it during the handshake.*LOCKSTEP_TOKEN/) },
    })
    expect(near.destroyed && far.destroyed).toBe(true)
  })

  it('never shows a stranger a proof, nor the token', async () => {
    const { near, far } = await pair()
    let seen = 0
    near.on('data', (chunk) => {
      seen += chunk.length
    })
    near.write(Buffer.concat([Buffer.from('LOCKSTEP\0\x02', 'latin1'), Buffer.alloc(64)]))
    await expect(acceptHandshake(far, 'secret')).rejects.toThrow(/did not prove/)
    await once(near, 'close')
    expect(seen).toBe(GREETING_BYTES)
  })

  it('is not fooled by its own proof sent back', async () => {
    const { near, far } = await pair()
    near.on('data', (chunk) => near.write(chunk)) // an echo: the same nonce, the same proof
    await expect(initiateHandshake(far, 'secret')).rejects.toThrow(/did not prove the job token/)
  })

  it('refuses garbage as soon as its first bytes are there', async () => {
    const { near, far } = await pair()
    near.write('GET / HTTP/1.1\r\n\r\n')
    await expect(acceptHandshake(far, 'secret', { timeoutMs: 60_000 })).rejects.toThrow(
      /sent "GET \/ HTTP"…: expected a rank of a Lockstep job/,
    )
    expect(far.destroyed).toBe(true)
  })

  it('refuses another protocol version, naming both', async () => {
    const { near, far } = await pair()
    near.write(Buffer.from('LOCKSTEP\0\x07', 'latin1'))
    await expect(acceptHandshake(far, 'secret')).rejects.toThrow(/protocol version 7: expected 2/)
  })

  it('closes a connection that stays silent', async () => {
    const { far } = await pair()
    await expect(acceptHandshake(far, 'secret', { timeoutMs: 50 })).rejects.toThrow(/within 0\.05 s/)
    expect(far.destroyed).toBe(true)
  })

  it('says so when the other end leaves in mid-message', async () => {
    const { near, far } = await pair()
    near.end('LOCK')
    await expect(acceptHandshake(far, 'secret')).rejects.toThrow(/closed it during the handshake/)
  })
})
