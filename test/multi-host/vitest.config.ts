import { defineConfig } from 'vitest/config'

/** One file after the other, as they share the machine's two cores; not among `npm test`, as it needs root. */
export default defineConfig({
  test: { include: ['test/multi-host/*.suite.ts'], testTimeout: 120_000, hookTimeout: 60_000, pool: 'forks' },
})
