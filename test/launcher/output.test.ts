import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { LineSplitter } from '../../launcher/lines.js'
import { Output } from '../../launcher/output.js'

function split(chunks: Buffer[]) {
  const seen: string[] = []
  const splitter = new LineSplitter({
    line: (bytes) => seen.push(bytes.toString()),
    live: (bytes) => seen.push(`live:${bytes}`),
  })
  for (const chunk of chunks) splitter.push(chunk)
  splitter.end()
  return seen
}

const pieces = (...texts: string[]) => texts.map((text) => Buffer.from(text))

describe('lines', () => {
  it('are whole, however the bytes are cut', () => {
    const line = fc.string({ unit: 'grapheme' }).map((text) => text.replaceAll(/[\r\n]/g, ''))
    fc.assert(
      fc.property(fc.array(line), line, fc.array(fc.nat()), (lines, last, cuts) => {
        const bytes = Buffer.from(lines.map((text) => `${text}\n`).join('') + last)
        const at = [0, ...cuts.map((cut) => cut % (bytes.length + 1)).sort((a, b) => a - b), bytes.length]
        const chunks = at.slice(1).map((end, i) => bytes.subarray(at[i], end))
        expect(split(chunks)).toEqual(last ? [...lines, last] : lines)
      }),
    )
  })

  it.each([
    ['empty lines stay', pieces('\n\na\n'), ['', '', 'a']],
    ['Windows line breaks', pieces('a\r\nb\r\n'), ['a', 'b']],
    ['an unfinished last line', pieces('a\nb'), ['a', 'b']],
    ['a live line', pieces('\r10 %\r'), ['live:10 %', 'live:']],
    ['a live line in two pieces', pieces('\r10', ' %\r'), ['live:10', 'live:10 %', 'live:']],
    ['live lines, then a line', pieces('\r10 %\r', '\r20 %\r', 'done\n'), ['live:10 %', 'live:20 %', 'done']],
    ['all that in one piece', pieces('\r10 %\r\r20 %\rdone\n'), ['done']],
    ['an empty live line', pieces('\r10 %\r', '\r\r'), ['live:10 %', 'live:', 'live:']],
    ['a progress bar that was finished', pieces('a\rb\rc\n'), ['c']],
  ])('%s', (_, chunks, expected) => {
    expect(split(chunks)).toEqual(expected)
  })

  it('of a progress bar that never ends take no memory', () => {
    let live = ''
    const splitter = new LineSplitter({ line: () => {}, live: (bytes) => (live = bytes.toString()) })
    for (let i = 0; i < 10_000; i++) splitter.push(Buffer.from(`\rstep ${i}${'.'.repeat(1000)}`))
    expect(live).toMatch(/^step 9999\.+$/)
  })
})

function screen(options: { isTTY?: boolean; columns?: number } = {}, env = {}) {
  let written = ''
  const sink = { ...options, write: (bytes: Buffer | string) => (written += bytes.toString()) }
  return { output: new Output(sink, sink, env), written: () => written }
}

const bytes = Buffer.from
const rank = (number: number) => ({ rank: number, localRank: number, isAmongNodes: false })

describe('output', () => {
  it('puts the rank in front, plain where nobody watches', () => {
    const { output, written } = screen()
    output.line(rank(0), 'stdout', bytes('a'))
    output.line(rank(11), 'stderr', bytes('b'))
    output.live(rank(0), bytes('10 %'))
    output.say('ddp-launch: done')
    expect(written()).toBe('[0] a\n[11] b\nddp-launch: done\n')
  })

  it('colours the rank on a terminal, unless NO_COLOR', () => {
    const [coloured, plain] = [screen({ isTTY: true }), screen({ isTTY: true }, { NO_COLOR: '1' })]
    for (const { output } of [coloured, plain]) output.line(rank(1), 'stdout', bytes('a'))
    expect(coloured.written()).toBe('\x1b[35m[1]\x1b[39m a\n')
    expect(plain.written()).toBe('[1] a\n')
  })

  it('redraws a live line below the lines of other ranks, until its own rank writes one', () => {
    const { output, written } = screen({ isTTY: true }, { NO_COLOR: '1' })
    output.live(rank(0), bytes('10 %'))
    output.line(rank(1), 'stdout', bytes('hello'))
    output.line(rank(0), 'stdout', bytes('epoch 1'))
    output.line(rank(1), 'stdout', bytes('bye'))
    const erase = '\r\x1b[2K'
    expect(written()).toBe(
      `${erase}[0] 10 %${erase}[1] hello\n${erase}[0] 10 %${erase}[0] epoch 1\n[1] bye\n`,
    )
  })

  it('never lets a live line wrap', () => {
    const { output, written } = screen({ isTTY: true, columns: 12 }, { NO_COLOR: '1' })
    output.live(rank(0), bytes('0123456789'))
    expect(written()).toBe('\r\x1b[2K[0] 0123456')
  })
})
