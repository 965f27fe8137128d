/** Words, lines and rounding for the pictures of docs: what scripts that draw SVG have in common. */

export function text(x: number, y: number, words: string, anchor = 'middle'): string {
  return `<text x="${x}" y="${y}" text-anchor="${anchor}">${words}</text>`
}

export function stroke(color: string, dash?: string): string {
  return `fill="none" stroke="${color}" stroke-width="2"${dash ? ` stroke-dasharray="${dash}"` : ''}`
}

export function rounded(value: number): number {
  return Number(value.toFixed(1))
}

/** A whole file of `body`, `width` by `height`, on white. */
export function svg(width: number, height: number, title: string, body: readonly string[]): string {
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" font-family="sans-serif" font-size="12">
<title>${title}</title>
<rect width="${width}" height="${height}" fill="white"/>
${body.join('\n')}
</svg>
`
}
