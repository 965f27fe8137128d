/**
 * Draws docs/allreduce.svg from bench/results/allreduce-*.json: bus bandwidth against size, ours and the peers', one panel
 * for each number of ranks. Run it after recording results: npm run docs:plot. What was measured in several sittings counts
 * with its best one; arrays that ranks on one host do not share are left out.
 */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { rounded, stroke, svg, text } from './svg.js'

interface Row {
  readonly transport: string
  readonly worldSize: number
  readonly bytes: number
  readonly busbwGBs: number
}

/** Okabe and Ito's colours, which all readers can tell apart; ours are solid, peers dashed. */
const SERIES: readonly { name: string; of: RegExp; color: string; dash?: string }[] = [
  { name: 'Lockstep, shared memory', of: /^shm$/, color: '#0072b2' },
  { name: 'Lockstep, TCP', of: /^tcp$/, color: '#d55e00' },
  { name: 'Lockstep, WebSocket', of: /^ws$/, color: '#cc79a7' },
  { name: 'Open MPI, shared memory', of: /^openmpi/, color: '#009e73', dash: '6 4' },
  { name: 'Gloo, TCP', of: /^gloo/, color: '#666666', dash: '6 4' },
]
const [PANEL, HEIGHT, LEFT, TOP, GAP] = [380, 300, 60, 40, 50]

const results = new URL('../bench/results/', import.meta.url)
const rows = readdirSync(results)
  .filter((name) => /^allreduce-.*\.json$/.test(name))
  .map((name) => JSON.parse(readFileSync(new URL(name, results), 'utf8')))
  .flatMap(({ from, rows }) => (from === 'private' ? [] : (rows as Row[])))
const path = new URL('../docs/allreduce.svg', import.meta.url)
writeFileSync(path, figure(rows))
console.log(`written to ${path.pathname}`)

function figure(rows: readonly Row[]): string {
  const worlds = [...new Set(rows.map(({ worldSize }) => worldSize))].sort((a, b) => a - b)
  const x = scale(rows.map(({ bytes }) => bytes))
  const y = scale(rows.map(({ busbwGBs }) => busbwGBs))
  const used = SERIES.filter(({ of }) => rows.some(({ transport }) => of.test(transport)))
  const width = LEFT + worlds.length * (PANEL + GAP)
  const panels = worlds.map((worldSize, i) => {
    const inPanel = rows.filter((row) => row.worldSize === worldSize)
    return `<g transform="translate(${LEFT + i * (PANEL + GAP)} ${TOP})">${panel(inPanel, worldSize, x, y)}</g>`
  })
  const legend = used.map(({ name, color, dash }, i) => {
    const [left, top] = [LEFT + (i % 3) * 270, TOP + HEIGHT + 60 + Math.floor(i / 3) * 20]
    return `<path d="M${left} ${top - 4}h24" ${stroke(color, dash)}/>${text(left + 30, top, name, 'start')}`
  })
  const height = TOP + HEIGHT + 70 + Math.ceil(used.length / 3) * 20
  const body = [
    ...panels,
    ...legend,
    `<g transform="translate(14 ${TOP + HEIGHT / 2}) rotate(-90)">${text(0, 0, 'bus bandwidth, GB/s')}</g>`,
  ]
  return svg(width, height, 'All-reduce of float32: bus bandwidth against size', body)
}

function panel(rows: readonly Row[], worldSize: number, x: Scale, y: Scale): string {
  const grid = [
    ...x.ticks.map((bytes) => {
      const at = x.at(bytes) * PANEL
      return `<path d="M${at} 0v${HEIGHT}" stroke="#ddd"/>${text(at, HEIGHT + 18, sizeName(bytes))}`
    }),
    ...y.ticks.map((speed) => {
      const at = (1 - y.at(speed)) * HEIGHT
      return `<path d="M0 ${at}h${PANEL}" stroke="#ddd"/>${text(-6, at + 4, `${speed}`, 'end')}`
    }),
  ]
  const lines = SERIES.map(({ of, color, dash }) => {
    const best = new Map<number, number>()
    for (const { transport, bytes, busbwGBs } of rows) {
      if (of.test(transport)) best.set(bytes, Math.max(busbwGBs, best.get(bytes) ?? 0))
    }
    const points = [...best]
      .sort(([a], [b]) => a - b)
      .map(([bytes, speed]) => `${rounded(x.at(bytes) * PANEL)} ${rounded((1 - y.at(speed)) * HEIGHT)}`)
    if (points.length === 0) return ''
    const dots = points.map((point) => `<circle r="3" fill="${color}" transform="translate(${point})"/>`)
    return `<path d="M${points.join('L')}" ${stroke(color, dash)}/>${dots.join('')}`
  })
  return [text(PANEL / 2, -14, `${worldSize} ranks`), ...grid, ...lines].join('\n')
}

interface Scale {
  readonly ticks: readonly number[]
  /** 0 … 1 */
  at(value: number): number
}

/** Logarithmic, over whole powers of 4 (sizes) or 10. */
function scale(values: readonly number[]): Scale {
  const base = values.every((value) => Number.isInteger(Math.log2(value))) ? 4 : 10
  const log = (value: number) => Math.log(value) / Math.log(base)
  const [low, high] = [
    Math.floor(log(Math.min(...values)) + 1e-9),
    Math.ceil(log(Math.max(...values)) - 1e-9),
  ]
  const ticks = Array.from({ length: high - low + 1 }, (_, i) => Number((base ** (low + i)).toPrecision(12)))
  return { ticks, at: (value) => (log(value) - low) / (high - low) }
}

function sizeName(bytes: number): string {
  return bytes >= 2 ** 20 ? `${bytes / 2 ** 20} MiB` : `${bytes / 1024} KiB`
}
