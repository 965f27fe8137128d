/** One rank of bench/allreduce.ts: times the calls, checks the sums, and has rank 0 send the medians to its parent. */
import { execFileSync } from 'node:child_process'
import { cpus } from 'node:os'
import type { Communicator } from '../src/collectives/communicator.js'
import { Arena } from '../src/collectives/kernels/arena.js'
import { SharedMemoryCommunicator } from '../src/collectives/shared-memory/communicator.js'
import { connectSharedMemory } from '../src/collectives/shared-memory/connect.js'
import { connectTcp } from '../src/collectives/tcp-communicator.js'
import { StoreClient } from '../src/runtime/environment/store-client.js'
import { median } from './record.js'

export interface RankOrder {
  readonly rank: number
  readonly worldSize: number
  readonly port: number
  readonly token: string
  readonly transport: 'shm' | 'tcp' | 'ws' | 'unix'
  readonly tls?: 'token'
  /** Whether the arrays lie in memory that all ranks see, if the transport has any. */
  readonly share: boolean
  /** Whether this rank keeps to one core. */
  readonly bind: boolean
  readonly sizes: readonly number[]
  readonly rounds?: number
}

export interface Measured {
  readonly bytes: number
  readonly medianMs: number
}

const order: RankOrder = JSON.parse(process.argv[2]!)
const { rank, worldSize } = order
if (order.bind) execFileSync('taskset', ['-acp', `${rank % cpus().length}`, `${process.pid}`])
const links = await connect(order)
const measured: Measured[] = []
for (const bytes of order.sizes) measured.push({ bytes, medianMs: await time(bytes) })
await links.close()
if (rank === 0) process.send!(measured)
process.disconnect()

async function connect({ port, token, transport, tls }: RankOrder): Promise<Communicator> {
  const store = await StoreClient.connect({ host: '127.0.0.1', port, token, timeoutMs: 30_000 })
  const options = { rank, size: worldSize, exchange: store }
  try {
    if (transport === 'shm') return await connectSharedMemory(options)
    return await connectTcp({ ...options, token, tls, kind: transport })
  } finally {
    store.close()
  }
}

async function time(bytes: number): Promise<number> {
  const data = await allocate(bytes / 4)
  const fresh = contribution(rank, data.length)
  // JavaScript is compiled while it runs: small messages need some thousand calls until it is.
  const [warmups, rounds] =
    bytes <= 2 ** 18 ? [10_000, order.rounds ?? 1000] : [3, order.rounds ?? (bytes <= 2 ** 22 ? 100 : 20)]
  const times: number[] = []
  for (let round = -warmups; round < rounds; round++) {
    data.set(fresh)
    await links.barrier()
    const start = performance.now()
    await links.allReduce(data)
    if (round >= 0) times.push(performance.now() - start)
  }
  check(data)
  await links.barrier()
  return median(times)
}

async function allocate(floats: number): Promise<Float32Array> {
  const data = new Arena(Arena.bytesForPages(floats)).allocPages(floats)
  if (!order.share || !(links instanceof SharedMemoryCommunicator)) return data
  const reason = await links.share(data)
  if (reason !== undefined) throw new Error(`the array cannot be shared: ${reason}`)
  return data
}

function contribution(ofRank: number, floats: number): Float32Array {
  const data = new Float32Array(floats)
  let state = 17 + ofRank
  for (let i = 0; i < floats; i++) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    data[i] = state / 2 ** 31 - 1
  }
  return data
}

function check(data: Float32Array): void {
  const expected = new Float64Array(data.length)
  for (let peer = 0; peer < worldSize; peer++) {
    contribution(peer, data.length).forEach((value, i) => {
      expected[i]! += value
    })
  }
  const wrong = data.findIndex((value, i) => !(Math.abs(value - expected[i]!) <= 1e-6 * worldSize))
  if (wrong >= 0) throw new Error(`element ${wrong} is ${data[wrong]}: expected ${expected[wrong]}`)
}
