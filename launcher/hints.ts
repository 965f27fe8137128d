/**
 * What a reader should know about how a rank ended, besides what it said itself: what the system knows of memory, and
 * what to look at. It refuses to guess where the system says nothing.
 */
import { readFileSync } from 'node:fs'

/** How a process ended, and what was seen on the way. */
export interface End {
  readonly signal: NodeJS.Signals | null
  /** V8 has said on stderr that its heap is full. */
  readonly heapIsFull: boolean
  /** How often the kernel has killed for want of memory while the rank ran; undefined where it does not tell. */
  readonly memoryKills: number | undefined
}

/** What V8 writes before it aborts. */
export function saysHeapIsFull(line: string): boolean {
  return /FATAL ERROR: .*(heap out of memory|heap limit)/i.test(line)
}

export function hintsFor({ signal, heapIsFull, memoryKills }: End): string[] {
  if (heapIsFull) {
    return [
      'its JavaScript heap was full: keep less in arrays and closures (tensors that are not disposed?), or raise the limit with NODE_OPTIONS=--max-old-space-size=MIB',
    ]
  }
  if (signal === 'SIGKILL' && memoryKills !== undefined && memoryKills > 0) {
    return [
      'the kernel has killed a process for want of memory meanwhile: fewer ranks, a smaller batch or model, or more memory (see dmesg)',
    ]
  }
  if (signal === 'SIGSEGV' || signal === 'SIGBUS' || signal === 'SIGILL') {
    return ['native code has crashed: see whether it does with --transport tcp and with --nproc 1 too']
  }
  return []
}

/** How often the kernel has killed a process for want of memory since it started; undefined where it does not tell. */
export function readMemoryKills(): number | undefined {
  try {
    const [, count] = /^oom_kill (\d+)$/m.exec(readFileSync('/proc/vmstat', 'utf8')) ?? []
    return count === undefined ? undefined : Number(count)
  } catch {
    return undefined
  }
}
