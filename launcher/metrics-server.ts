/** Serves the metrics of this node's ranks at /metrics, for as long as the launcher lives. It refuses to know what they say. */
import { once } from 'node:events'
import { createServer } from 'node:http'
import { type AddressInfo, isIPv6 } from 'node:net'
import { Registry } from 'prom-client'
import { LockstepError } from '../src/errors.js'

/** @returns the page's URL. @throws LockstepError when nothing can listen there. */
export async function serveMetrics(host: string, port: number, page: () => Promise<string>): Promise<string> {
  const server = createServer(async ({ method, url = '' }, response) => {
    if (new URL(url, 'http://any').pathname !== '/metrics') response.writeHead(404).end('see /metrics\n')
    else if (method !== 'GET' && method !== 'HEAD') response.writeHead(405, { allow: 'GET, HEAD' }).end()
    else response.setHeader('content-type', Registry.PROMETHEUS_CONTENT_TYPE).end(await page())
  })
  try {
    server.listen(port, host)
    await once(server, 'listening')
  } catch (cause) {
    throw cannotServe(host, port, cause as NodeJS.ErrnoException)
  }
  const bound = (server.address() as AddressInfo).port
  return `http://${isIPv6(host) ? `[${host}]` : host}:${bound}/metrics`
}

function cannotServe(host: string, port: number, cause: NodeJS.ErrnoException): LockstepError {
  const why =
    {
      EADDRINUSE: 'the port is taken: choose another one, or 0 for any that is free',
      EADDRNOTAVAIL: `${host} is no address of this machine: choose one that ip addr shows, or 0.0.0.0 for all`,
      EACCES: 'the port needs more rights: choose one above 1023, or 0 for any that is free',
      ENOTFOUND: `the name ${host} is not known: give an address of this machine`,
    }[cause.code ?? ''] ?? cause.message
  return new LockstepError(`cannot serve --metrics-port ${port} at ${host}: ${why}`, { cause })
}
