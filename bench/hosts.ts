/**
 * How well does training scale over a slow network? Hosts are network namespaces on this machine, one rank of one thread on
 * each, linked at 1 Gbit/s or 100 Mbit/s: PyTorch DDP (Gloo) beside Lockstep, exact and compressed. As root, with iproute2.
 *
 *   npm run -s bench:hosts -- [--hosts 2,4] [--models cnn,gpt,resnet18] [--rates 1gbit,100mbit] [--only NAME,NAME]
 *     [--milliseconds 1000] [--peers DIR] [--save]
 *
 * Efficiency is the speed against as many ranks that compute at the same time and exchange nothing, each against its own: so
 * ranks that share this machine's cores are not held against the network. With --peers, DIR/torch_step.py has PyTorch's models,
 * and the first of PYTHONS with torch runs them.
 */
import { parseArgs } from 'node:util'
import { formatTable } from '../src/observe/table.js'
import { Network, whyNot } from '../test/multi-host/network.js'
import { Peer, Rank } from './hosts-processes.js'
import type { TrainingOrder } from './hosts-rank.js'
import { pythons, torchVersion } from './peers.js'
import { circumstances, rounded, saveResult } from './record.js'

const BATCHES: Readonly<Record<string, number>> = { mlp: 128, cnn: 32, gpt: 16, resnet: 32, resnet18: 32 }
const PEER = 'PyTorch DDP'
const CONTENDERS: Readonly<Record<string, TrainingOrder['travel']>> = {
  float32: { compression: 'none', overlap: 1 },
  'float32 overlapped': { compression: 'none', overlap: 3 },
  bfloat16: { compression: 'bfloat16', overlap: 3 },
  int8: { compression: 'int8', overlap: 3 },
  topk: { compression: 'topk:0.01', overlap: 3 },
  powersgd: { compression: 'powersgd:4', overlap: 3 },
}

interface Row {
  readonly model: string
  readonly hosts: number
  readonly rate: string
  readonly contender: string
  readonly stepMs: number
  /** Of as many ranks that exchange nothing. */
  readonly aloneMs: number
  readonly efficiency: number
  readonly bytesPerStep?: number
}

/** What measures on one number of hosts: the same processes for all models and rates. */
interface Stage {
  readonly network: Network
  readonly ranks: readonly Rank[]
  readonly peers: readonly Peer[]
}

const { values } = parseArgs({
  options: {
    hosts: { type: 'string', default: '2,4' },
    models: { type: 'string', default: 'cnn,gpt,resnet18' },
    rates: { type: 'string', default: '1gbit,100mbit' },
    only: { type: 'string', default: [PEER, ...Object.keys(CONTENDERS)].join() },
    milliseconds: { type: 'string', default: '1000' },
    peers: { type: 'string' },
    save: { type: 'boolean', default: false },
  },
})
const reason = whyNot()
if (reason !== undefined) {
  console.error(`left out: emulated hosts: ${reason}`)
  process.exit(0)
}
const list = (text: string) => text.split(',')
const milliseconds = Number(values.milliseconds)
const python = values.peers && pythons().find((candidate) => torchVersion(candidate) !== undefined)
const stages = new Map<number, Stage>()
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(1))

const rows: Row[] = []
for (const model of list(values.models)) {
  for (const hosts of list(values.hosts).map(Number)) {
    if (!stages.has(hosts)) stages.set(hosts, await open(hosts))
    for (const row of await measure(stages.get(hosts)!, model)) rows.push(row)
  }
}

const head = ['model', 'hosts', 'rate', 'exchange', 'ms a step', 'without', 'efficiency', 'MB a step']
const table = rows.map((row) => [
  ...[row.model, `${row.hosts}`, row.rate, row.contender, row.stepMs.toFixed(1), row.aloneMs.toFixed(1)],
  ...[percent(row.efficiency), row.bytesPerStep === undefined ? '' : (row.bytesPerStep / 1e6).toFixed(2)],
])
console.log(formatTable([head, ...table]).join('\n'))
const command = `npm run -s bench:hosts -- ${process.argv.slice(2).join(' ')}`
if (values.save) saveResult('hosts', { ...circumstances(command), rows })
process.exit(0)

/** All contenders at all rates. Those who compute alone do so once: no rate slows them down. */
async function measure({ network, ranks, peers }: Stage, model: string): Promise<Row[]> {
  const order = { model, batch: BATCHES[model]!, milliseconds }
  const hosts = network.size
  const measured: Row[] = []
  const alone = (await all(ranks, { ...order, travel: undefined })).medianMs
  const peerAlone = peers.length > 0 ? (await all(peers, { ...order, ddp: false })).medianMs : 0
  for (const rate of list(values.rates)) {
    network.limit(rate)
    const add = (contender: string, stepMs: number, aloneMs: number, bytesPerStep?: number) => {
      const times = { stepMs: rounded(stepMs), aloneMs: rounded(aloneMs) }
      const efficiency = rounded(aloneMs / stepMs, 3)
      measured.push({
        model,
        hosts,
        rate,
        contender,
        ...times,
        efficiency,
        ...(bytesPerStep && { bytesPerStep }),
      })
      console.error(
        `${model}, ${hosts} hosts, ${rate}: ${contender} ${stepMs.toFixed(1)} ms a step, ${percent(efficiency)}`,
      )
    }
    for (const contender of list(values.only)) {
      if (contender === PEER) {
        if (peers.length > 0) add(PEER, (await all(peers, { ...order, ddp: true })).medianMs, peerAlone)
        continue
      }
      if (!Object.hasOwn(CONTENDERS, contender))
        throw new Error(`--only ${contender}: expected ${[PEER, ...Object.keys(CONTENDERS)].join(', ')}`)
      const { medianMs, bytesPerStep } = await all(ranks, { ...order, travel: CONTENDERS[contender] })
      add(contender, medianMs, alone, bytesPerStep)
    }
  }
  return measured
}

/** The mean over ranks: their throughputs add up. @throws when trained ranks do not hold the same parameters. */
async function all<Order extends object, Answer extends { readonly medianMs: number }>(
  ranks: readonly { obey(order: Order): Promise<Answer> }[],
  order: Order,
): Promise<Answer> {
  const answers = await Promise.all(ranks.map((rank) => rank.obey(order)))
  const hashes = new Set(answers.map((answer) => (answer as { sha256?: string }).sha256))
  if ((order as Partial<TrainingOrder>).travel !== undefined && hashes.size > 1)
    throw new Error(`ranks ended with different parameters: ${JSON.stringify(order)}`)
  const speed = answers.reduce((sum, { medianMs }) => sum + 1 / medianMs, 0) / answers.length
  return { ...answers[0]!, medianMs: 1 / speed }
}

async function open(hosts: number): Promise<Stage> {
  const network = new Network(hosts, undefined, process.pid * 10 + hosts)
  const workers: Pick<Rank | Peer, 'kill' | 'ready'>[] = []
  process.once('exit', () => {
    for (const worker of workers) worker.kill()
    network.remove()
  })
  const each = Array.from({ length: hosts }, (_, rank) => rank)
  const ranks = each.map((rank) => new Rank(network, rank))
  for (const rank of ranks) rank.publishTo(ranks)
  const peers = python ? each.map((rank) => new Peer(network, rank, python, values.peers!)) : []
  workers.push(...ranks, ...peers)
  await Promise.all(workers.map(({ ready }) => ready))
  return { network, ranks, peers }
}

function percent(share: number): string {
  return `${(100 * share).toFixed(0)} %`
}
