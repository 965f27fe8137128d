/** Counting right answers. */

/** Predictions whose largest score (the first, if several are equal) is at their label: a class number or a one-hot row. */
export function countCorrect(labels: ArrayLike<number>, scores: ArrayLike<number>, classes: number): number {
  const oneHot = labels.length === scores.length
  let correct = 0
  for (let i = 0; i < scores.length / classes; i++) {
    const label = oneHot ? largest(labels, i * classes, classes) : labels[i]
    if (largest(scores, i * classes, classes) === label) correct++
  }
  return correct
}

function largest(numbers: ArrayLike<number>, start: number, length: number): number {
  let best = 0
  for (let i = 1; i < length; i++) if (numbers[start + i]! > numbers[start + best]!) best = i
  return best
}
