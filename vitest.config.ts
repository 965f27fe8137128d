import { fileURLToPath } from 'node:url'
import { defineConfig } from 'vitest/config'

export default defineConfig({
  // Tests run from source; only test/package.test.ts and what it installs come from dist.
  resolve: {
    alias: [{ find: /^lockstep$/, replacement: fileURLToPath(new URL('./src/index.ts', import.meta.url)) }],
  },
  test: {
    include: ['test/**/*.test.ts'],
    // Ranks are processes of their own: a test file more at once only makes two cores change context.
    maxWorkers: 2,
    testTimeout: 60_000,
    pool: 'forks',
  },
})
