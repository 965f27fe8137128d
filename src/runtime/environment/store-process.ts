/**
 * The store as a process of its own, for ranks without a launcher: is told where to listen in the first line of stdin, says
 * on stdout that it does or why not, and ends when stdin does, which is when rank 0 is gone.
 */
import { lookup } from 'node:dns/promises'
import { once } from 'node:events'
import { LISTENING, type StoreOptions, startStore } from './store-server.js'

const [line] = (await once(process.stdin.setEncoding('utf8'), 'data')) as [string]
const { host, port, token, tls } = JSON.parse(line) as StoreOptions
const onRefused = (error: Error) => console.error(`lockstep: ${error.message}`)
try {
  await startStore({ host: (await lookup(host)).address, port: port ?? 0, token, tls, onRefused })
  process.stdout.write(`${LISTENING}\n`)
  await once(process.stdin, 'end')
} catch (error) {
  process.stdout.write(`${(error as Error).message}\n`)
}
process.exit(0)
