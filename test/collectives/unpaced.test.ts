/**
 * Connections within a host do not pace what they send, whatever the system does by default.
 */
import type { Socket } from 'node:net'
import { expect, test } from 'vitest'
import type { Sending } from '../../src/collectives/transports/link.js'
import { TcpDoor } from '../../src/collectives/transports/tcp.js'
import type { Protection } from '../../src/collectives/wire/tls.js'

const koffi = await import('koffi').then((module) => module.default).catch(() => undefined)

test.skipIf(process.platform !== 'linux' || koffi === undefined).each<[string, Protection]>([
  ['plain', { token: 'secret' }],
  ['encrypted', { token: 'secret', tls: 'token' }],
])('%s connections are sent on by reno', async (_, protection) => {
  const door = new TcpDoor(protection)
  let come: (sending: Sending) => void = () => {}
  const coming = new Promise<Sending>((resolve) => {
    come = resolve
  })
  const receiving = await door.dial(await door.open('127.0.0.1', come))
  const sending = await coming
  expect(congestionControlOf(sending.stream as Socket)).toBe('reno')
  receiving.destroy()
  sending.destroy()
  door.close()
})

function congestionControlOf(socket: Socket): string {
  const { fd } = (socket as unknown as { _handle: { fd: number } })._handle
  const getsockopt = koffi!
    .load(null)
    .func('int getsockopt(int file, int level, int option, void *value, void *bytes)')
  const name = Buffer.alloc(16)
  getsockopt(fd, 6, 13, name, new Uint32Array([name.length]))
  return name.toString('latin1').replace(/\0.*/s, '')
}
