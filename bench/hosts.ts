/**
 * How well does training scale over a slow network? Hosts are network namespaces on this machine, one rank of one thread on
 * each, linked at 1 Gbit/s or 100 Mbit/s: PyTorch DDP (Gloo) beside Lockstep, exact and compressed. As root, with iproute2.
 *
 *   npm run -s bench:hosts -- [--hosts 2,4] [--models cnn,gpt,resnet18] [--rates 1gbit,100mbit] [--only NAME,NAME]
 *     [--milliseconds 2000] [--peers DIR] [--save NAME]
 *
 * Efficiency is the speed against as many ranks that compute at the same time and exchange nothing, each against its own: so
 * ranks that share this machine's cores are not held against the network. With --peers, DIR/torch_step.py has PyTorch's models,
 * and the first of PYTHONS with torch runs them.
 */
import { readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { exposure } from '../launcher/scaling/steps.js'
import { formatTable } from '../src/observe/table.js'
import { Network, whyNot } from '../test/multi-host/network.js'
import { Peer, Rank } from './hosts-processes.js'
import type { Measured, TrainingOrder } from './hosts-rank.js'
import { pythons, torchVersion } from './peers.js'
import { circumstances, rounded, saveResult } from './record.js'

const BATCHES: Readonly<Record<string, number>> = { mlp: 128, cnn: 32, gpt: 16, resnet: 32, resnet18: 32 }
const PEER = 'PyTorch DDP'
/** With `+` the exchange goes on during the backward pass, in two segments; with `auto` where the first steps show that it pays. */
const CONTENDERS: Readonly<Record<string, TrainingOrder['travel']>> = Object.fromEntries(
  Object.entries({
    ...{ float32: 'none', bfloat16: 'bfloat16', int8: 'int8' },
    ...{ onebit: 'onebit', topk: 'topk:0.01', powersgd: 'powersgd:4' },
  }).flatMap(([name, compression]) => [
    [name, { compression, overlap: 1 }],
    [`${name}+`, { compression, overlap: 2 }],
    [`${name} auto`, { compression, overlap: 'auto' as const }],
  ]),
)
/** What is worth its time: a step of ResNet-18 takes seconds where four share two cores. */
const USUAL = [PEER, 'float32', 'float32 auto', 'bfloat16+', 'int8', 'int8+', 'topk', 'topk+', 'powersgd+']
const USUAL_OF: Readonly<Record<string, readonly string[]>> = {
  resnet18: [PEER, 'float32', 'float32+', 'int8+', 'topk+'],
}

type Exposure = ReturnType<typeof exposure>

interface Row {
  readonly model: string
  readonly hosts: number
  readonly rate: string
  readonly contender: string
  readonly stepMs: number
  /** Of as many ranks that exchange nothing. */
  readonly aloneMs: number
  readonly efficiency: number
  /** Processor time of all threads of a rank, and of one that exchanges nothing. */
  readonly cpuMs: number
  readonly aloneCpuMs: number
  readonly bytesPerStep?: number
  /** Mean time of a step that gradients are waited for, by the timeline. */
  readonly waitMs?: number
  /** Beside the same exchange after the pass: what the pass hides of what can be hidden, which is no more than it computes meanwhile. */
  readonly hidden?: number
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
    only: { type: 'string' },
    milliseconds: { type: 'string', default: '2000' },
    peers: { type: 'string' },
    save: { type: 'string' },
  },
})
const reason = whyNot()
if (reason !== undefined) {
  console.error(`left out: emulated hosts: ${reason}`)
  process.exit(0)
}
const list = (text: string) => text.split(',')
const milliseconds = Number(values.milliseconds)
const timeline = join(tmpdir(), `lockstep-hosts-${process.pid}.json`)
process.once('exit', () => rmSync(timeline, { force: true }))
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

