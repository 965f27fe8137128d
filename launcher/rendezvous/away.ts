/**
 * The seat of a launcher that is not at the endpoint: a channel to it. Where the job goes on without this node (--nnodes
 * MIN:MAX), it comes back once a lost endpoint can be reached again. It refuses to decide anything else.
 */
import type { Channel } from '../../src/runtime/environment/channel.js'
import type { NodeCount } from '../options/forms.js'
import { signalExitCode } from '../root-cause.js'
import { dialEndpoint, type EndpointOptions } from './endpoint.js'
import type { Hello, Order, Report } from './messages.js'

export interface Seat {
  /** Says that this node is there; orders follow. */
  join(): void
  report(report: Report): void
  /** Resolves when all others have been told all. */
  close(): Promise<void>
}

export interface AwayOptions extends EndpointOptions {
  readonly nodes: NodeCount
  readonly meetSeconds: number
  readonly say: (text: string) => void
  readonly take: (order: Order) => void
  /** Resolves when no rank of this node runs any more. */
  readonly retreat: () => Promise<void>
  /** The coordinator, at the address given, is gone. */
  readonly abandon: (coordinator: string, reason: string) => void
}

/** @param hello by this node's address. @throws LockstepError when the endpoint cannot be reached. */
export async function sitAway(options: AwayOptions, hello: (address: string) => Hello): Promise<Seat> {
  const { endpoint, meetSeconds, nodes, say, take, retreat, abandon } = options
  const coordinator = `${endpoint.host}:${endpoint.port}`
  let channel = attend(await dialEndpoint(options, meetSeconds))
  /** While it is lost. */
  let isAdrift = false

  function attend(to: Channel): Channel {
    to.onMessage = (message) => {
      const order = message as Order
      if (order.op === 'end') to.onLost = () => {}
      take(order)
    }
    to.onLost = (reason) => void goOn(reason)
    return to
  }

  async function goOn(reason: string): Promise<void> {
    isAdrift = true
    await retreat()
    if (nodes.min === nodes.max) return abandon(coordinator, reason)
    say(
      `ddp-launch: the connection with the launcher at the endpoint (${coordinator}) ${reason}: this node's ranks were stopped, and start again if it comes back within ${meetSeconds} s (--rdzv-timeout)`,
    )
    try {
      channel = attend(await dialEndpoint(options, meetSeconds, 'if it still runs'))
    } catch {
      return abandon(coordinator, reason)
    }
    isAdrift = false
    join()
  }

  function join(): void {
    channel.send({ op: 'join', hello: hello(channel.localAddress) } satisfies Report)
  }

  return {
    join,
    report: (report) => {
      if (!isAdrift) channel.send(report)
      else if (report.op === 'leave') {
        const [text, exitCode] = [`ddp-launch: ${report.signal}`, signalExitCode(report.signal)]
        take({ op: 'end', report: text, exitCode })
      }
    },
    close: () => channel.close(),
  }
}
