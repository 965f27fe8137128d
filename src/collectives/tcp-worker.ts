/**
 * The worker thread that owns one rank's sockets and runs its collectives, so that a rank which computes keeps sending.
 * It sees the user's numbers only as the shared buffers that the main thread copies them to.
 */
import { parentPort, workerData } from 'node:worker_threads'
import { viewOf } from './call.js'
import { Engine } from './engine.js'
import { toRecord } from './failures.js'
import type { FromWorker, ToWorker, WorkerOptions } from './tcp-messages.js'
import { TcpMesh } from './transports/tcp-mesh.js'

const options: WorkerOptions = workerData
let mesh: TcpMesh
let engine: Engine | undefined
/** By number: the staging buffers that the main thread has told of. */
const buffers = new Map<number, SharedArrayBuffer>()

parentPort!.on('message', (message: ToWorker) => {
  if (message.type === 'run') void run(message)
  else if (message.type === 'forget') buffers.delete(message.staging)
  else if (message.type === 'connect') void mesh.connect(message.addresses).then(connected, broken)
  else void close()
})
TcpMesh.listen(options).then((listening) => {
  mesh = listening
  post({ type: 'listening', port: mesh.port })
}, broken)

function connected(transport: Awaited<ReturnType<TcpMesh['connect']>>): void {
  engine = new Engine(transport, options.timeoutMs)
  post({ type: 'connected' })
}

async function run(message: Extract<ToWorker, { type: 'run' }>): Promise<void> {
  const { id, call, elements, staging, buffer } = message
  if (buffer) buffers.set(staging, buffer)
  try {
    await engine!.run(call, viewOf(call.dtype, buffers.get(staging)!, elements))
    post({ type: 'done', id, bytesSent: engine!.links.bytesSent })
  } catch (error) {
    post({ type: 'failed', id, failure: toRecord(error) })
  }
}

async function close(): Promise<void> {
  await engine?.close()
  post({ type: 'closed' })
}

function broken(error: unknown): void {
  post({ type: 'broken', failure: toRecord(error) })
}

function post(message: FromWorker): void {
  parentPort!.postMessage(message)
}
