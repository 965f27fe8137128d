/**
 * Draws docs/timeline.svg: one step of all ranks, from a timeline that `ddp-launch --timeline FILE` has written.
 *   tsx scripts/timeline-plot.ts FILE STEP
 */
import { readFileSync, writeFileSync } from 'node:fs'

interface Drawn {
  readonly ph: string
  readonly pid: number
  readonly tid: number
  readonly cat: string
  readonly name: string
  readonly ts: number
  readonly dur: number
  readonly args: { readonly step?: number; readonly bytes?: number }
}

/** Okabe and Ito's colours, which all readers can tell apart. */
const COLORS: Readonly<Record<string, string>> = {
  'forward and backward': '#0072b2',
  exchange: '#d55e00',
  optimizer: '#009e73',
  pass: '#56b4e9',
  communication: '#e69f00',
}
const [LEFT, TOP, WIDTH, ROW] = [160, 30, 820, 22]

const [file, number] = process.argv.slice(2)
const { traceEvents } = JSON.parse(readFileSync(file!, 'utf8')) as { traceEvents: Drawn[] }
const steps = traceEvents.filter(({ args }) => args.step === Number(number))
const [from, to] = [Math.min(...steps.map(({ ts }) => ts)), Math.max(...steps.map(({ ts, dur }) => ts + dur))]
const shown = traceEvents.filter(
  ({ ph, ts, dur, cat, name, args }) =>
    ph === 'X' && ts < to && ts + dur > from && args.step === undefined && (COLORS[name] ?? COLORS[cat]),
)
const rows = [...new Set(shown.map(({ pid, tid }) => pid * 1e6 + tid))].sort((a, b) => a - b)
const x = (ts: number) => LEFT + (WIDTH * (ts - from)) / (to - from)
const path = new URL('../docs/timeline.svg', import.meta.url)
writeFileSync(path, figure())
console.log(`written to ${path.pathname}`)

function figure(): string {
  const height = TOP + rows.length * ROW + 30
  const labels = rows.map((row, i) => {
    const { pid, cat } = shown.find(({ pid, tid }) => pid * 1e6 + tid === row)!
    return text(LEFT - 8, TOP + i * ROW + 15, `rank ${pid}: ${cat}`, 'end')
  })
  const end = ((to - from) / 1000).toFixed(0)
  const axis = text(LEFT, height - 8, '0 ms', 'start') + text(LEFT + WIDTH, height - 8, `${end} ms`, 'end')
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${LEFT + WIDTH + 20} ${height}" font-family="sans-serif" font-size="11">
<title>One step: buckets of gradients travel while the pass computes</title>
<rect width="${LEFT + WIDTH + 20}" height="${height}" fill="white"/>
${[text(LEFT, 18, `step ${number}`, 'start'), ...labels, ...shown.map(bar), axis].join('\n')}
</svg>
`
}

function bar({ pid, tid, ts, dur, name, cat, args }: Drawn): string {
  const [left, right] = [x(Math.max(ts, from)), x(Math.min(ts + dur, to))]
  const top = TOP + rows.indexOf(pid * 1e6 + tid) * ROW
  const width = Math.max(0.5, right - left)
  const label = args.bytes === undefined ? name : `${name}, ${(args.bytes / 1e6).toFixed(2)} MB`
  const fits = width > 6 * label.length
  const box = `<rect x="${left.toFixed(1)}" y="${top}" width="${width.toFixed(1)}" height="${ROW - 4}" fill="${COLORS[name] ?? COLORS[cat]}"/>`
  return fits ? box + text(left + width / 2, top + 13, label, 'middle') : box
}

function text(left: number, top: number, words: string, anchor: string): string {
  return `<text x="${left.toFixed(1)}" y="${top}" text-anchor="${anchor}">${words}</text>`
}
