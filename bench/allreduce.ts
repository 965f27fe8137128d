/**
 * How long does an all-reduce (float32, sum) take, by transport, world size and bytes, beside Gloo and Open MPI?
 *
 *   npm run -s bench:allreduce -- --nproc 2 --transport shm|tcp|ws|unix --sizes 4KiB,4MiB,64MiB --json
 *     [--tls] [--from arena|private] [--bind] [--rounds N] [--peers DIR] [--save NAME]
 *
 * Bandwidths are nccl-tests': algbw = bytes / time, busbw = algbw × 2 (N - 1) / N, in 10^9 bytes a second. The median is
 * rank 0's; buffers are refilled and all ranks meet before every timed call; results are checked against float64. Arrays
 * are shared where the transport can (--from arena), or are plain ones that are copied in and out (--from private). --bind
 * gives each rank a core, as Open MPI does by itself for two ranks (with taskset, where others use the machine as well).
 * --peers runs DIR/gloo_allreduce.py on each Python of PYTHONS (default: python3) and DIR/mpi_allreduce.c; one that is
 * not installed is left out, visibly. --tls encrypts what goes over tcp or ws, as between hosts by ddp-launch --tls auto.
 */
import { type ChildProcess, fork } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { startStore } from '../src/runtime/environment/store-server.js'
import type { Measured, RankOrder } from './allreduce-rank.js'
import { type PeerRow, peerRows } from './peers.js'
import { circumstances, rounded, saveResult } from './record.js'

interface Row {
  readonly op: 'all_reduce'
  readonly transport: string
  readonly worldSize: number
  readonly bytes: number
  readonly medianMs: number
  readonly algbwGBs: number
  readonly busbwGBs: number
}

const { values } = parseArgs({
  options: {
    nproc: { type: 'string', default: '2' },
    transport: { type: 'string', default: 'shm' },
    sizes: { type: 'string', default: '4KiB,256KiB,4MiB,64MiB' },
    from: { type: 'string', default: 'arena' },
    bind: { type: 'boolean', default: false },
    tls: { type: 'boolean', default: false },
    rounds: { type: 'string' },
    json: { type: 'boolean', default: false },
    peers: { type: 'string' },
    save: { type: 'string' },
  },
})
const worldSize = Number(values.nproc)
require(Number.isInteger(worldSize) && worldSize > 0, '--nproc', values.nproc, 'a number of processes')
require(['shm', 'tcp', 'ws', 'unix'].includes(
  values.transport,
), '--transport', values.transport, 'shm, tcp, ws or unix')
require(!values.tls || values.transport !== 'shm', '--tls with --transport', 'shm', 'tcp or ws')
require(['arena', 'private'].includes(values.from), '--from', values.from, 'arena or private')
const sizes = values.sizes.split(',').map(parseBytes)

const rows: Row[] = (await ours()).map(({ bytes, medianMs }) =>
  rowOf(values.tls ? `${values.transport}, TLS` : values.transport, bytes, medianMs),
)
if (values.peers !== undefined) {
  rows.push(
    ...peerRows(values.peers, worldSize).map(({ peer, bytes, ms }: PeerRow) => rowOf(peer, bytes, ms)),
  )
}
if (values.json) console.log(JSON.stringify(rows))
else console.table(rows)
if (values.save !== undefined) {
  const command = `npm run -s bench:allreduce -- ${process.argv.slice(2).join(' ')}`
  saveResult(values.save, { ...circumstances(command), from: values.from, rows })
}

/** Starts the ranks and returns rank 0's medians. */
async function ours(): Promise<Measured[]> {
  const token = 'bench'
  const store = await startStore({ host: '127.0.0.1', token })
  const script = fileURLToPath(new URL('./allreduce-rank.ts', import.meta.url))
  const ranks = Array.from({ length: worldSize }, (_, rank) => {
    const order: RankOrder = {
      rank,
      worldSize,
      port: store.port,
      token,
      transport: values.transport as RankOrder['transport'],
      ...(values.tls && { tls: 'token' }),
      share: values.from === 'arena',
      bind: values.bind,
      sizes,
      ...(values.rounds !== undefined && { rounds: Number(values.rounds) }),
    }
    return fork(script, [JSON.stringify(order)], { execArgv: ['--import', 'tsx'] })
  })
  try {
    const [first] = await Promise.all(ranks.map(outcome))
    return first!
  } finally {
    for (const rank of ranks) rank.kill('SIGKILL')
    await store.close()
  }
}

function outcome(rank: ChildProcess, index: number): Promise<Measured[]> {
  return new Promise((resolve, reject) => {
    let measured: Measured[] = []
    rank.on('message', (message: Measured[]) => {
      measured = message
    })
    rank.once('exit', (code, signal) => {
      if (code === 0) resolve(measured)
      else reject(new Error(`rank ${index} of the benchmark ended with ${signal ?? code}`))
    })
  })
}

function rowOf(transport: string, bytes: number, medianMs: number): Row {
  const algbw = bytes / (medianMs * 1e6)
  return {
    op: 'all_reduce',
    transport,
    worldSize,
    bytes,
    medianMs: rounded(medianMs, 5),
    algbwGBs: rounded(algbw, 3),
    busbwGBs: rounded((algbw * 2 * (worldSize - 1)) / worldSize, 3),
  }
}

function parseBytes(text: string): number {
  const [, number, unit] = /^(\d+)(B|KiB|MiB|GiB)$/.exec(text) ?? []
  const bytes = Number(number) * 1024 ** ['B', 'KiB', 'MiB', 'GiB'].indexOf(unit ?? '')
  require(bytes > 0 && bytes % 4 === 0, '--sizes', text, 'sizes such as 4KiB or 64MiB, in whole floats')
  return bytes
}

function require(right: boolean, option: string, given: string, expected: string): void {
  if (right) return
  console.error(`${option} is ${given}: expected ${expected}`)
  process.exit(2)
}
