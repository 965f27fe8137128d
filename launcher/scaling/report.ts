/** Figures of scaling -> rows, lines and a Markdown page for people. Pure: where figures come from is measure's part. */
import { amdahlShare, efficiency, gustafsonShare, type Point, percentile, speedUp } from './arithmetic.js'
import type { Kind, ScalingOptions } from './options.js'
import type { Hidden, Steps } from './steps.js'

/** Where and when something was measured. */
export interface Circumstances {
  readonly date: string
  readonly command: string
  readonly machine: string
  readonly node: string
  readonly lockstep: string
}

/** One number of ranks. */
export interface Run extends Point {
  readonly batchPerRank: number
  readonly speedUp: number
  readonly efficiency: number
  readonly communicationShare: number
  readonly hidden: Hidden | undefined
  /** Of the time of a step, in ms. */
  readonly p50: number
  readonly p90: number
  readonly p99: number
}

export interface Scaling {
  readonly kind: Kind
  readonly runs: readonly Run[]
  /** Amdahl's (strong) or Gustafson's (weak); undefined for one rank only. */
  readonly serialShare: number | undefined
}

/** @param measured by number of ranks, one rank among them */
export function scalingOf(
  kind: Kind,
  batch: number,
  measured: readonly { readonly ranks: number; readonly steps: Steps }[],
): Scaling {
  const points = measured.map(({ ranks, steps }) => {
    const batchPerRank = kind === 'weak' ? batch : batch / ranks
    const [p50, p90, p99] = [0.5, 0.9, 0.99].map((share) => percentile(steps.ms, share)) as [
      number,
      number,
      number,
    ]
    const samplesPerSecond = (1000 * ranks * batchPerRank) / p50
    return {
      ranks,
      batchPerRank,
      samplesPerSecond,
      p50,
      p90,
      p99,
      communicationShare: steps.communicationShare,
      hidden: steps.hidden,
    }
  })
  const one = points.find(({ ranks }) => ranks === 1)!
  const shareOf = kind === 'weak' ? gustafsonShare : amdahlShare
  return {
    kind,
    runs: points.map((point) => ({
      ...point,
      speedUp: speedUp(point, one),
      efficiency: efficiency(point, one),
    })),
    serialShare: shareOf(points, one),
  }
}

export const HEADINGS = [
  ...['scaling', 'ranks', 'batch per rank', 'samples/s', 'speed-up', 'efficiency', 'communication'],
  ...['p50 ms', 'p90 ms', 'p99 ms'],
]

export function rowsOf({ kind, runs }: Scaling): string[][] {
  return runs.map((run) => [
    ...[kind, String(run.ranks), String(run.batchPerRank), run.samplesPerSecond.toFixed(1)],
    ...[run.speedUp.toFixed(2), percent(run.efficiency), percent(run.communicationShare)],
    ...[run.p50, run.p90, run.p99].map((ms) => ms.toFixed(2)),
  ])
}

/** What the law of this kind of scaling makes of the figures; undefined for one rank only. */
export function verdict({ kind, runs, serialShare }: Scaling): string | undefined {
  if (serialShare === undefined) return undefined
  const law = kind === 'weak' ? "Gustafson's law" : "Amdahl's law"
  const from = `${kind} scaling up to ${runs.at(-1)!.ranks} ranks`
  if (serialShare <= 0) return `${from}: no serial share by ${law}: linear, or faster`
  if (serialShare >= 1) return `${from}: slower than one rank: a larger --batch or model has more to share`
  const share = `${from}: a serial share of ${percent(serialShare)} by ${law}`
  return kind === 'weak'
    ? share
    : `${share}: however many ranks, at most ${(1 / serialShare).toFixed(1)} times as fast`
}

/** For each number of ranks whose gradients travel during the backward pass, what that hides; none for all others. */
export function hiddenBehindPasses({ kind, runs }: Scaling): string[] {
  return runs.flatMap(({ ranks, hidden }) => {
    if (hidden === undefined) return []
    const { share, room } = hidden
    return (
      `${kind} scaling, ${ranks} ranks: the backward pass hides ${percent(share)} of what the exchange takes after it, of ` +
      `${percent(room)} that it could hide`
    )
  })
}

/** Said where ranks do not have cores of their own. */
export function crowding({ nproc, threads }: ScalingOptions, cores: number): string | undefined {
  const most = nproc.at(-1)!
  if (most * threads <= cores) return undefined
  return `${most} ranks of ${count(threads, 'thread')} share ${count(cores, 'core')}: they wait for cores, not only for each other`
}

const count = (n: number, what: string) => `${n} ${what}${n === 1 ? '' : 's'}`

export function markdown(
  options: ScalingOptions,
  scalings: readonly Scaling[],
  circumstances: Circumstances,
  notes: readonly string[],
): string {
  const { model, steps, threads, transport, compression } = options
  const { machine, date, command, node, lockstep } = circumstances
  const line = (cells: readonly string[]) => `| ${cells.join(' | ')} |`
  const facts = [
    ['machine', machine],
    ['date', date],
    ['command', `\`${command}\``],
    ['software', `Lockstep ${lockstep}, Node ${node}`],
    ['ranks', `${count(threads, 'thread')} each, transport ${transport}, compression ${compression}`],
  ] as const
  return [
    `# Scaling of ${model}`,
    '',
    ...[line(['', '']), line(['---', '---']), ...facts.map(line)],
    '',
    ...[line(HEADINGS), line(HEADINGS.map((_, i) => (i === 0 ? '---' : '---:')))],
    ...scalings.flatMap(rowsOf).map(line),
    '',
    ...notes.map((note) => `- ${note}`),
    '',
    `Median, 90th and 99th percentile of ${count(steps, 'step')}, from the batch to the updated parameters, on rank 0. Samples/s: of all`,
    'ranks, at the median. Efficiency: samples/s over those of one rank, for each rank. Communication: of all ranks’ time, that in',
    'which they waited for each other’s gradients, compression included; what travels while a pass computes does not count.',
    '',
  ].join('\n')
}

const percent = (share: number) => `${(100 * share).toFixed(1)} %`