const head = [
  'model',
  'hosts',
  'rate',
  'exchange',
  'ms a step',
  'alone',
  'efficiency',
  'CPU ms',
  'alone',
  ...['MB a step', 'waits, ms', 'hidden'],
]
const table = rows.map(({ model, hosts, rate, contender, bytesPerStep, ...row }) => [
  ...[
    model,
    `${hosts}`,
    rate,
    contender,
    row.stepMs.toFixed(1),
    row.aloneMs.toFixed(1),
    percent(row.efficiency),
  ],
  ...[row.cpuMs.toFixed(1), row.aloneCpuMs.toFixed(1)],
  bytesPerStep === undefined ? '' : (bytesPerStep / 1e6).toFixed(2),
  ...[row.waitMs?.toFixed(1) ?? '', row.hidden === undefined ? '' : percent(row.hidden)],
])
console.log(formatTable([head, ...table]).join('\n'))
const command = `npm run -s bench:hosts -- ${process.argv.slice(2).join(' ')}`
if (values.save !== undefined) saveResult(values.save, { ...circumstances(command), rows })
process.exit(0)

/** All contenders at all rates, each between two measurements of those who compute alone. */
async function measure({ network, ranks, peers }: Stage, model: string): Promise<Row[]> {
  const order = { model, batch: BATCHES[model]!, milliseconds, timeline }
  const alone = () => all(ranks, { ...order, travel: undefined })
  const peerAlone = () => all(peers, { ...order, ddp: false })
  const measured: Row[] = []
  for (const rate of list(values.rates)) {
    network.limit(rate)
    const waits = new Map<string, Exposure>()
    let before = await alone()
    for (const contender of values.only?.split(',') ?? USUAL_OF[model] ?? USUAL) {
      const what = { model, hosts: network.size, rate, contender }
      if (contender !== PEER) {
        const found = await all(ranks, { ...order, travel: travelOf(contender) })
        waits.set(contender, exposure(JSON.parse(readFileSync(timeline, 'utf8')), found.steps!))
        const after = await alone()
        measured.push(rowOf(what, found, [before, after], waits))
        before = after
      } else if (peers.length > 0) {
        const first = await peerAlone()
        const found: Measured = await all(peers, { ...order, ddp: true })
        measured.push(rowOf(what, found, [first, await peerAlone()]))
      } else continue
      console.error(Object.values(measured.at(-1)!).join(' '))
    }
  }
  return measured
}

function rowOf(
  what: Pick<Row, 'model' | 'hosts' | 'rate' | 'contender'>,
  { medianMs, cpuMs, bytesPerStep }: Measured,
  alone: readonly [Measured, Measured],
  waits?: ReadonlyMap<string, Exposure>,
): Row {
  const mean = (of: (each: Measured) => number) => (of(alone[0]) + of(alone[1])) / 2
  const aloneMs = mean((each) => each.medianMs)
  const wait = waits?.get(what.contender)
  const without = waits?.get(what.contender.replace(/( auto|\+)$/, ''))
  const most = Math.min(without?.waitMs ?? 0, wait?.laterMs ?? 0)
  return {
    ...what,
    stepMs: rounded(medianMs),
    aloneMs: rounded(aloneMs),
    efficiency: rounded(aloneMs / medianMs, 3),
    cpuMs: rounded(cpuMs),
    aloneCpuMs: rounded(mean((each) => each.cpuMs)),
    ...(bytesPerStep !== undefined && { bytesPerStep }),
    ...(wait && { waitMs: rounded(wait.waitMs) }),
    ...(most > 0 && { hidden: rounded((without!.waitMs - wait!.waitMs) / most, 3) }),
  }
}

function travelOf(contender: string): TrainingOrder['travel'] {
  if (Object.hasOwn(CONTENDERS, contender)) return CONTENDERS[contender]
  throw new Error(`--only ${contender}: expected ${[PEER, ...Object.keys(CONTENDERS)].join(', ')}`)
}

/** The mean over ranks: their throughputs add up. @throws when trained ranks do not hold the same parameters. */
async function all<Order extends object, Answer extends Measured>(
  ranks: readonly { obey(order: Order): Promise<Answer> }[],
  order: Order,
): Promise<Answer> {
  const answers = await Promise.all(ranks.map((rank) => rank.obey(order)))
  const hashes = new Set(answers.map((answer) => (answer as { sha256?: string }).sha256))
  if ((order as Partial<TrainingOrder>).travel !== undefined && hashes.size > 1)
    throw new Error(`ranks ended with different parameters: ${JSON.stringify(order)}`)
  const speed = answers.reduce((sum, { medianMs }) => sum + 1 / medianMs, 0) / answers.length
  const cpuMs = answers.reduce((sum, answer) => sum + answer.cpuMs, 0) / answers.length
  return { ...answers[0]!, medianMs: 1 / speed, cpuMs }
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
