/** The ranks of bench/hosts.ts, Lockstep's and PyTorch's: processes on emulated hosts that obey one order after the other. */
import { type ChildProcess, spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import type { Network } from '../test/multi-host/network.js'
import type { HostPlace, Measured, TrainingAnswer, TrainingOrder } from './hosts-rank.js'

/** A process that takes orders and answers each, one at a time. */
export abstract class Worker<Order, Answer> {
  readonly ready: Promise<unknown>
  private settle = (_: Answer) => {}
  private fail = (_: Error) => {}

  constructor(
    private readonly child: ChildProcess,
    private readonly send: (order: Order) => void,
  ) {
    child.once('exit', (code, signal) => this.fail(new Error(`a rank ended with ${signal ?? code}`)))
    this.ready = this.next()
  }

  kill(): void {
    this.child.kill('SIGKILL')
  }

  obey(order: Order): Promise<Answer> {
    const answer = this.next()
    this.send(order)
    return answer
  }

  protected answered(answer: Answer): void {
    this.settle(answer)
  }

  private next(): Promise<Answer> {
    return new Promise((resolve, reject) => {
      this.settle = resolve
      this.fail = reject
    })
  }
}

export class Rank extends Worker<TrainingOrder, TrainingAnswer> {
  private readonly process: ChildProcess
  private others: readonly Rank[] = []

  constructor(network: Network, rank: number) {
    const place: HostPlace = { rank, size: network.size, host: network.address(rank) }
    const script = fileURLToPath(new URL('hosts-rank.ts', import.meta.url))
    const [command, ...args] = [
      ...network.on(rank),
      process.execPath,
      '--import',
      'tsx',
      script,
      JSON.stringify(place),
    ]
    // `ip netns exec` becomes node, so the channel arrives there.
    const child = spawn(command!, args, { stdio: ['ignore', 'inherit', 'ignore', 'ipc'] })
    super(child, (order) => child.send(order))
    this.process = child
    child.on('message', (message: TrainingAnswer | { key: string }) => {
      if ('key' in message) for (const other of this.others) other.tell(message)
      else this.answered(message)
    })
  }

  tell(message: object): void {
    this.process.send(message)
  }

  publishTo(others: readonly Rank[]): void {
    this.others = others
  }
}

export class Peer extends Worker<object, Measured> {
  constructor(network: Network, rank: number, python: string, directory: string) {
    const script = fileURLToPath(new URL('hosts_torch.py', import.meta.url))
    const [command, ...args] = [...network.on(rank), python, script, directory]
    const place = { RANK: `${rank}`, WORLD_SIZE: `${network.size}` }
    const meeting = { MASTER_ADDR: network.address(0), MASTER_PORT: '29511' }
    const env = { ...place, ...meeting, GLOO_SOCKET_IFNAME: network.interface(rank), OMP_NUM_THREADS: '1' }
    const child = spawn(command!, args, {
      stdio: ['pipe', 'pipe', 'inherit'],
      env: { ...process.env, ...env },
    })
    super(child, (order) => child.stdin.write(`${JSON.stringify(order)}\n`))
    createInterface(child.stdout).on('line', (line) => this.answered(JSON.parse(line)))
  }
}
