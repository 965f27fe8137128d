/**
 * The few Linux calls that shared memory needs and Node lacks, through koffi. It knows no ranks and keeps no state; what
 * it cannot have is a `SharedMemoryUnavailable` with the reason.
 */
import { getSystemErrorName } from 'node:util'
import { LockstepError } from '../../errors.js'

/** Shared memory cannot be had here, for a reason that every rank is told: use the next transport. */
export class SharedMemoryUnavailable extends LockstepError {
  override name = 'SharedMemoryUnavailable'
}

export interface System {
  /** A new file of `bytes` zeroes in memory, without a name. @returns its descriptor. */
  createFile(bytes: number): number
  /** Puts the file's bytes from `offset` in the place of `view`'s pages, visible to whoever maps the same. */
  map(view: Uint8Array, descriptor: number, offset: number): void
  /** Gives `view` zeroed pages of its own again. (Never a hole: somebody may still hold a view.) */
  unmap(view: Uint8Array): void
  yield(): void
  /** Sleeps until `wake` on the same memory, for `milliseconds` at most; not at all unless `word` holds `value`. */
  sleep(word: Int32Array, value: number, milliseconds: number): void
  /** Wakes all that sleep on `word`, in any process. */
  wake(word: Int32Array): void
  /** A descriptor for `ended`. */
  watch(pid: number): number
  /** Whether the watched process has ended, even if nobody has waited for it yet. */
  ended(descriptor: number): boolean
}

const CLOEXEC = 1
const READ_WRITE = 1 | 2
const MAP_SHARED = 0x01
const MAP_PRIVATE = 0x02
const MAP_FIXED = 0x10
const MAP_ANONYMOUS = 0x20
const FUTEX_WAIT = 0 // not the _PRIVATE ones: the waiters are other processes
const FUTEX_WAKE = 1
const POLLIN = 1
const PIDFD_OPEN = 434
const FUTEX: Readonly<Record<string, number>> = { x64: 202, arm64: 98 }

/** @throws SharedMemoryUnavailable on other systems than Linux on x64 and arm64, and without koffi. */
export async function loadSystem(): Promise<System> {
  const futex = FUTEX[process.arch]
  if (process.platform !== 'linux' || futex === undefined) {
    throw new SharedMemoryUnavailable(
      `this is ${process.platform} on ${process.arch}, not Linux on x64 or arm64`,
    )
  }
  const koffi = await loadKoffi()
  const libc = koffi.load(null)
  const memfdCreate = libc.func('int memfd_create(const char *name, unsigned int flags)')
  const fallocate = libc.func('int posix_fallocate(int fd, int64_t offset, int64_t length)')
  const mmap = libc.func(
    'intptr_t mmap(void *address, size_t length, int protection, int flags, int fd, int64_t at)',
  )
  const futexCall = libc.func(
    'long syscall(long number, void *word, int operation, int value, void *timeout, void *, int)',
  )
  const schedYield = libc.func('int sched_yield()')
  const pidfdOpen = libc.func('syscall', 'long', ['long', 'long', 'long'])
  const poll = libc.func('int poll(void *descriptors, unsigned long count, int timeout)')

  const failed = (what: string, code = koffi.errno()) =>
    new Error(`${what} failed: ${getSystemErrorName(-code)}`)
  const mapped = (what: string, address: number | bigint) => {
    if (Number(address) === -1) throw failed(what)
  }
  const timeout = new BigInt64Array(2)
  const polled = new Int32Array(2)

  return {
    createFile(bytes) {
      const descriptor: number = memfdCreate('lockstep', CLOEXEC)
      if (descriptor < 0) throw failed('memfd_create')
      // Takes the memory now: where there is not enough, this is an error here and not a SIGBUS in training.
      const code: number = fallocate(descriptor, 0, bytes)
      if (code !== 0) throw failed(`reserving ${bytes} bytes of shared memory`, code)
      return descriptor
    },
    map(view, descriptor, offset) {
      mapped('mmap', mmap(view, view.length, READ_WRITE, MAP_SHARED | MAP_FIXED, descriptor, offset))
    },
    unmap(view) {
      const flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED
      mapped('mmap', mmap(view, view.length, READ_WRITE, flags, -1, 0))
    },
    yield: schedYield,
    sleep(word, value, milliseconds) {
      timeout[1] = BigInt(milliseconds * 1e6)
      futexCall(futex, word, FUTEX_WAIT, value, timeout, null, 0)
    },
    wake(word) {
      futexCall(futex, word, FUTEX_WAKE, 0x7fff_ffff, null, null, 0)
    },
    watch(pid) {
      const descriptor = Number(pidfdOpen(PIDFD_OPEN, pid, 0))
      if (descriptor < 0) throw failed(`pidfd_open of process ${pid}`)
      return descriptor
    },
    ended(descriptor) {
      polled[0] = descriptor
      polled[1] = POLLIN
      return poll(polled, 1, 0) === 1
    },
  }
}

type Koffi = typeof import('koffi')['default']

async function loadKoffi(): Promise<Koffi> {
  try {
    return (await import('koffi')).default
  } catch (cause) {
    throw new SharedMemoryUnavailable(
      `the optional package koffi does not load (${(cause as Error).message.replace(/ imported from .*/, '')}); install it: npm install koffi`,
      { cause },
    )
  }
}
