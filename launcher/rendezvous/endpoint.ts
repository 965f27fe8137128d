/**
 * Where launchers meet: opens the endpoint if it is on this node, or dials it. It refuses to know what is said there.
 */
import { lookup } from 'node:dns/promises'
import { setTimeout as delay } from 'node:timers/promises'
import { LockstepError } from '../../src/errors.js'
import {
  type Channel,
  type ChannelListener,
  dialChannel,
  listenForChannels,
} from '../../src/runtime/environment/channel.js'
import type { Protection } from '../../src/runtime/environment/tls.js'
import type { HostPort } from '../options/forms.js'

const TRY_AGAIN_MS = 250
const TRY_MS = 5000

export interface EndpointOptions extends Protection {
  readonly endpoint: HostPort
  readonly beatMs: number
}

/**
 * Listens at the endpoint; undefined when it is another node's, or already another launcher's of this node.
 * @param mustBeHere node rank 0 was given to this node.
 * @throws LockstepError when it must be here and cannot.
 */
export async function openEndpoint(
  options: EndpointOptions,
  mustBeHere: boolean,
  handlers: { onChannel: (channel: Channel) => void; onRefused: (error: Error) => void },
): Promise<ChannelListener | undefined> {
  const { host, port } = options.endpoint
  try {
    return await listenForChannels({ ...options, ...handlers, host: await reachable(host), port })
  } catch (cause) {
    if (cause instanceof LockstepError) throw cause
    if (mustBeHere) throw cannotListen(options.endpoint, cause as NodeJS.ErrnoException)
    return undefined
  }
}

/** @throws LockstepError that says what to do, whatever kept a server from listening. */
export function cannotListen(
  { host, port }: HostPort,
  cause: NodeJS.ErrnoException,
  flag = '--rdzv-endpoint',
): LockstepError {
  const why =
    {
      EADDRINUSE:
        'the port is taken: end what listens there (see ss -ltnp), or choose another port on all nodes',
      EADDRNOTAVAIL: `${host} is no address of this machine: node rank 0 belongs on the node that has it`,
      EACCES: 'the port needs more rights: choose one above 1023',
      ENOTFOUND: `the name ${host} is not known: give an address, or see /etc/hosts`,
    }[cause.code ?? ''] ?? cause.message
  return new LockstepError(`cannot listen at ${flag} ${host}:${port}: ${why}`, { cause })
}

/**
 * Dials until somebody answers.
 * @param when where it did run, a machine that answers and refuses says that it has ended.
 * @throws LockstepError after `seconds`, or at once when whoever answers is of another job.
 */
export async function dialEndpoint(
  options: EndpointOptions,
  seconds: number,
  when?: 'if it still runs',
): Promise<Channel> {
  const { host, port } = options.endpoint
  const deadline = Date.now() + seconds * 1000
  for (;;) {
    try {
      return await dialChannel({ ...options, host, port, timeoutMs: Math.min(TRY_MS, seconds * 1000) })
    } catch (cause) {
      if (cause instanceof LockstepError) throw strangers(options.endpoint, cause)
      const isOver = when !== undefined && (cause as NodeJS.ErrnoException).code === 'ECONNREFUSED'
      if (isOver || Date.now() > deadline) throw unreachable(options.endpoint, seconds, cause as Error)
    }
    await delay(TRY_AGAIN_MS)
  }
}

function strangers({ host, port }: HostPort, cause: LockstepError): LockstepError {
  return new LockstepError(
    `--rdzv-endpoint ${host}:${port}: ${cause.message}; see that all nodes have the same token, --tls and lockstep, and that nothing else listens there`,
    { cause },
  )
}

function unreachable({ host, port }: HostPort, seconds: number, cause: Error): LockstepError {
  return new LockstepError(
    `no launcher answers at --rdzv-endpoint ${host}:${port} since ${seconds} s (${cause.message}): start ddp-launch on the node that has this address, and see that firewalls let port ${port} through`,
    { cause },
  )
}

export function isLoopback(address: string): boolean {
  return address === '::1' || address.startsWith('127.')
}

/** The address of `host`, if other machines could mean this one by it. */
async function reachable(host: string): Promise<string> {
  const { address } = await lookup(host)
  if (isLoopback(address) && host !== address && host !== 'localhost') {
    throw new LockstepError(
      `--rdzv-endpoint ${host} is ${address} on this node (see /etc/hosts), where no other machine reaches it: give the address itself`,
    )
  }
  return address
}
