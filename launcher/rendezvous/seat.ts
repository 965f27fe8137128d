/**
 * A launcher's seat in its job: beside the coordinator, if the endpoint is on this node or the job has no other node;
 * else at the far end of a channel. Nobody who holds a seat can tell the difference. It refuses to decide anything.
 */
import { randomUUID } from 'node:crypto'
import { lookup } from 'node:dns/promises'
import { hostname } from 'node:os'
import { startStore } from '../../src/runtime/environment/store-server.js'
import type { Protection } from '../../src/runtime/environment/tls.js'
import { DEFAULT_ADDRESS } from '../../src/runtime/environment/variables.js'
import type { HostPort, NodeCount } from '../options/forms.js'
import { attemptToken } from '../token.js'
import type { Terms } from './admission.js'
import { type Seat, sitAway } from './away.js'
import { Coordinator, type Member, type Place } from './coordinator.js'
import { cannotListen, isLoopback, openEndpoint } from './endpoint.js'
import type { Hello, Order } from './messages.js'
import { RemoteMembers } from './remote-members.js'

export interface SeatOptions extends Protection {
  readonly version: string
  readonly nodes: NodeCount
  readonly nodeRank: number | undefined
  readonly endpoint: HostPort | undefined
  readonly localAddress: string | undefined
  readonly jobName: string | undefined
  readonly runId: string
  readonly maxRestarts: number
  readonly meetSeconds: number
  readonly lastCallSeconds: number
  readonly monitorSeconds: number
  /** How many ranks this node starts. */
  readonly ranks: number
  readonly say: (text: string) => void
  readonly take: (order: Order) => void
  /** Resolves when no rank of this node runs any more. */
  readonly retreat: () => Promise<void>
  /** The coordinator, at the address given, is gone. */
  readonly abandon: (coordinator: string, reason: string) => void
}

/** @throws LockstepError when the endpoint cannot be opened or reached. */
export async function takeSeat(options: SeatOptions): Promise<Seat> {
  const { nodes, endpoint, nodeRank } = options
  if (nodes.max === 1 || endpoint === undefined) return sitAlone(options)
  const remote = { ...options, endpoint, beatMs: options.monitorSeconds * 1000 }
  const home = nodeRank === undefined || nodeRank === 0 ? await sitAtHome(remote, nodeRank === 0) : undefined
  return home ?? sitAway(remote, (address) => helloOf(options, address))
}

type Remote = SeatOptions & { readonly endpoint: HostPort; readonly beatMs: number }

async function sitAlone(options: SeatOptions): Promise<Seat> {
  const address = options.endpoint ? await addressOf(options.endpoint) : DEFAULT_ADDRESS
  const coordinator = new Coordinator(termsOf(options), (attempt) =>
    openPlace(options, address, attempt, options.endpoint?.port ?? 0),
  )
  return beside(coordinator, options, address, async () => {})
}

async function sitAtHome(options: Remote, mustBeHere: boolean): Promise<Seat | undefined> {
  let remote: RemoteMembers | undefined
  const listener = await openEndpoint(options, mustBeHere, {
    onChannel: (channel) => remote?.welcome(channel),
    onRefused: (error) => options.say(`ddp-launch: ${error.message}`),
  })
  if (!listener) return undefined
  const { endpoint, tls, say } = options
  const address = await addressOf(endpoint)
  if (tls === undefined && !isLoopback(address))
    say(
      'ddp-launch: what nodes say to each other is authenticated, not encrypted: --tls auto on all encrypts it',
    )
  // A certificate is for the name that the user gave.
  const name = typeof tls === 'object' ? endpoint.host : address
  const coordinator = new Coordinator(termsOf(options), async (attempt) => ({
    ...(await openPlace(options, address, attempt, 0)),
    host: name,
  }))
  remote = new RemoteMembers(coordinator)
  return beside(coordinator, options, name, async () => {
    listener.close()
    await remote?.close()
  })
}

function beside(
  coordinator: Coordinator,
  options: SeatOptions,
  address: string,
  close: () => Promise<void>,
): Seat {
  const member: Member = { hello: helloOf(options, address), isHome: true, send: options.take }
  return {
    join: () => coordinator.add(member),
    report: (report) => {
      if (report.op !== 'join') coordinator.report(member, report)
    },
    close,
  }
}

function termsOf(options: SeatOptions): Terms {
  const { version, jobName, runId, nodes, maxRestarts, meetSeconds, lastCallSeconds } = options
  return { version, jobName, runId, nodes, maxRestarts, meetSeconds, lastCallSeconds }
}

/** Of this launcher, among those of its job. */
const LAUNCHER_ID = randomUUID()

function helloOf(options: SeatOptions, address: string): Hello {
  const { version, jobName, nodes, maxRestarts, nodeRank, ranks, localAddress } = options
  const where = { hostName: hostname(), address: localAddress ?? address }
  return { launcher: LAUNCHER_ID, version, jobName, nodes, maxRestarts, nodeRank, ranks, ...where }
}

async function openPlace(options: SeatOptions, host: string, attempt: number, port: number): Promise<Place> {
  const { tls, runId } = options
  const token = attemptToken(options.token, runId, attempt)
  const onRefused = (error: Error) => options.say(`ddp-launch: ${error.message}`)
  try {
    const store = await startStore({ host, port, token, tls, onRefused })
    return { host, ...store }
  } catch (cause) {
    throw cannotListen({ host, port }, cause as NodeJS.ErrnoException, 'MASTER_ADDR:MASTER_PORT')
  }
}

async function addressOf(endpoint: HostPort): Promise<string> {
  try {
    return (await lookup(endpoint.host)).address
  } catch (cause) {
    throw cannotListen(endpoint, cause as NodeJS.ErrnoException)
  }
}
