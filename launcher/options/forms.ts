/**
 * The forms that values of options have: text -> value, and what is expected in words. The same form reads a flag, an
 * environment variable and a line of a config file. It refuses to know which option it reads.
 */

export interface Form<T> {
  /** Completes "expected …". */
  readonly expected: string
  /** Undefined when `text` has another form. */
  read(text: string): T | undefined
}

export type RankCount = number | 'auto' | 'gpu' | 'cpu'

/** How many nodes a job has. */
export interface NodeCount {
  readonly min: number
  readonly max: number
}

export interface HostPort {
  readonly host: string
  readonly port: number
}

/** Which of a rank's two streams. */
export interface Streams {
  readonly stdout: boolean
  readonly stderr: boolean
}

/** Streams by local rank; `others` for those that are not named. */
export interface StreamsByRank {
  readonly named: ReadonlyMap<number, Streams>
  readonly others: Streams
}

const WHOLE = /^\d{1,6}$/

export const anything: Form<string> = {
  expected: 'some text',
  read: (text) => (text === '' ? undefined : text),
}

/** May become the name of a directory. */
export const plainName: Form<string> = {
  expected: 'a name of letters, digits, ".", "_" and "-"',
  read: (text) => (/^[\w-][\w.-]{0,99}$/.test(text) ? text : undefined),
}

export function wholeNumber(least: number, most = 999_999): Form<number> {
  const range = most === 999_999 ? `of at least ${least}` : `from ${least} to ${most}`
  return {
    expected: `a whole number ${range}`,
    read: (text) => {
      const value = Number(text)
      return WHOLE.test(text) && value >= least && value <= most ? value : undefined
    },
  }
}

export const seconds: Form<number> = {
  expected: 'a number of seconds above 0',
  read: (text) => (/^(\d+(\.\d*)?|\.\d+)$/.test(text) && Number(text) > 0 ? Number(text) : undefined),
}

export const yesOrNo: Form<boolean> = {
  expected: 'true or false',
  read: (text) => ({ true: true, '1': true, false: false, '0': false })[text],
}

export function oneOf<T extends string>(names: readonly T[]): Form<T> {
  return { expected: `one of ${names.join(', ')}`, read: (text) => names.find((name) => name === text) }
}

export const rankCount: Form<RankCount> = {
  expected: 'a whole number of at least 1, auto, gpu or cpu',
  read: (text) => (text === 'auto' || text === 'gpu' || text === 'cpu' ? text : wholeNumber(1).read(text)),
}

export const nodeCount: Form<NodeCount> = {
  expected: 'a number of nodes, or MIN:MAX with 1 <= MIN <= MAX',
  read: (text) => {
    const [, min, max = min] = /^(\d{1,6})(?::(\d{1,6}))?$/.exec(text) ?? []
    const count = { min: Number(min), max: Number(max) }
    return count.min >= 1 && count.max >= count.min ? count : undefined
  },
}

export const hostPort: Form<HostPort> = {
  expected: 'HOST:PORT, an IPv6 host in brackets',
  read: (text) => {
    const [, bracketed, plain, port] = /^(?:\[([^\]\s]+)\]|([^\s:[\]]+)):(\d{1,5})$/.exec(text) ?? []
    const host = bracketed ?? plain
    return host !== undefined && Number(port) <= 65535 ? { host, port: Number(port) } : undefined
  },
}

/** torchrun's: a number for all ranks, or `RANK:NUMBER,…` by local rank. */
export const streams: Form<StreamsByRank> = {
  expected: '0 (none), 1 (stdout), 2 (stderr), 3 (both), or LOCAL_RANK:NUMBER,… as in 0:3,1:1',
  read: (text) => {
    if (/^[0-3]$/.test(text)) return { named: new Map(), others: streamsOf(Number(text)) }
    if (!/^\d+:[0-3](,\d+:[0-3])*$/.test(text)) return undefined
    const pairs = text.split(',').map((pair) => pair.split(':').map(Number) as [number, number])
    const named = new Map(pairs.map(([rank, number]) => [rank, streamsOf(number)]))
    return named.size === pairs.length ? { named, others: streamsOf(0) } : undefined
  },
}

export const rankSet: Form<ReadonlySet<number>> = {
  expected: 'local ranks, as in 0,2',
  read: (text) => (/^\d{1,6}(,\d{1,6})*$/.test(text) ? new Set(text.split(',').map(Number)) : undefined),
}

function streamsOf(number: number): Streams {
  return { stdout: (number & 1) !== 0, stderr: (number & 2) !== 0 }
}
