import { fileURLToPath } from 'node:url'
import { defineConfig } from 'vitest/config'

export default defineConfig({
  // Tests run from source, the jobs that they launch from what test/compiled.ts makes of it; only package.*.ts use dist.
  resolve: {
    alias: [{ find: /^lockstep$/, replacement: fileURLToPath(new URL('./src/index.ts', import.meta.url)) }],
  },
  test: {
    include: ['test/**/*.test.ts'],
    // Whole jobs of many processes, for half a minute each: npm run test:slow.
    exclude: process.env.SLOW ? [] : ['test/**/*.slow.test.ts'],
    // Ranks are processes of their own: a test file more at once only makes two cores change context.
    maxWorkers: 2,
    testTimeout: 60_000,
    hookTimeout: 60_000,
    pool: 'forks',
    globalSetup: ['./test/tsx-cache.ts', './test/compiled.ts'],
    // Empty: on. The launcher switches it off for its users' ranks, which would leave it behind.
    env: { TSX_DISABLE_CACHE: '' },
  },
})
