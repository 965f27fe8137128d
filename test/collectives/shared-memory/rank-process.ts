/**
 * One rank as a process of its own, for processes.test.ts: told over IPC what to do, it says how that went.
 */
import { Arena } from '../../../src/collectives/kernels/arena.js'
import { connectSharedMemory } from '../../../src/collectives/shared-memory/connect.js'

export type Order =
  | { readonly set: string; readonly value: string }
  /** All-reduces of so many floats: `times` of them, or until something fails. */
  | { readonly floats: number; readonly times?: number; readonly share?: boolean }
  | 'exit'
  | 'close'

export interface Report {
  readonly ready?: boolean
  readonly error?: { readonly name: string; readonly message: string; readonly rank?: number }
  readonly at?: number
  /** The first and the last sum, and how often a timer of this process ran meanwhile. */
  readonly done?: { readonly first: number; readonly last: number; readonly ticks: number }
}

const [rank, size] = [Number(process.env.RANK), Number(process.env.WORLD_SIZE)]
const values = new Map<string, string>()
const waiting = new Map<string, (value: string) => void>()
const say = (report: Report | { set: string; value: string }) => process.send!(report)

const world = connectSharedMemory({
  rank,
  size,
  timeoutMs: 20_000,
  stageBytes: 65_536,
  windowBytes: Number(process.env.WINDOW_BYTES ?? 2 ** 32),
  exchange: {
    set: (key, value) => void say({ set: key, value }),
    get: (key) => {
      const value = values.get(key)
      return value === undefined
        ? new Promise((resolve) => waiting.set(key, resolve))
        : Promise.resolve(value)
    },
  },
})

process.on('message', (order: Order) => {
  if (order === 'exit') process.exit(0)
  else if (order === 'close') void close()
  else if ('floats' in order) void run(order)
  else {
    values.set(order.set, order.value)
    waiting.get(order.set)?.(order.value)
  }
})
await world
say({ ready: true })

async function run({
  floats,
  times = Number.POSITIVE_INFINITY,
  share = false,
}: Exclude<Order, string | { set: string }>) {
  const links = await world
  let ticks = 0
  const timer = setInterval(() => ticks++, 1)
  try {
    const data = new Arena(Arena.bytesForPages(floats)).allocPages(floats)
    if (share) {
      const reason = await links.share(data)
      if (reason !== undefined) throw new Error(reason)
    }
    for (let i = 0; i < times; i++) {
      for (let k = 0; k < floats; k++) data[k] = rank + (k % 7)
      await links.allReduce(data)
    }
    say({ done: { first: data[0]!, last: data[floats - 1]!, ticks } })
  } catch (error) {
    const { name, message, rank: failed } = error as Error & { rank?: number }
    say({ error: { name, message, ...(failed !== undefined && { rank: failed }) }, at: Date.now() })
  } finally {
    clearInterval(timer)
  }
}

async function close() {
  await (await world).close()
  process.disconnect()
}
