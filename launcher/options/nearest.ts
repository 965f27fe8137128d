/** "Did you mean …?": the known name that is the fewest edits away. */

/** Undefined when none is near: more than a third of the letters would change. */
export function nearest(given: string, known: readonly string[]): string | undefined {
  const tame = given.toLowerCase().replaceAll('_', '-')
  const ranked = known
    .map((name) => ({ name, edits: distance(tame, name) }))
    .sort((a, b) => a.edits - b.edits)
  const best = ranked[0]
  return best && best.edits <= Math.max(1, Math.ceil(best.name.length / 3)) ? best.name : undefined
}

/** Levenshtein's: insertions, deletions and replacements of one letter. */
function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j)
  for (let i = 1; i <= a.length; i++) {
    const next = [i]
    for (let j = 1; j <= b.length; j++) {
      const replaced = row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1)
      next.push(Math.min(replaced, row[j]! + 1, next[j - 1]! + 1))
    }
    row = next
  }
  return row[b.length]!
}
