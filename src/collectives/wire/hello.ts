/**
 * The hello: the first thing after the handshake on a link between two ranks. Each says who it is, so that a
 * rank of another job size, or at another number than its address promised, is found before any frame is read.
 *
 *   magic "LKHI" (4 bytes) | rank (4) | world size (4), little-endian; the protocol version is the handshake's
 */
import type { Duplex } from 'node:stream'
import { LockstepError } from '../../errors.js'

const MAGIC = 0x49484b4c // "LKHI" in memory order
export const HELLO_BYTES = 12

export interface Hello {
  readonly rank: number
  readonly size: number
}

export function encodeHello({ rank, size }: Hello): Buffer {
  const bytes = Buffer.alloc(HELLO_BYTES)
  bytes.writeUInt32LE(MAGIC, 0)
  bytes.writeUInt32LE(rank, 4)
  bytes.writeUInt32LE(size, 8)
  return bytes
}

/** @throws LockstepError if it is no hello, or one of a world of another size than `size`. */
export function decodeHello(bytes: Buffer, size: number): Hello {
  if (bytes.readUInt32LE(0) !== MAGIC) throw new LockstepError('sent no hello after the handshake')
  const hello = { rank: bytes.readUInt32LE(4), size: bytes.readUInt32LE(8) }
  if (hello.size !== size || hello.rank >= size) {
    throw new LockstepError(`calls itself rank ${hello.rank} of ${hello.size} in a world of ${size}`)
  }
  return hello
}

/** The other end's hello. Bytes behind it stay in the socket. */
export function readHello(socket: Duplex, size: number, timeoutMs: number): Promise<Hello> {
  return new Promise((resolve, reject) => {
    const settle = (end: () => void) => {
      clearTimeout(timer)
      socket.off('readable', take).off('close', gone)
      end()
    }
    const take = () => {
      const bytes: Buffer | null = socket.read(HELLO_BYTES)
      if (bytes?.length !== HELLO_BYTES) return
      settle(() => {
        try {
          resolve(decodeHello(bytes, size))
        } catch (error) {
          reject(error)
        }
      })
    }
    const gone = () => settle(() => reject(new LockstepError('closed the link before its hello')))
    const late = () => settle(() => reject(new LockstepError(`sent no hello within ${timeoutMs / 1000} s`)))
    const timer = setTimeout(late, timeoutMs)
    socket.on('readable', take).on('close', gone)
    take()
  })
}
