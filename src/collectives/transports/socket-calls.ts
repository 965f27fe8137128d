/**
 * Reading and writing a connected socket by system calls of this thread's own, through koffi. Node's streams take an object, a
 * callback and a turn of the event loop for each; a ring of large blocks spends as much on those as on adding. Here nothing
 * ever waits: what cannot be done now is left to the stream, which finds errors and ends too.
 */
import type { Socket } from 'node:net'

export interface SocketCalls {
  /** Sends what the socket takes of `header` and then `payload` without waiting. @returns bytes; 0 if none. */
  write(socket: number, header: Uint8Array, payload: Uint8Array): number
  /** Reads what is there, as far as `into` holds it. @returns bytes; 0 if none. */
  read(socket: number, into: Uint8Array): number
  /**
   * Lets a connection within this host send as fast as it can: nothing is lost there, and a congestion control that paces,
   * as BBR does by timers, takes a third of the processor time. Others are left to the system's.
   */
  unpace(socket: Socket): void
}

/** Linux's numbers (netinet/tcp.h), and the congestion control that every kernel has and everybody may use. */
const IPPROTO_TCP = 6
const TCP_CONGESTION = 13
const RENO = 'reno'

let loading: Promise<SocketCalls | undefined> | undefined

/** Undefined on Windows, and without koffi. */
export function loadSocketCalls(): Promise<SocketCalls | undefined> {
  loading ??= load().catch(() => undefined)
  return loading
}

/** The descriptor of a socket whose bytes travel as they are, as long as it is open; undefined for all others. */
export function descriptorOf(socket: Socket): number | undefined {
  return 'encrypted' in socket ? undefined : ownDescriptorOf(socket)
}

function ownDescriptorOf(socket: Socket): number | undefined {
  const descriptor = (socket as { _handle?: { fd?: number } | null })._handle?.fd
  return descriptor !== undefined && descriptor >= 0 ? descriptor : undefined
}

async function load(): Promise<SocketCalls | undefined> {
  if (process.platform === 'win32') return undefined
  const koffi = (await import('koffi')).default
  const libc = koffi.load(null)
  // Node's sockets never block, and Node ignores SIGPIPE.
  const read = libc.func('intptr_t read(int file, void *into, size_t bytes)')
  const writev = libc.func('intptr_t writev(int file, const void *parts, int count)')
  const setsockopt = libc.func(
    'int setsockopt(int file, int level, int option, const char *value, unsigned int bytes)',
  )
  /** Two of `struct iovec`: address and length of each part. */
  const parts = new BigUint64Array(4)
  return {
    write(socket, header, payload) {
      parts[0] = koffi.address(header)
      parts[1] = BigInt(header.length)
      parts[2] = koffi.address(payload)
      parts[3] = BigInt(payload.length)
      return Math.max(0, Number(writev(socket, parts, payload.length === 0 ? 1 : 2)))
    },
    read: (socket, into) => Math.max(0, Number(read(socket, into, into.length))),
    unpace(socket) {
      const descriptor = ownDescriptorOf(socket)
      const within = socket.remoteAddress !== undefined && socket.remoteAddress === socket.localAddress
      if (process.platform !== 'linux' || !within || descriptor === undefined) return
      setsockopt(descriptor, IPPROTO_TCP, TCP_CONGESTION, RENO, RENO.length)
    },
  }
}
