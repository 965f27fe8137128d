/**
 * One rank as a process of its own, for processes.test.ts: told over IPC what to do, it says how that went.
 */
import { connectTcp } from '../../src/collectives/tcp-communicator.js'
import type { TransportKind } from '../../src/collectives/transports/mesh.js'
import { TOKEN } from './groups.js'

type FromTest = { readonly set: string; readonly value: string } | { readonly run: 'loop' | 'once' | 'exit' }

const [rank, size] = [Number(process.env.RANK), Number(process.env.WORLD_SIZE)]
const addresses = new Map<string, string>()
let wake = () => {}
let start: (what: 'loop' | 'once' | 'exit') => void
const told = new Promise<'loop' | 'once' | 'exit'>((resolve) => {
  start = resolve
})

process.on('message', (message: FromTest) => {
  if ('run' in message) return start(message.run)
  addresses.set(message.set, message.value)
  wake()
})

const world = await connectTcp({
  kind: process.env.KIND as TransportKind,
  rank,
  size,
  token: TOKEN,
  timeoutMs: 10_000,
  exchange: {
    set: (key, value) => void process.send!({ set: key, value }),
    async get(key) {
      while (!addresses.has(key)) {
        await new Promise<void>((resolve) => {
          const before = wake
          wake = () => {
            before()
            resolve()
          }
        })
      }
      return addresses.get(key)!
    },
  },
})
await world.barrier()
process.send!({ ready: true })
const what = await told
try {
  const data = new Float32Array(Number(process.env.COUNT ?? 200_000))
  do await world.allReduce(data, 'mean')
  while (what === 'loop')
} catch (error) {
  const { name, message, rank: failed } = error as Error & { rank?: number }
  process.send!({ error: { name, message, rank: failed }, at: Date.now() })
}
// Ends without close(): an open world must not keep the process, but the channel to the test would.
process.disconnect()
