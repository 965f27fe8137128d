import { defineConfig } from 'vitest/config'

/** Not among `npm test`: it needs root and Slurm's daemons. */
export default defineConfig({
  test: {
    include: ['test/clusters/*.suite.ts'],
    globalSetup: ['./test/run-directory.ts', './test/compiled.ts'],
    testTimeout: 120_000,
    pool: 'forks',
  },
})
