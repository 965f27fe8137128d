/**
 * The worker thread that owns one rank's links and runs its collectives, so that a rank which computes keeps sending.
 * It sees the user's numbers by their address, or in the staging memory that the main thread copies them to.
 */
import { parentPort, workerData } from 'node:worker_threads'
import { bytesPerElement, viewOf } from './call.js'
import type { Channel } from './channel.js'
import { type CollectiveError, fromRecord, toRecord } from './failures.js'
import { loadForeignMemory } from './foreign-memory.js'
import { LastCall } from './last-call.js'
import { Station } from './station.js'
import type { Transport } from './transport.js'
import { listen } from './transports/listen.js'
import type { Mesh } from './transports/mesh.js'
import type { FromWorker, ToWorker, WorkerOptions } from './worker-messages.js'

const options: WorkerOptions = workerData
const foreign = options.foreign ? await loadForeignMemory() : undefined
let mesh: Mesh
let station: Station | undefined

parentPort!.on('message', (message: ToWorker) => {
  if (message.type === 'run') void run(message)
  else if (message.type === 'open') open(message.channel, message.last)
  else if (message.type === 'connect') void mesh.connect(message.addresses).then(connected, broken)
  else if (message.type === 'abort') station!.abort(fromRecord(message.failure) as CollectiveError)
  else if (message.type === 'ask') void ask(message)
  else void close()
})
listen(options.kind, options).then((listening) => {
  mesh = listening
  post({ type: 'listening', address: mesh.address })
}, broken)

function connected(transport: Transport): void {
  const failed = (error: CollectiveError) => post({ type: 'ended', failure: toRecord(error) })
  station = new Station(transport, options.timeoutMs, { failed })
  post({ type: 'connected' })
}

function open(channel: Channel, memory: SharedArrayBuffer): void {
  const last = new LastCall(memory)
  station!.open(channel).links.recorder.elsewhere = () => last.read(channel.name)
}

async function ask({ channel, graceMs }: Extract<ToWorker, { type: 'ask' }>): Promise<void> {
  post({ type: 'told', channel: channel.id, statuses: await station!.ask(channel, graceMs) })
}

async function run(order: Extract<ToWorker, { type: 'run' }>): Promise<void> {
  const { id, channel, sequence, call, elements, at } = order
  const engine = station!.engine(channel)
  const data =
    typeof at === 'number'
      ? viewOf(call.dtype, options.staging, elements, at)
      : viewOf(call.dtype, foreign!.view(at, elements * bytesPerElement(call.dtype)), elements)
  try {
    const bytes = await engine.run(call, data, sequence)
    post({ type: 'done', id, bytes })
  } catch (error) {
    post({ type: 'failed', id, failure: toRecord(error) })
  }
}

async function close(): Promise<void> {
  await station?.close()
  post({ type: 'closed' })
}

function broken(error: unknown): void {
  post({ type: 'broken', failure: toRecord(error) })
}

function post(message: FromWorker): void {
  parentPort!.postMessage(message)
}
