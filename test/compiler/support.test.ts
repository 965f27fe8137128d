/** docs/support.md says what the table of ops says. */
import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { SUPPORT_PAGE, supportPage } from '../../scripts/support-table.js'

test('the support page is up to date (npm run docs:support writes it)', () => {
  expect(readFileSync(SUPPORT_PAGE, 'utf8')).toBe(supportPage())
})
