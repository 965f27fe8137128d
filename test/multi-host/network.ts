/**
 * Hosts on one machine: network namespaces on one bridge, their links slowed down to a given rate. As root, with Debian's
 * iproute2. Names carry the process id: several of them may exist at once, and nobody else's are touched.
 */
import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'

export const GIGABIT = '1gbit'

export class Network {
  readonly size: number
  readonly #names: (kind: string, host?: number) => string
  readonly #undo: (() => void)[] = []

  /** @throws with the command that failed; what was made until then is removed. */
  constructor(size: number, rate = GIGABIT, id = process.pid) {
    this.size = size
    this.#names = (kind, host) => `ls${id % 1_000_000}${kind}${host ?? ''}`
    try {
      this.#build(rate)
    } catch (error) {
      this.remove()
      throw error
    }
  }

  address(host: number): string {
    return `10.77.0.${host + 1}`
  }

  /** What to put in front of a command, to run it on a host. */
  on(host: number): string[] {
    return ['ip', 'netns', 'exec', this.#names('n', host)]
  }

  /** Bytes that the host has sent so far, headers of all layers included. */
  sentBytes(host: number): number {
    // The bridge's end of its cable receives them.
    return Number(readFileSync(`/sys/class/net/${this.#names('b', host)}/statistics/rx_bytes`, 'utf8'))
  }

  /** Makes all links as fast as that from now on. */
  limit(rate: string): void {
    const limits = ['root', 'tbf', 'rate', rate, 'burst', '128kb', 'limit', '1mb']
    for (let host = 0; host < this.size; host++) {
      const [space, inside, outside] = ['n', 'e', 'b'].map((kind) => this.#names(kind, host))
      tool('tc', ['qdisc', 'replace', 'dev', outside!, ...limits])
      tool('tc', ['-n', space!, 'qdisc', 'replace', 'dev', inside!, ...limits])
    }
  }

  /** The host's end of its cable. */
  interface(host: number): string {
    return this.#names('e', host)
  }

  /** Pulls the host's cable. */
  unplug(host: number): void {
    ip('link', 'set', this.#names('b', host), 'down')
  }

  plug(host: number): void {
    ip('link', 'set', this.#names('b', host), 'up')
  }

  remove(): void {
    for (const undo of this.#undo.splice(0).reverse()) {
      try {
        undo()
      } catch (error) {
        console.error(`could not remove all of the network: ${(error as Error).message}`)
      }
    }
  }

  #build(rate: string): void {
    const bridge = this.#names('br')
    this.#make(['link', 'add', bridge, 'type', 'bridge'], ['link', 'del', bridge])
    ip('link', 'set', bridge, 'up')
    for (let host = 0; host < this.size; host++) {
      const [space, inside, outside] = ['n', 'e', 'b'].map((kind) => this.#names(kind, host))
      this.#make(['netns', 'add', space!], ['netns', 'del', space!])
      this.#make(
        ['link', 'add', outside!, 'type', 'veth', 'peer', 'name', inside!],
        ['link', 'del', outside!],
      )
      ip('link', 'set', inside!, 'netns', space!)
      ip('link', 'set', outside!, 'master', bridge, 'up')
      ip('-n', space!, 'addr', 'add', `${this.address(host)}/24`, 'dev', inside!)
      ip('-n', space!, 'link', 'set', inside!, 'up')
      ip('-n', space!, 'link', 'set', 'lo', 'up')
    }
    this.limit(rate)
  }

  #make(command: string[], undo: string[]): void {
    ip(...command)
    this.#undo.push(() => ip(...undo))
  }
}

/** Why there can be no such network here; undefined if there can. */
export function whyNot(): string | undefined {
  if (process.getuid?.() !== 0) return 'only root can make network namespaces'
  try {
    new Network(1).remove()
    return undefined
  } catch (error) {
    return (error as Error).message
  }
}

function ip(...args: string[]): void {
  tool('ip', args)
}

function tool(name: string, args: string[]): void {
  try {
    execFileSync(name, args, { stdio: ['ignore', 'ignore', 'pipe'] })
  } catch (error) {
    const { code, stderr } = error as { code?: string; stderr?: Buffer }
    const reason = code === 'ENOENT' ? 'not installed (Debian: iproute2)' : `${stderr}`.trim()
    throw new Error(`${name} ${args.join(' ')}: ${reason}`)
  }
}
