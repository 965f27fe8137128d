/** Draws docs/elastic.svg from bench/results/elastic.json: the losses of a job that shrinks and grows, over those of one that does not. */
import { readFileSync, writeFileSync } from 'node:fs'

interface Result {
  readonly undisturbed: readonly number[]
  readonly elastic: readonly (readonly [loss: number, ranks: number])[]
}

const [WIDTH, HEIGHT, LEFT, TOP] = [720, 280, 50, 40]
/** By the number of ranks; Okabe and Ito's, which all readers can tell apart. */
const COLORS: Readonly<Record<number, string>> = { 2: '#d55e00', 3: '#cc79a7', 4: '#0072b2' }

const file = new URL('../bench/results/elastic.json', import.meta.url)
const path = new URL('../docs/elastic.svg', import.meta.url)
writeFileSync(path, figure(JSON.parse(readFileSync(file, 'utf8'))))
console.log(`written to ${path.pathname}`)

function figure({ undisturbed, elastic }: Result): string {
  const steps = elastic.length
  const most = Math.ceil(2 * Math.max(...undisturbed)) / 2
  const x = (step: number) => rounded((step / steps) * WIDTH)
  const y = (loss: number) => rounded((1 - loss / most) * HEIGHT)
  const line = (losses: readonly number[], from: number) =>
    `M${losses.map((loss, i) => `${x(from + i)} ${y(loss)}`).join('L')}`

  const runs = runsOf(elastic)
  const grid = Array.from({ length: 2 * most + 1 }, (_, i) => i / 2).map(
    (loss) => `<path d="M0 ${y(loss)}h${WIDTH}" stroke="#ddd"/>${text(-8, y(loss) + 4, `${loss}`, 'end')}`,
  )
  const parts = runs.map(({ ranks, from, losses }) => {
    const color = COLORS[ranks] ?? '#000'
    const middle = x(from + losses.length / 2)
    return [
      from > 0 ? `<path d="M${x(from)} 0v${HEIGHT}" stroke="#999" stroke-dasharray="2 3"/>` : '',
      `<path d="${line(losses, from)}" fill="none" stroke="${color}" stroke-width="1.5"/>`,
      `<text x="${middle}" y="-8" text-anchor="middle" fill="${color}">${ranks} ranks</text>`,
    ].join('')
  })
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${LEFT + WIDTH + 20} ${TOP + HEIGHT + 50}" font-family="sans-serif" font-size="12">
<title>Loss of every step, of a job of 4, 3, 2 and again 4 ranks (colours) and of one that keeps its 4 (grey, behind)</title>
<rect width="100%" height="100%" fill="white"/>
<g transform="translate(${LEFT} ${TOP})">
${grid.join('\n')}
<path d="${line(undisturbed, 0)}" fill="none" stroke="#bbb" stroke-width="5"/>
${parts.join('\n')}
${text(0, HEIGHT + 20, '0', 'start')}${text(WIDTH, HEIGHT + 20, `${steps}`, 'end')}
${text(WIDTH / 2, HEIGHT + 36, 'step; grey, behind: four ranks that nobody disturbs')}
</g>
<g transform="translate(14 ${TOP + HEIGHT / 2}) rotate(-90)">${text(0, 0, 'loss')}</g>
</svg>
`
}

/** Steps that follow each other with one number of ranks; each begins at the last loss of the one before. */
function runsOf(curve: Result['elastic']) {
  const runs: { ranks: number; from: number; losses: number[] }[] = []
  for (const [step, [loss, ranks]] of curve.entries()) {
    const last = runs.at(-1)
    if (last?.ranks === ranks) last.losses.push(loss)
    else runs.push({ ranks, from: Math.max(0, step - 1), losses: [...(last?.losses.slice(-1) ?? []), loss] })
  }
  return runs
}

function text(x: number, y: number, words: string, anchor = 'middle'): string {
  return `<text x="${x}" y="${y}" text-anchor="${anchor}">${words}</text>`
}

function rounded(value: number): number {
  return Number(value.toFixed(1))
}
