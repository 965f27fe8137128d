/**
 * One rank on an emulated host, for multi-host.suite.ts: told over IPC what to do, it answers with what came of it.
 */
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import { bytesOf } from '../../src/collectives/call.js'
import type { Communicator } from '../../src/collectives/communicator.js'
import { connectRanks } from '../../src/collectives/connect.js'
import { Arena } from '../../src/collectives/kernels/arena.js'

export type Order =
  | { readonly do: 'sum'; readonly floats: number; readonly times: number }
  | { readonly do: 'time'; readonly bytes: number; readonly rounds: number }
  | {
      readonly do: 'overlap'
      readonly bytes: number
      readonly computeMs: number
      readonly rounds: number
    }
  /** Both of two ranks send so many bytes to the other at once, through plain sockets: what the line can do. */
  | { readonly do: 'stream'; readonly bytes: number; readonly rounds: number }
  | { readonly do: 'loop'; readonly floats: number }
  | { readonly do: 'close' }

export interface Answer {
  /** sum: of the result; and the payload bytes that this rank handed to its links for it. */
  readonly sha256?: string
  readonly bytesSent?: number
  readonly wrong?: number
  /** time, overlap: milliseconds, one a round. */
  readonly times?: readonly number[]
  readonly communicator?: string
  readonly error?: { readonly name: string; readonly message: string; readonly rank?: number }
  readonly at?: number
}

export interface Place {
  readonly rank: number
  readonly size: number
  readonly node: number
  readonly host: string
  readonly timeoutMs: number
}

const place: Place = JSON.parse(process.argv[2]!)
const { rank, size } = place
const values = new Map<string, string>()
let wake = () => {}
let world: Communicator

process.on('message', (message: Order | { set: string; value: string }) => {
  if ('set' in message) {
    values.set(message.set, message.value)
    wake()
  } else void obey(message)
})
world = await connectRanks({
  ...place,
  token: 'c0ffee',
  exchange: { set: (key, value) => void process.send!({ set: key, value }), get: whenSet },
})
process.send!({ communicator: world.constructor.name } satisfies Answer)

async function obey(order: Order): Promise<void> {
  try {
    process.send!(await carryOut(order))
  } catch (error) {
    const { name, message, rank: failed } = error as Error & { rank?: number }
    const at = Date.now()
    process.send!({
      error: { name, message, ...(failed !== undefined && { rank: failed }) },
      at,
    } satisfies Answer)
  }
}

async function carryOut(order: Order): Promise<Answer> {
  if (order.do === 'sum') return sum(order.floats, order.times)
  if (order.do === 'time') return { times: await rounds(order.rounds, await array(order.bytes / 4)) }
  if (order.do === 'overlap')
    return { times: await rounds(order.rounds, await array(order.bytes / 4), order.computeMs) }
  if (order.do === 'stream') return { times: await streams(order.bytes, order.rounds) }
  if (order.do === 'loop') {
    const data = new Float32Array(order.floats)
    for (;;) await world.allReduce(data)
  }
  await world.close()
  process.disconnect()
  return {}
}

/** As gradients are: on pages of their own, which the ranks of a host share. */
async function array(floats: number): Promise<Float32Array> {
  const data = new Arena(Arena.bytesForPages(floats)).allocPages(floats)
  await world.share?.(data)
  return data
}

async function sum(floats: number, times: number): Promise<Answer> {
  const data = await array(floats)
  const before = world.bytesSent
  for (let round = 0; round < times; round++) {
    for (let i = 0; i < floats; i++) data[i] = (i % 1000) + rank
    await world.allReduce(data)
  }
  const expected = (i: number) => size * (i % 1000) + (size * (size - 1)) / 2
  return {
    sha256: createHash('sha256').update(bytesOf(data)).digest('hex'),
    bytesSent: world.bytesSent - before,
    wrong: data.findIndex((value, i) => value !== expected(i)),
  }
}

/** Each round is an all-reduce, during which this thread computes for `computeMs`. */
async function rounds(count: number, data: Float32Array, computeMs = 0): Promise<number[]> {
  const times: number[] = []
  for (let round = -3; round < count; round++) {
    data.fill(1)
    await world.barrier()
    const start = performance.now()
    const reduced = world.allReduce(data)
    while (performance.now() - start < computeMs);
    await reduced
    if (round >= 0) times.push(performance.now() - start)
  }
  return times
}

async function streams(bytes: number, count: number): Promise<number[]> {
  const server = createServer().listen(0, place.host)
  const accepted = once(server, 'connection')
  await once(server, 'listening')
  process.send!({ set: `port/${rank}`, value: `${(server.address() as AddressInfo).port}` })
  const host = JSON.parse(await whenSet(`addr/${1 - rank}`)).host
  const outgoing = connect({ host, port: Number(await whenSet(`port/${1 - rank}`)) })
  const [incoming] = (await accepted) as [Socket]
  let left = 0
  let arrived = () => {}
  incoming.on('data', (chunk) => {
    left -= chunk.length
    if (left === 0) arrived()
  })
  const payload = new Uint8Array(bytes)
  const times: number[] = []
  for (let round = -3; round < count; round++) {
    left += bytes
    const all = new Promise<void>((resolve) => {
      arrived = resolve
    })
    await world.barrier()
    const start = performance.now()
    outgoing.write(payload)
    await all
    if (round >= 0) times.push(performance.now() - start)
  }
  await world.barrier()
  for (const end of [outgoing, incoming]) end.destroy()
  server.close()
  return times
}

async function whenSet(key: string): Promise<string> {
  while (!values.has(key)) {
    await new Promise<void>((resolve) => {
      const before = wake
      wake = () => {
        before()
        resolve()
      }
    })
  }
  return values.get(key)!
}
