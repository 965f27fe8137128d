import { expect, it } from 'vitest'
import { formatTable } from '../../src/observe/table.js'

it('aligns columns and leaves no blanks at the end of a line', () => {
  const rows = [['world size', '2'], ['test accuracy', '97.31 %', 'of 10,000'], ['loss'], []]
  expect(formatTable(rows)).toEqual(['world size     2', 'test accuracy  97.31 %  of 10,000', 'loss', ''])
  expect(formatTable([])).toEqual([])
})
