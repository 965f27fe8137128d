/**
 * Ties a coordinator to the launchers of other nodes, over channels. It refuses to decide anything.
 */
import type { Channel } from '../../src/runtime/environment/channel.js'
import type { Coordinator, Member } from './coordinator.js'
import type { Hello, Report } from './messages.js'

/** Serves launchers that have proved the token. */
export class RemoteMembers {
  readonly #coordinator: Coordinator
  readonly #channels = new Set<Channel>()

  constructor(coordinator: Coordinator) {
    this.#coordinator = coordinator
  }

  welcome(channel: Channel): void {
    this.#channels.add(channel)
    let member: Member | undefined
    channel.onMessage = (message) => {
      const report = message as Report
      if (report.op !== 'join') {
        if (member) this.#coordinator.report(member, report)
      } else if (!member) {
        member = this.#member(channel, report.hello)
        this.#coordinator.add(member)
      }
    }
    channel.onLost = (reason) => {
      this.#channels.delete(channel)
      if (member) this.#coordinator.lost(member, reason)
    }
  }

  /** Resolves when all have been told all. */
  async close(): Promise<void> {
    await Promise.all([...this.#channels].map((channel) => channel.close()))
  }

  #member(channel: Channel, hello: Hello): Member {
    return {
      hello,
      isHome: false,
      send: (order) => {
        channel.send(order)
        if (order.op === 'end') void channel.close()
      },
    }
  }
}
