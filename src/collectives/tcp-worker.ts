/**
 * The worker thread that owns one rank's sockets and runs its collectives, so that a rank which computes keeps sending.
 * It sees the user's numbers only as buffers that the main thread transfers to it.
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

parentPort!.on('message', (message: ToWorker) => {
  if (message.type === 'run') void run(message)
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

async function run({ id, call, elements, buffer }: Extract<ToWorker, { type: 'run' }>): Promise<void> {
  try {
    await engine!.run(call, viewOf(call.dtype, buffer, elements))
  } catch (error) {
    // The buffer stays here: a link may still hold parts of it that it could not write.
    post({ type: 'failed', id, failure: toRecord(error) })
    return
  }
  post({ type: 'done', id, buffer, bytesSent: engine!.links.bytesSent }, [buffer])
}

async function close(): Promise<void> {
  await engine?.close()
  post({ type: 'closed' })
}

function broken(error: unknown): void {
  post({ type: 'broken', failure: toRecord(error) })
}

function post(message: FromWorker, transfer: readonly ArrayBuffer[] = []): void {
  parentPort!.postMessage(message, [...transfer])
}
