/**
 * Draws docs/accuracy.svg from bench/results/accuracy-*.json: the training loss with each compressor, one panel for each task.
 * Run it after recording results: npm run docs:plot.
 */
import { readFileSync, writeFileSync } from 'node:fs'
import { rounded, stroke, svg, text } from './svg.js'

interface Result {
  readonly steps: number
  readonly batchPerRank: number
  readonly runs: readonly {
    readonly compression: string
    /** Means of ten steps each. */
    readonly losses: readonly number[]
  }[]
}

/** Okabe and Ito's colours, which all readers can tell apart; what is to be worse is dashed. */
const SERIES: readonly { name: string; of: RegExp; color: string; dash?: string }[] = [
  { name: 'float32', of: /^none$/, color: '#000000' },
  { name: 'int8', of: /^int8/, color: '#56b4e9' },
  { name: 'int4', of: /^int4/, color: '#0072b2' },
  { name: '1-bit', of: /^onebit/, color: '#cc79a7' },
  { name: 'top-k 1 %', of: /^topk(?!.*feedback=off)/, color: '#009e73' },
  { name: 'PowerSGD, rank 4', of: /^powersgd/, color: '#e69f00' },
  { name: 'DGC 1 %', of: /^dgc/, color: '#d55e00' },
  { name: 'top-k 1 % without error feedback', of: /^topk.*feedback=off/, color: '#666666', dash: '6 4' },
]
const PANELS = [
  { file: 'accuracy-mnist', name: 'CNN on MNIST' },
  { file: 'accuracy-text', name: 'GPT on tiny Shakespeare' },
] as const
const [PANEL, HEIGHT, LEFT, TOP, GAP] = [400, 300, 60, 40, 70]

const width = LEFT + PANELS.length * (PANEL + GAP)
const panels = PANELS.map(({ file, name }, i) => {
  const result = JSON.parse(readFileSync(new URL(`../bench/results/${file}.json`, import.meta.url), 'utf8'))
  return `<g transform="translate(${LEFT + i * (PANEL + GAP)} ${TOP})">${panel(result, name)}</g>`
})
const legend = SERIES.map(({ name, color, dash }, i) => {
  const [left, top] = [LEFT + (i % 4) * 215, TOP + HEIGHT + 60 + Math.floor(i / 4) * 20]
  return `<path d="M${left} ${top - 4}h24" ${stroke(color, dash)}/>${text(left + 30, top, name, 'start')}`
})
const axis = `<g transform="translate(14 ${TOP + HEIGHT / 2}) rotate(-90)">${text(0, 0, 'training loss')}</g>`
const path = new URL('../docs/accuracy.svg', import.meta.url)
writeFileSync(
  path,
  svg(width, TOP + HEIGHT + 100, 'Training loss with each compressor', [...panels, ...legend, axis]),
)
console.log(`written to ${path.pathname}`)

/** Losses on a logarithmic scale, from the second ten steps on. */
function panel({ steps, batchPerRank, runs }: Result, name: string): string {
  const shown = runs.flatMap(({ losses }) => losses.slice(1))
  const [low, high] = [Math.log(Math.min(...shown)), Math.log(Math.max(...shown))]
  const x = (step: number) => rounded((step / steps) * PANEL)
  const y = (loss: number) => rounded((1 - (Math.log(loss) - low) / (high - low)) * HEIGHT)
  const ticks = [0.05, 0.1, 0.2, 0.3, 0.5, 1, 1.5, 2, 2.5, 3, 3.5, 4, 5].filter(
    (loss) => Math.log(loss) >= low && Math.log(loss) <= high,
  )
  const grid = [
    ...[0, 0.25, 0.5, 0.75, 1].map((share) => {
      const at = rounded(share * PANEL)
      return `<path d="M${at} 0v${HEIGHT}" stroke="#ddd"/>${text(at, HEIGHT + 18, `${share * steps}`)}`
    }),
    ...ticks.map(
      (loss) => `<path d="M0 ${y(loss)}h${PANEL}" stroke="#ddd"/>${text(-6, y(loss) + 4, `${loss}`, 'end')}`,
    ),
  ]
  const lines = SERIES.flatMap(({ of, color, dash }) => {
    const run = runs.find(({ compression }) => of.test(compression))
    if (run === undefined) return []
    const points = run.losses.slice(1).map((loss, i) => `${x(10 * i + 15)} ${y(loss)}`)
    return [`<path d="M${points.join('L')}" ${stroke(color, dash)}/>`]
  })
  const title = text(PANEL / 2, -14, `${name}, 2 × ${batchPerRank} samples a step`)
  return [title, ...grid, ...lines, text(PANEL / 2, HEIGHT + 36, 'step')].join('\n')
}
