/** What the report of a failure says of a rank's last operations. */
import { expect, test } from 'vitest'
import type { Call } from '../../../src/collectives/call.js'
import { OperationLog } from '../../../src/collectives/shared-memory/log.js'

const BARRIER: Call = { operation: 'barrier', dtype: 'uint8', count: 0 }

test('operations that end at once take no time, those that wait are timed from then on', () => {
  const log = new OperationLog(BARRIER)
  log.begin(BARRIER)
  log.end()
  log.begin({ operation: 'all_reduce', dtype: 'float32', count: 100, reduction: 'sum' })
  const now = performance.now() + 2000
  expect(log.report(now)[1]).toMatch(/^#2 .* not ended after 0\.0 ms$/)
  log.waits()
  expect(log.report(now)).toEqual([
    '#1 barrier() 0.0 ms',
    expect.stringMatching(/^#2 all_reduce\(float32 × 100, sum\) not ended after (2000\.0|1\d{3}\.\d) ms$/),
  ])
  log.end()
  expect(log.report()[1]).toMatch(/^#2 all_reduce\(float32 × 100, sum\) \d+\.\d ms$/)
})
